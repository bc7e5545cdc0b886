import { createHash } from 'node:crypto';

import { type ChainHead, type EntryBody, GENESIS } from './entry.ts';

/** What stands in every entry of one run of the process. */
export interface EntryFrame {
  readonly logId: string;
  readonly bootId: string;
  /** ISO 8601, UTC, microseconds. */
  readonly ts: string;
  readonly monoNs: bigint;
}

/** Encodes an entry as its line, with the line feed, and says where the chain stands behind it. Pure. */
export function encodeEntry(head: ChainHead, body: EntryBody, frame: EntryFrame): { readonly line: Buffer; readonly next: ChainHead } {
  const { type, ...fields } = body;
  const line = Buffer.from(
    `${JSON.stringify({ v: 1, type, seq: head.seq, prev: head.prev, log_id: frame.logId, boot_id: frame.bootId, ts: frame.ts, mono_ns: String(frame.monoNs), ...fields })}\n`,
  );
  return { line, next: { seq: head.seq + 1, prev: lineHash(line) } };
}

/** Lower-case hex SHA-256 of a line with its line feed. */
export function lineHash(line: Buffer): string {
  return createHash('sha256').update(line).digest('hex');
}

/** What is wrong with the lines of a log, or the head behind them. */
export type ChainCheck = { readonly ok: true; readonly head: ChainHead } | { readonly ok: false; readonly line: number; readonly problem: string };

/** Checks that lines follow one another without a hole, from `head` on. Pure. */
export function checkChain(bytes: Buffer, head: ChainHead = GENESIS): ChainCheck {
  let at = 0;
  let current = head;
  for (let number = 1; at < bytes.length; number++) {
    const end = bytes.indexOf(10, at);
    if (end === -1) return { ok: false, line: number, problem: 'the last line is torn' };
    const line = bytes.subarray(at, end + 1);
    const entry = parseLine(line);
    if (entry === null) return { ok: false, line: number, problem: 'not an entry' };
    if (entry.seq !== current.seq) return { ok: false, line: number, problem: `expected seq ${current.seq}` };
    if (entry.prev !== current.prev) return { ok: false, line: number, problem: 'the line before it was changed' };
    current = { seq: entry.seq + 1, prev: lineHash(line) };
    at = end + 1;
  }
  return { ok: true, head: current };
}

/** The chain fields of a line; null when it is not a whole entry. */
export function parseLine(line: Buffer): { readonly seq: number; readonly prev: string } | null {
  try {
    const entry: unknown = JSON.parse(line.toString('utf8'));
    if (typeof entry !== 'object' || entry === null) return null;
    const { seq, prev } = entry as { seq?: unknown; prev?: unknown };
    return typeof seq === 'number' && Number.isSafeInteger(seq) && typeof prev === 'string' ? { seq, prev } : null;
  } catch {
    return null;
  }
}
