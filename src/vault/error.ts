import { CodedError } from '../errors.ts';

/** Why a request that is well-formed HTTP is not one that we pass on. */
export type RequestErrorCode =
  | 'ambiguous_header'
  | 'ambiguous_query'
  | 'ambiguous_token'
  | 'bad_namespace'
  | 'bad_path'
  | 'inline_auth_refused'
  | 'method_not_allowed'
  | 'not_found'
  | 'recover_refused'
  | 'relative_path';

/** A refused request, with the real server's status and text where it has one. `silent`: answered with an empty `errors`. */
export class RequestError extends CodedError<RequestErrorCode> {
  readonly status: number;
  readonly silent: boolean;

  constructor(status: number, code: RequestErrorCode, message: string, silent = false) {
    super(code, message);
    this.status = status;
    this.silent = silent;
  }
}
