/**
 * The one base of every error that Stepgate throws on purpose: a stable `code` for programs and logs, a message for
 * people, and a `detail` that is safe to log. A message or a detail never holds a token, a nonce or a secret.
 */
export class CodedError<Code extends string = string, Detail = unknown> extends Error {
  readonly code: Code;
  readonly detail: Detail | undefined;

  constructor(code: Code, message: string, options: { detail?: Detail; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.detail = options.detail;
  }
}

/** The stable code of an error: ours, or Node's (`ECONNREFUSED`), or `unknown`. Never its text. */
export function codeOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return 'unknown';
}
