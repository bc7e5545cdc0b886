import { randomBytes } from 'node:crypto';

/** The machine as the parts see it: the only clock and the only randomness. Tests pass their own. */
export interface Host {
  /** Wall clock, milliseconds since 1970. */
  readonly now: () => number;
  /** Monotonic clock, nanoseconds from an arbitrary start. */
  readonly monotonicNs: () => bigint;
  /** Cryptographically strong random bytes. */
  readonly random: (bytes: number) => Buffer;
}

/** The real machine. */
export const systemHost: Host = {
  now: () => Date.now(),
  monotonicNs: () => process.hrtime.bigint(),
  random: (bytes) => randomBytes(bytes),
};
