import { closeSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, openSync, readdirSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { lineHash, parseLine } from './chain.ts';
import { type ChainHead, GENESIS } from './entry.ts';
import { AuditError } from './error.ts';

/** Where a log goes on after a start. */
export interface Recovered {
  readonly file: string;
  /** Number of the file, from 1. */
  readonly number: number;
  /** Bytes of whole lines in it. */
  readonly offset: number;
  readonly head: ChainHead;
  /** Bytes of a torn line that were set aside. */
  readonly tornBytes: number;
}

/** Longest line that is looked for at the end of a file, bytes. */
const MAX_TAIL = 4 * 1024 * 1024;

/** Name of the file with a number. */
export function logFile(dir: string, number: number): string {
  return join(dir, `audit-${String(number).padStart(6, '0')}.jsonl`);
}

/**
 * Finds the end of the log in a directory. A torn last line (a crash, a full disk) is moved to `*.torn-<time>`, so that no
 * line is ever glued to half of another.
 * @throws {AuditError} when the log cannot be read, or does not end in an entry
 */
export function recover(dir: string, nowMs: number): Recovered {
  const numbers = readdirSync(dir)
    .flatMap((name) => /^audit-(\d{6})\.jsonl$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => b - a);
  let newest: Recovered | undefined;
  for (const number of numbers) {
    const found = recoverFile(logFile(dir, number), number, nowMs);
    newest ??= found;
    // A file that holds no whole line yet continues the one before it.
    if (found.head !== GENESIS) return { ...newest, head: found.head };
  }
  return newest ?? { file: logFile(dir, 1), number: 1, offset: 0, head: GENESIS, tornBytes: 0 };
}

function recoverFile(file: string, number: number, nowMs: number): Recovered {
  const fd = openSync(file, 'r+');
  try {
    const { size } = fstatSync(fd);
    const start = Math.max(0, size - MAX_TAIL);
    const tail = Buffer.alloc(size - start);
    readSync(fd, tail, 0, tail.length, start);
    let end = tail.length;
    while (end > 0) {
      const newline = tail.lastIndexOf(10, end - 1);
      const before = newline <= 0 ? -1 : tail.lastIndexOf(10, newline - 1);
      const line = newline === end - 1 ? tail.subarray(before + 1, end) : null;
      const entry = line === null ? null : parseLine(line);
      if (line !== null && entry !== null) {
        const tornBytes = tail.length - end;
        if (tornBytes > 0) setAside(fd, file, tail.subarray(end), start + end, nowMs);
        return { file, number, offset: start + end, head: { seq: entry.seq + 1, prev: lineHash(line) }, tornBytes };
      }
      end = line === null ? newline + 1 : before + 1;
    }
    if (start > 0) throw new AuditError('audit_dir', `${file} does not end in audit entries: move it away`);
    if (tail.length > 0) setAside(fd, file, tail, 0, nowMs);
    return { file, number, offset: 0, head: GENESIS, tornBytes: tail.length };
  } finally {
    closeSync(fd);
  }
}

function setAside(fd: number, file: string, torn: Buffer, offset: number, nowMs: number): void {
  const name = `${file}.torn-${new Date(nowMs).toISOString().replaceAll(/[:.]/g, '-')}`;
  try {
    writeFileSync(name, torn, { mode: 0o640 });
  } catch {
    // On a full disk the half line is lost; the log must go on without it.
  }
  ftruncateSync(fd, offset);
  fdatasyncSync(fd);
}

/** Makes the names in a directory durable. */
export function syncDirectory(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
