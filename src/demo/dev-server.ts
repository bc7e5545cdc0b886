import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { CodedError } from '../errors.ts';

/** A program of the demo that did not start. */
export class StartError extends CodedError<'start_failed'> {}

/** A server that was started for a demo or a test. */
export interface DevServer {
  /** `http://127.0.0.1:port` or `redis://127.0.0.1:port`. */
  readonly url: string;
  readonly process: ChildProcess;
  readonly stop: () => Promise<void>;
}

/** A port that is free just now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** Starts `bao` or `vault` in dev mode: in memory, unsealed, with this root token. @throws {StartError} */
export async function startVault(program: string, rootToken: string): Promise<DevServer> {
  const port = await freePort();
  const home = mkdtempSync(join(tmpdir(), 'stepgate-vault-'));
  const args = ['server', '-dev', '-dev-no-store-token', `-dev-root-token-id=${rootToken}`, `-dev-listen-address=127.0.0.1:${port}`];
  const server = start(program, args, home);
  return { url: `http://127.0.0.1:${port}`, process: server, stop: await whenReady(server, home, /Development mode should NOT be used|Root Token/, program) };
}

/** Starts a Redis that keeps nothing on disk. @throws {StartError} */
export async function startRedis(program: string, args: readonly string[] = []): Promise<DevServer & { readonly port: number }> {
  const port = await freePort();
  const home = mkdtempSync(join(tmpdir(), 'stepgate-redis-'));
  const server = start(program, ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', home, ...args], home);
  return { url: `redis://127.0.0.1:${port}`, port, process: server, stop: await whenReady(server, home, /Ready to accept connections/i, program) };
}

function start(program: string, args: readonly string[], home: string): ChildProcess {
  // A clean environment: a VAULT_ADDR or a proxy of the user must not lead the demo elsewhere.
  const child = spawn(program, args, { cwd: home, env: { PATH: process.env['PATH'], HOME: home, LANG: 'C' }, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

const running = new Set<ChildProcess>();
// Whatever ends this process must not leave servers behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const START_MS = 30_000;

function whenReady(child: ChildProcess, home: string, ready: RegExp, program: string): Promise<() => Promise<void>> {
  return new Promise((resolve, reject) => {
    let text = '';
    const fail = (why: string): void => {
      child.kill('SIGKILL');
      rmSync(home, { recursive: true, force: true });
      reject(new StartError('start_failed', `${program} did not start: ${why}\n${text.trim().split('\n').slice(-5).join('\n')}`));
    };
    const timer = setTimeout(() => fail('it took too long'), START_MS);
    const onExit = (): void => {
      clearTimeout(timer);
      fail('it ended');
    };
    child.once('error', () => {
      clearTimeout(timer);
      fail('it cannot be run');
    });
    child.once('exit', onExit);
    const onData = (data: Buffer): void => {
      text = (text + data.toString()).slice(-20_000);
      if (!ready.test(text)) return;
      clearTimeout(timer);
      child.off('exit', onExit);
      for (const stream of [child.stdout, child.stderr]) {
        stream?.off('data', onData);
        stream?.resume();
      }
      resolve(() => stop(child, home));
    };
    child.stdout?.on('data', onData);
    child.stderr?.on('data', onData);
  });
}

async function stop(child: ChildProcess, home: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await ended;
  }
  rmSync(home, { recursive: true, force: true });
}
