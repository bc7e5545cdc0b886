import { type ChildProcess, spawn } from 'node:child_process';

/** How a command ended. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const CLI = new URL('../../src/cli/stepgate.ts', import.meta.url).pathname;

/** Starts `stepgate` as its own process. */
export function start(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): { readonly process: ChildProcess; readonly ended: Promise<Ended> } {
  return startProgram(process.execPath, [CLI, ...args], { PATH: process.env['PATH'] ?? '', ...environment });
}

/** Runs `stepgate` to its end. */
export function run(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return start(args, environment).ended;
}

/** Runs any program to its end. */
export function runProgram(program: string, args: readonly string[], environment: Readonly<Record<string, string>>): Promise<Ended> {
  return startProgram(program, args, environment).ended;
}

const started = new Set<ChildProcess>();
// A test that fails in the middle must not leave its processes behind.
process.on('exit', () => {
  for (const child of started) child.kill('SIGKILL');
});

/** Starts any program. */
export function startProgram(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): { readonly process: ChildProcess; readonly ended: Promise<Ended> } {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  started.add(child);
  child.on('close', () => started.delete(child));
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => {
    stdout += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString();
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { process: child, ended };
}
