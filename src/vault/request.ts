import { RequestError } from './error.ts';
import { parseNamespaceHeader } from './namespace.ts';
import { type ApiPath, parseApiPath, parsePagePath, serialiseApiPath } from './path.ts';
import { parseGoBool, parseQuery, type Query, serialiseQuery } from './query.ts';

/** What a request asks the server to do. `update` is create or update: the wire does not tell them apart. */
export type Operation = 'read' | 'list' | 'scan' | 'update' | 'patch' | 'delete' | 'help' | 'head' | 'options';

/** The caller's token and where it stood. Never logged. */
export interface CallerToken {
  readonly source: 'x-vault-token' | 'authorization';
  readonly value: string;
}

/** The fields that change what the server does, taken out of the header list: each stands once. */
export interface Controls {
  readonly wrapTtl: string | undefined;
  readonly wrapFormat: string | undefined;
  readonly contentType: string | undefined;
  /** `X-Step-Up-Token`, as sent. */
  readonly stepUpToken: string | undefined;
  /** Values of `X-Vault-MFA` with the prefix `stepgate:`, without it. */
  readonly stepUpMfa: readonly string[];
}

/**
 * A request as policy, digest, audit and the upstream all see it: the one meaning of the bytes that came (design.md §1.1).
 * What is forwarded is written anew from this value.
 */
export interface VaultRequest {
  readonly method: string;
  readonly operation: Operation;
  /** Segments of `X-Vault-Namespace`; empty for none or root. */
  readonly namespace: readonly string[];
  readonly path: ApiPath;
  /** Set for one of the server's static pages; `path` is empty then. */
  readonly page: string | null;
  readonly query: Query;
  readonly token: CallerToken | undefined;
  readonly controls: Controls;
  /** Fields that are passed on as they came, with the caller's names. */
  readonly passed: readonly (readonly [string, string])[];
}

/** What the wire knows of a request: `wire/` makes such values, tests write them by hand. */
export interface RawRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [string, string])[];
}

