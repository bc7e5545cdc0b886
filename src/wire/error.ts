import { CodedError } from '../errors.ts';

/** Why bytes were refused before they became a request. */
export type WireErrorCode =
  | 'bad_request_line'
  | 'bad_header'
  | 'bad_host'
  | 'bad_framing'
  | 'bad_chunk'
  | 'body_not_allowed'
  | 'body_timeout'
  | 'body_too_large'
  | 'expectation_failed'
  | 'head_timeout'
  | 'head_too_large'
  | 'http_version'
  | 'target_too_long'
  | 'transfer_encoding'
  | 'truncated'
  | 'upgrade_refused';

/** A refusal by the wire: `status` is what the client is answered (the real server's where it has one). */
export class WireError extends CodedError<WireErrorCode> {
  readonly status: number;

  constructor(status: number, code: WireErrorCode, message: string) {
    super(code, message);
    this.status = status;
  }
}
