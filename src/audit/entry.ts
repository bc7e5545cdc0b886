/** A value of an audit entry: plain JSON. */
export type EntryValue = string | number | boolean | null | readonly EntryValue[] | { readonly [key: string]: EntryValue | undefined };

/**
 * Kinds of entries. Of one request: `decision` before anything is done, `release` when a nonce was spent or not, `outcome`
 * when the answer ended (its absence means a crash). Of the log: `start`, `stop`, `gap`, `policy`.
 */
export type EntryType = 'decision' | 'release' | 'outcome' | 'start' | 'stop' | 'gap' | 'policy';

/** What a caller gives; the log adds `v`, `log_id`, `boot_id`, `seq`, `prev`, `ts` and `mono_ns`. */
export interface EntryBody {
  readonly type: EntryType;
  readonly [field: string]: EntryValue | undefined;
}

/** Where the chain stands: the number of the next entry and the hash of the line before it. */
export interface ChainHead {
  readonly seq: number;
  /** Lower-case hex SHA-256 of the whole previous line with its line feed; 64 zeros before the first. */
  readonly prev: string;
}

/** Where the chain of a new log stands. */
export const GENESIS: ChainHead = { seq: 0, prev: '0'.repeat(64) };
