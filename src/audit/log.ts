import { mkdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

import { codeOf } from '../errors.ts';
import { type EntryFrame, encodeEntry } from './chain.ts';
import type { ChainHead, EntryBody } from './entry.ts';
import { AuditError } from './error.ts';
import { type DirectoryLock, lockDirectory } from './lock.ts';
import { logFile, recover, syncDirectory } from './recover.ts';

/** Where a log lies, what stamps its entries, and who hears whether it is written. */
export interface AuditOptions {
  readonly dir: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly monotonicNs: () => bigint;
  readonly random: (bytes: number) => Buffer;
  /** Fields of the `start` entry: version, policy, … */
  readonly start: Omit<EntryBody, 'type'>;
  /** Called when the log stops or starts again being writable. `reason` is a stable code. */
  readonly onStatus: (writable: boolean, reason: string) => void;
  /** A new file is begun beyond this size, bytes. */
  readonly fileBytes?: number;
}

interface Pending {
  readonly body: EntryBody;
  readonly monoNs: bigint;
  readonly nowMs: number;
  readonly resolve: () => void;
  readonly reject: (error: AuditError) => void;
}

const MAX_PENDING = 10_000;
const MAX_BATCH = 1024;
const DEFAULT_FILE_BYTES = 256 * 1024 * 1024;
/** Kept free by a file of this size, so that a full disk can still be written down. */
const RESERVE_BYTES = 64 * 1024;
const PROBE_MS = 1000;

/**
 * The audit log: hash-chained lines, made durable in groups. What `append` promised is on disk (fdatasync); a line is
 * written whole or not at all, and what could not be written is counted in a `gap` entry (design.md §8).
 */
export class AuditLog {
  readonly #options: AuditOptions;
  readonly #lock: DirectoryLock;
  readonly #logId: string;
  readonly #bootId: string;
  #handle: FileHandle;
  #number: number;
  #offset: number;
  #head: ChainHead;
  #pending: Pending[] = [];
  #writing = false;
  #failed: string | undefined;
  #missed = 0;
  #probe: NodeJS.Timeout | undefined;
  #closed = false;
  #idle: (() => void) | undefined;

  private constructor(options: AuditOptions, lock: DirectoryLock, at: { handle: FileHandle; number: number; offset: number; head: ChainHead }) {
    this.#options = options;
    this.#lock = lock;
    this.#logId = readLogId(options);
    this.#bootId = options.random(9).toString('base64url');
    this.#handle = at.handle;
    this.#number = at.number;
    this.#offset = at.offset;
    this.#head = at.head;
  }

  /** Opens the log in a directory, which it makes where there is none. @throws {AuditError} */
  static async open(options: AuditOptions): Promise<AuditLog> {
    const { dir } = options;
    let lock: DirectoryLock | undefined;
    try {
      mkdirSync(dir, { recursive: true, mode: 0o750 });
      lock = await lockDirectory(dir);
      const { file, number, offset, head, tornBytes } = recover(dir, options.now());
      const handle = await openLogFile(file);
      const log = new AuditLog(options, lock, { handle, number, offset, head });
      syncDirectory(dir);
      if (!log.#reserve()) throw new AuditError('audit_dir', `the disk of the audit directory ${dir} is full`);
      await log.append({ type: 'start', ...options.start, recovered: tornBytes > 0, torn_bytes: tornBytes });
      return log;
    } catch (error) {
      await lock?.release();
      if (error instanceof AuditError) throw error;
      throw new AuditError('audit_dir', `the audit directory ${dir} cannot be used (${codeOf(error)})`, error);
    }
  }

  /** Whether entries reach the disk, and since the last failure why not. */
  status(): { readonly writable: boolean; readonly reason: string } {
    return { writable: this.#failed === undefined, reason: this.#failed ?? 'ok' };
  }

  /**
   * Resolves when the entry is on disk. What strangers can cause without end (`unimportant`) is left out, and counted, when
   * half of the queue is full, so that it cannot crowd out what matters.
   * @throws {AuditError} when it is not on disk: then nothing of it is
   */
  append(body: EntryBody, unimportant = false): Promise<void> {
    if (this.#closed) return Promise.reject(new AuditError('audit_closed', 'the audit log is closed'));
    if (this.#failed !== undefined) return Promise.reject(this.#miss(1, new AuditError('audit_failed', 'the audit log cannot be written')));
    if (this.#pending.length >= (unimportant ? MAX_PENDING / 2 : MAX_PENDING))
      return Promise.reject(this.#miss(1, new AuditError('audit_overloaded', 'too many audit entries wait to be written')));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#pending.push({ body, monoNs: this.#options.monotonicNs(), nowMs: this.#options.now(), resolve, reject });
    if (!this.#writing) void this.#drain();
    return promise;
  }

  /** Writes what waits and a `stop` entry, and gives the directory back. */
  async close(): Promise<void> {
    if (this.#closed) return;
    clearInterval(this.#probe);
    await this.append({ type: 'stop' }).catch(() => {});
    this.#closed = true;
    if (this.#writing) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#handle.close();
    await this.#lock.release();
  }

  async #drain(): Promise<void> {
    this.#writing = true;
    // One turn later: all that one tick appends shares one fdatasync.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      const batch = this.#pending.splice(0, MAX_BATCH);
      try {
        if (this.#missed > 0) await this.#writeGap();
        await this.#write(batch.map(({ body, monoNs, nowMs }) => ({ body, frame: this.#frame(nowMs, monoNs) })));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        await this.#fail(codeOf(error), [...batch, ...this.#pending.splice(0)]);
      }
    }
    this.#writing = false;
    this.#idle?.();
  }

  async #write(entries: readonly { readonly body: EntryBody; readonly frame: EntryFrame }[]): Promise<void> {
    if (this.#offset > (this.#options.fileBytes ?? DEFAULT_FILE_BYTES)) await this.#rotate();
    let head = this.#head;
    const lines: Buffer[] = [];
    for (const { body, frame } of entries) {
      const { line, next } = encodeEntry(head, body, frame);
      lines.push(line);
      head = next;
    }
    const bytes = Buffer.concat(lines);
    const { bytesWritten } = await this.#handle.write(bytes, 0, bytes.length, this.#offset);
    if (bytesWritten !== bytes.length) throw new AuditError('audit_failed', 'a write was cut short');
    await this.#handle.datasync();
    this.#offset += bytes.length;
    this.#head = head;
  }

  /** After a failed write nothing of it may stay: the next line must not be glued to half of one. */
  async #fail(code: string, unwritten: readonly Pending[]): Promise<void> {
    const first = this.#failed === undefined;
    this.#failed = code;
    await this.#handle.truncate(this.#offset).catch(() => {});
    for (const { reject } of unwritten) reject(this.#miss(1, new AuditError('audit_failed', 'the audit log cannot be written')));
    if (!first) return;
    this.#options.onStatus(false, code);
    await this.#useReserve(code);
    this.#probe = setInterval(() => void this.#tryAgain(), PROBE_MS);
    this.#probe.unref();
  }

  /** Spends the kept space to write down that, and since when, nothing can be written. */
  async #useReserve(code: string): Promise<void> {
    try {
      unlinkSync(this.#reserveFile);
      await this.#write([{ body: { type: 'gap', state: 'begins', reason: code }, frame: this.#frame() }]);
    } catch {
      await this.#handle.truncate(this.#offset).catch(() => {});
    }
  }

  async #tryAgain(): Promise<void> {
    if (this.#writing || this.#closed || !this.#reserve()) return;
    this.#writing = true;
    try {
      await this.#handle.truncate(this.#offset);
      await this.#writeGap();
      clearInterval(this.#probe);
      this.#failed = undefined;
      this.#options.onStatus(true, 'ok');
    } catch {
      await this.#handle.truncate(this.#offset).catch(() => {});
    }
    this.#writing = false;
    if (this.#pending.length > 0) void this.#drain();
    else this.#idle?.();
  }

  async #writeGap(): Promise<void> {
    const count = this.#missed;
    await this.#write([{ body: { type: 'gap', state: 'ends', count, reason: this.#failed ?? 'audit_overloaded' }, frame: this.#frame() }]);
    this.#missed -= count;
  }

  async #rotate(): Promise<void> {
    const next = await openLogFile(logFile(this.#options.dir, this.#number + 1));
    syncDirectory(this.#options.dir);
    await this.#handle.close();
    this.#handle = next;
    this.#number++;
    this.#offset = 0;
  }

  #frame(nowMs = this.#options.now(), monoNs = this.#options.monotonicNs()): EntryFrame {
    const micros = String((monoNs / 1000n) % 1000n).padStart(3, '0');
    return { logId: this.#logId, bootId: this.#bootId, ts: new Date(nowMs).toISOString().replace('Z', `${micros}Z`), monoNs };
  }

  #miss(count: number, error: AuditError): AuditError {
    this.#missed += count;
    return error;
  }

  get #reserveFile(): string {
    return join(this.#options.dir, 'reserve');
  }

  #reserve(): boolean {
    try {
      writeFileSync(this.#reserveFile, Buffer.alloc(RESERVE_BYTES, 0x20), { flush: true, mode: 0o640 });
      return true;
    } catch {
      rmSync(this.#reserveFile, { force: true });
      return false;
    }
  }
}

async function openLogFile(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r+');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    return await open(file, 'wx+', 0o640);
  }
}

/** The log's name, which outlives the process. */
function readLogId(options: AuditOptions): string {
  const file = join(options.dir, 'log_id');
  try {
    const id = readFileSync(file, 'utf8').trim();
    if (/^[A-Za-z0-9_-]{12,64}$/.test(id)) return id;
  } catch {
    // the first start
  }
  const id = options.random(12).toString('base64url');
  writeFileSync(file, `${id}\n`, { mode: 0o640, flush: true });
  return id;
}