const METHODS = new Set(['GET', 'HEAD', 'LIST', 'SCAN', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HELP']);

/** Dropped on the way: hop-by-hop, or meant for another hop, or ours (semantics.md §2A; nothing of ours reaches the upstream). */
const DROPPED =
  /^(?:connection|keep-alive|proxy-.*|te|accept-encoding|trailer|transfer-encoding|upgrade|expect|content-length|host|forwarded|x-forwarded-.*|x-real-ip|x-original-url|x-rewrite-url|x-http-method.*|client-cert|client-chain|x-processed-tls-client-certificate|x-vault-no-request-forwarding|x-vault-internal-.*|x-vault-forward|x-vault-policy-override|x-stepgate.*|x-step-up.*|cookie|range|if-.*)$/;

/** Written anew by `serialiseRequest` from the model. */
const TAKEN_OUT = new Set([
  'x-vault-token',
  'authorization',
  'x-vault-namespace',
  'x-vault-wrap-ttl',
  'x-vault-wrap-format',
  'content-type',
  'content-encoding',
  'x-step-up-token',
]);

/** Fields of which two could be read as one by us and as the other by the server. */
const ONCE = new Set([...TAKEN_OUT, 'x-vault-index', 'x-vault-request']);

/**
 * Reads a request that the wire accepted (semantics.md §2B-F).
 * @throws {RequestError} for what is ambiguous, or not served
 */
export function parseRequest(raw: RawRequest): VaultRequest {
  if (!METHODS.has(raw.method)) throw new RequestError(405, 'method_not_allowed', 'unknown method', true);
  if (!raw.target.startsWith('/')) throw new RequestError(400, 'bad_path', 'the request target must start with /: absolute URLs are not supported');
  if (raw.target.startsWith('//')) throw new RequestError(400, 'bad_path', 'empty path segments are not supported: write one slash only');
  if (/[#\\]/.test(raw.target)) throw new RequestError(400, 'bad_path', 'the request target holds # or a backslash');
  const headers = readHeaders(raw.headers);
  const mark = raw.target.indexOf('?');
  const rawPath = mark === -1 ? raw.target : raw.target.slice(0, mark);
  const query = parseQuery(mark === -1 ? '' : raw.target.slice(mark + 1));
  const page = parsePagePath(rawPath);
  if (page !== null && raw.method !== 'GET' && raw.method !== 'HEAD') throw new RequestError(405, 'method_not_allowed', 'pages are read-only', true);
  const path = page === null ? parseApiPath(rawPath) : { segments: [], trailing: false };
  return { method: raw.method, operation: operationOf(raw.method, query), path, page, query, ...headers };
}

function readHeaders(headers: RawRequest['headers']): Pick<VaultRequest, 'namespace' | 'token' | 'controls' | 'passed'> {
  const single = new Map<string, string>();
  const stepUpMfa: string[] = [];
  const passed: (readonly [string, string])[] = [];
  for (const field of headers) {
    const [name, value] = field;
    const lower = name.toLowerCase();
    if (lower.includes('_') && /vault|bao|step.?up|stepgate/.test(lower))
      throw new RequestError(400, 'ambiguous_header', 'a header name holds an underscore: write - instead');
    if (lower.startsWith('x-vault-inline-auth'))
      throw new RequestError(400, 'inline_auth_refused', 'inline authentication headers are not supported: log in first');
    if (lower.startsWith('x-vault-recover')) throw new RequestError(400, 'recover_refused', 'recovery headers are not supported');
    if (ONCE.has(lower)) {
      if (single.has(lower)) throw new RequestError(400, 'ambiguous_header', `more than one ${lower} header`);
      single.set(lower, value);
    }
    if (lower === 'x-vault-mfa' && value.startsWith('stepgate:')) stepUpMfa.push(value.slice('stepgate:'.length));
    else if (!TAKEN_OUT.has(lower) && !DROPPED.test(lower)) passed.push(field);
  }
  const authorization = single.get('authorization');
  const contentEncoding = single.get('content-encoding');
  if (contentEncoding !== undefined && contentEncoding.toLowerCase() !== 'identity') passed.push(['Content-Encoding', contentEncoding]);
  return {
    namespace: parseNamespaceHeader(single.get('x-vault-namespace') ?? ''),
    token: readToken(single.get('x-vault-token'), authorization),
    controls: {
      wrapTtl: single.get('x-vault-wrap-ttl'),
      wrapFormat: single.get('x-vault-wrap-format'),
      contentType: single.get('content-type'),
      stepUpToken: single.get('x-step-up-token'),
      stepUpMfa,
    },
    passed,
  };
}

/** The server's rule (semantics.md §1.10): `X-Vault-Token`, else a Bearer. A Basic or other scheme is no token, and is dropped. */
function readToken(header: string | undefined, authorization: string | undefined): CallerToken | undefined {
  const value = header?.trim() ?? '';
  const bearer = authorization?.startsWith('Bearer ') === true ? authorization.slice('Bearer '.length).trim() : '';
  if (value !== '' && bearer !== '') throw new RequestError(400, 'ambiguous_token', 'a token in both X-Vault-Token and Authorization');
  if (value !== '') return { source: 'x-vault-token', value };
  return bearer === '' ? undefined : { source: 'authorization', value: bearer };
}

function operationOf(method: string, query: Query): Operation {
  const param = (name: string) => query.find(([key]) => key === name)?.[1] ?? '';
  if (param('help') !== '' && method !== 'GET' && method !== 'HELP') throw new RequestError(400, 'ambiguous_query', 'help is asked for with GET');
  if (method === 'HELP' || param('help') !== '') return 'help';
  switch (method) {
    case 'GET':
      return readOrList(param('list'), param('scan'));
    case 'LIST':
      return 'list';
    case 'SCAN':
      return 'scan';
    case 'POST':
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return 'delete';
    case 'HEAD':
      return 'head';
    default:
      return 'options';
  }
}

function readOrList(list: string, scan: string): Operation {
  const wantsList = list === '' ? false : parseGoBool(list);
  const wantsScan = scan === '' ? false : parseGoBool(scan);
  if (wantsList === null || wantsScan === null) throw new RequestError(400, 'ambiguous_query', 'list and scan take true or false');
  if (wantsList && wantsScan) throw new RequestError(400, 'ambiguous_query', 'list and scan exclude each other');
  return wantsList ? 'list' : wantsScan ? 'scan' : 'read';
}

/** The bytes that go upstream, but for the body and its framing: the one spelling of this request. */
export function serialiseRequest(request: VaultRequest): RawRequest {
  const headers: (readonly [string, string])[] = [];
  if (request.namespace.length > 0) headers.push(['X-Vault-Namespace', Buffer.from(request.namespace.join('/')).toString('latin1')]);
  if (request.token !== undefined) {
    headers.push(request.token.source === 'authorization' ? ['Authorization', `Bearer ${request.token.value}`] : ['X-Vault-Token', request.token.value]);
  }
  const { wrapTtl, wrapFormat, contentType } = request.controls;
  if (wrapTtl !== undefined) headers.push(['X-Vault-Wrap-TTL', wrapTtl]);
  if (wrapFormat !== undefined) headers.push(['X-Vault-Wrap-Format', wrapFormat]);
  if (contentType !== undefined) headers.push(['Content-Type', contentType]);
  headers.push(...request.passed);
  return { method: request.method, target: (request.page ?? serialiseApiPath(request.path)) + serialiseQuery(request.query), headers };
}
