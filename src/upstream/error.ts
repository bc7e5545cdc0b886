import { CodedError } from '../errors.ts';

/** How a request to the upstream failed. */
export type UpstreamErrorCode =
  | 'upstream_unreachable'
  | 'upstream_timeout'
  | 'upstream_broke_off'
  | 'upstream_protocol'
  | 'upstream_redirect'
  | 'upstream_standby'
  | 'upstream_too_large'
  | 'client_gone';

/** A failed request. `sent`: the server may have seen it, so an effect is possible. */
export class UpstreamError extends CodedError<UpstreamErrorCode, { sent: boolean }> {
  readonly sent: boolean;

  constructor(code: UpstreamErrorCode, sent: boolean, cause?: unknown) {
    super(code, TEXTS[code], { detail: { sent }, cause });
    this.sent = sent;
  }
}

const TEXTS: Readonly<Record<UpstreamErrorCode, string>> = {
  upstream_unreachable: 'the Vault server cannot be reached',
  upstream_timeout: 'the Vault server did not answer in time',
  upstream_broke_off: 'the Vault server broke the connection off',
  upstream_protocol: 'the Vault server sent something that is not a valid answer',
  upstream_redirect: 'the Vault server redirected to another host, which is never followed',
  upstream_standby: 'the Vault server is a standby and no active one is known',
  upstream_too_large: 'the Vault server sent a larger answer than is allowed here',
  client_gone: 'the client closed the connection',
};

/** Maps what undici throws. */
export function upstreamError(error: unknown, sent: boolean): UpstreamError {
  if (error instanceof UpstreamError) return error;
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT')
    return new UpstreamError('upstream_timeout', sent, error);
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH' || code.startsWith('HPE_') || code === 'UND_ERR_HEADERS_OVERFLOW')
    return new UpstreamError('upstream_protocol', sent, error);
  return new UpstreamError(sent ? 'upstream_broke_off' : 'upstream_unreachable', sent, error);
}
