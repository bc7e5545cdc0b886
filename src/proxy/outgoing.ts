import { type RawRequest, serialiseRequest, type VaultRequest } from '../vault/request.ts';

/** What goes upstream: the request as it was classified, and its id. */
export function outgoing(request: VaultRequest, id: string): RawRequest {
  const raw = serialiseRequest(request);
  return { ...raw, headers: [...raw.headers, ['X-Stepgate-Request-Id', id]] };
}
