/** A header field: name and value. */
export type AnswerHeader = readonly [name: string, value: string];

/** A small answer of our own, whole. */
export interface Answer {
  readonly status: number;
  /** The reason phrase: some clients show nothing else (clients.md §1.1). Empty: none. */
  readonly reason: string;
  readonly headers: readonly AnswerHeader[];
  readonly body: Buffer;
}

// The fields that the real server sets on every answer of its API (semantics.md §6), so that ours look alike.
const COMMON: readonly AnswerHeader[] = [
  ['Cache-Control', 'no-store'],
  ['Content-Type', 'application/json'],
  ['Strict-Transport-Security', 'max-age=31536000; includeSubDomains'],
];

/**
 * An error as Vault and OpenBao shape theirs: `{"errors":[…]}` and a line feed. `extra` stands beside `errors`; clients
 * ignore what they do not know (clients.md §3).
 */
export function errorAnswer(
  status: number,
  errors: readonly string[],
  options: { reason?: string; headers?: readonly AnswerHeader[]; extra?: Readonly<Record<string, unknown>>; now: number },
): Answer {
  return {
    status,
    reason: options.reason ?? '',
    headers: [...COMMON, ['Date', new Date(options.now).toUTCString()], ...(options.headers ?? [])],
    body: Buffer.from(`${JSON.stringify({ errors, ...options.extra })}\n`),
  };
}
