/** Bounds of the vault listener. Sizes in bytes, times in milliseconds. Why each: design.md §3, semantics.md §0.8, perf.md §0. */
export interface WireLimits {
  /** Longest request target; the server's path matching is quadratic in it (semantics.md §0.8). */
  readonly targetBytes: number;
  /** Longest head: request line, fields and the blank line. */
  readonly headBytes: number;
  readonly headFields: number;
  /** From the first byte of a head to its last. */
  readonly headMs: number;
  readonly bodyBytes: number;
  /** Longest pause between two pieces of a body. */
  readonly bodyIdleMs: number;
  readonly connections: number;
  readonly connectionsPerAddress: number;
  /** Longest wait for the next request on a kept connection. */
  readonly keepAliveMs: number;
  /** Requests taken in a row from bytes that had arrived already. */
  readonly pipelined: number;
  /** Longest time in which a client takes none of the bytes that wait for it. */
  readonly writeStallMs: number;
  /** How long an upload goes on being read and dropped after its early refusal. */
  readonly lingerMs: number;
  /** TLS handshake. */
  readonly handshakeMs: number;
  /** How long a client that closed its sending side is taken to still wait for its answer. */
  readonly halfOpenMs: number;
}

/** The defaults of design.md §3. */
export const defaultWireLimits: WireLimits = {
  targetBytes: 4096,
  headBytes: 32 * 1024,
  headFields: 128,
  headMs: 10_000,
  bodyBytes: 32 * 1024 * 1024,
  bodyIdleMs: 30_000,
  connections: 4096,
  connectionsPerAddress: 4096,
  keepAliveMs: 75_000,
  pipelined: 16,
  writeStallMs: 30_000,
  lingerMs: 5_000,
  handshakeMs: 10_000,
  halfOpenMs: 800,
};
