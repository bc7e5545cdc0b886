import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';

import { AuditError } from './error.ts';

const MAX_SOCKET_PATH = 100;

/** A directory held by this process alone, until it ends in whatever way. */
export interface DirectoryLock {
  readonly release: () => Promise<void>;
}

/**
 * Locks a directory by listening on a socket in it: the system ends that when the process ends, also when it is killed,
 * and another container that mounts the same volume sees it too.
 * @throws {AuditError} `audit_locked`
 */
export async function lockDirectory(dir: string): Promise<DirectoryLock> {
  const path = join(dir, 'lock');
  if (path.length > MAX_SOCKET_PATH)
    throw new AuditError('audit_dir', `the path of the audit directory is too long: at most ${MAX_SOCKET_PATH - 5} characters`);
  const server = await tryListen(path);
  if (server !== null) return held(server);
  if (await answers(path)) throw locked(dir);
  // Its owner died. Only one may clear it away, else the second would remove the lock that the first has just taken.
  const taking = join(dir, 'lock.taking');
  try {
    mkdirSync(taking);
  } catch {
    throw new AuditError('audit_locked', `another process is just taking the audit directory; if none is, remove ${taking}`);
  }
  try {
    if (await answers(path)) throw locked(dir);
    try {
      unlinkSync(path);
    } catch {
      // Gone already: listening will tell.
    }
    const taken = await tryListen(path);
    if (taken === null) throw locked(dir);
    return held(taken);
  } finally {
    rmdirSync(taking);
  }
}

function locked(dir: string): AuditError {
  return new AuditError('audit_locked', `the audit directory ${dir} is in use by another process: give each instance its own`);
}

function held(server: Server): DirectoryLock {
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

function tryListen(path: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null);
      else reject(new AuditError('audit_dir', `the audit directory cannot be locked (${error.code ?? 'unknown'})`, error));
    });
    server.listen(path, () => resolve(server));
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
