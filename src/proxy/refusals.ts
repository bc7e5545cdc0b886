import type { UpstreamError } from '../upstream/error.ts';
import { type Answer, errorAnswer } from '../vault/answer.ts';
import type { RequestError } from '../vault/error.ts';
import type { WireError } from '../wire/error.ts';

/** Answers 400, 404, 405 … to a request that is ambiguous or not served; an empty `errors` where the server has one. */
export function requestErrorAnswer(error: RequestError, now: number): Answer {
  return errorAnswer(error.status, error.silent ? [] : [error.message], { now });
}

/** The answer to bytes that never became a request. */
export function wireErrorAnswer(error: WireError, now: number): Answer {
  return errorAnswer(error.status, [error.message], { now });
}

const STATUS: Readonly<Record<string, number>> = { upstream_timeout: 504, upstream_standby: 503, upstream_unreachable: 502 };

/** Answers 502, 503 or 504 to what went wrong behind us. */
export function upstreamErrorAnswer(error: UpstreamError, now: number): Answer {
  return errorAnswer(STATUS[error.code] ?? 502, [`${error.message} (${error.code})`], { now });
}

/** The log cannot be written and this request must not go on without. */
export function auditErrorAnswer(now: number): Answer {
  return errorAnswer(503, ['the audit log cannot be written, and this request must not be served without (audit_failed)'], {
    now,
    reason: 'the audit log cannot be written',
  });
}

/** A body that must be read before a decision is larger than that allows. */
export function bodyTooLargeAnswer(limit: number, now: number): Answer {
  return errorAnswer(413, [`the body of a request that needs a step-up may have at most ${limit} bytes`], { now });
}
