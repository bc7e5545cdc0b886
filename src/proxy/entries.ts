import type { EntryBody, EntryValue } from '../audit/entry.ts';
import type { FingerprintInput } from '../challenge/fingerprint.ts';
import type { StepUp } from '../identity/step-up-token.ts';
import type { Classification } from '../policy/classify.ts';
import type { VaultRequest } from '../vault/request.ts';
import type { Peer } from '../wire/exchange.ts';

/** Who sent a request, as the log shows it. */
export interface ClientFacts {
  readonly peer: Peer;
  /** The client's own address, behind trusted proxies. */
  readonly address: string;
}

/** Tokens and JWTs, should one stand in a path: they are never written. */
const TOKEN_SHAPED =
  /^(?:(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{8,}.*|[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/;
/** Parameters that hold no secret. Of all others neither value nor name is written. */
const SHOWN_PARAMETERS = new Set(['version', 'list', 'scan', 'depth', 'help', 'after', 'limit']);

/** Masks what looks like a token in the segments of a path. */
function maskPath(segments: readonly string[]): string {
  return segments.map((segment) => (TOKEN_SHAPED.test(segment) ? '***' : segment)).join('/');
}

/** The fields of `client`. */
export function clientFields({ peer, address }: ClientFacts): EntryValue {
  return { ip: address, peer_ip: peer.address, port: peer.port, ...(peer.certificate === undefined ? {} : { certificate: peer.certificate }) };
}

/** The fields of `vault`: what was asked, without any value. */
function vaultFields(request: VaultRequest, classification: Classification): EntryValue {
  const { reading } = classification;
  return {
    ns: reading.namespace.join('/'),
    mount: reading.mount?.path ?? null,
    mount_type: reading.mount?.type ?? null,
    path: request.page ?? maskPath(reading.path),
    op: request.operation,
    method: request.method,
    query: request.query.map(([name, value]) => (SHOWN_PARAMETERS.has(name) ? `${name}=${value.slice(0, 64)}` : '***')),
    ...(request.controls.wrapTtl === undefined ? {} : { wrap_ttl: request.controls.wrapTtl.slice(0, 32) }),
  };
}

/** Why a request has its tier. */
function classificationFields(classification: Classification): { readonly [key: string]: EntryValue } {
  const { tier, why, rule } = classification;
  return {
    tier: tier?.name ?? null,
    why,
    ...(rule === undefined
      ? {}
      : { rule: { [rule.kind]: rule.pattern.source, line: rule.line, ...(rule.namespace === '' ? {} : { namespace: rule.namespace }) } }),
  };
}

/** What every decision says, whatever it was. */
export function decisionFields(
  client: ClientFacts,
  request: VaultRequest,
  classification: Classification,
  tokenHmac: (token: string) => string,
  policySha256: string,
): { readonly [key: string]: EntryValue } {
  return {
    client: clientFields(client),
    vault: vaultFields(request, classification),
    token: request.token === undefined ? null : { hmac: tokenHmac(request.token.value), source: request.token.source },
    ...classificationFields(classification),
    policy_sha256: policySha256,
  };
}

/** The input of the digest, so that an auditor can recompute it; masked and cut where it could hold a secret. */
export function digestFields(input: FingerprintInput): EntryValue {
  const shown = input.path.slice('/v1/'.length).split('/');
  const query = input.query.map(([name, value]) => (SHOWN_PARAMETERS.has(name) ? [name, value.slice(0, 64)] : ['***', '***']));
  return { ...input, path: `/v1/${maskPath(shown)}`, query };
}

/** What a verified step-up token said. */
export function stepUpFields(stepUp: StepUp): EntryValue {
  return {
    proof: stepUp.proof,
    iss: stepUp.issuer,
    sub: stepUp.subject,
    kid: stepUp.kid,
    jti_sha256: stepUp.jtiSha256,
    acr: stepUp.acr ?? null,
    amr: [...stepUp.amr],
    auth_age_s: stepUp.authAgeS,
  };
}

/** Entries of one request share their id. */
export function entry(type: EntryBody['type'], requestId: string, fields: { readonly [key: string]: EntryValue | undefined }): EntryBody {
  return { type, request_id: requestId, ...fields };
}
