import { createHash } from 'node:crypto';

import canonicalize from 'canonicalize';

import type { Classification } from '../policy/classify.ts';
import { serialiseApiPath } from '../vault/path.ts';
import type { VaultRequest } from '../vault/request.ts';
import type { KeyGeneration } from './key-ring.ts';

/** Everything about a request that a step-up is bound to, as it is hashed (design.md §6). Safe to log: no token, no body. */
export interface FingerprintInput {
  readonly v: 1;
  /** Our public URL: a step-up for one deployment is none for another. */
  readonly aud: string;
  readonly ns: string;
  readonly mount: string | null;
  readonly kv: 1 | 2 | null;
  readonly path: string;
  readonly op: string;
  readonly query: readonly (readonly [string, string])[];
  readonly body_sha256: string | null;
  readonly content_type: string | null;
  readonly wrap_ttl: string | null;
  readonly wrap_format: string | null;
  /** base64url HMAC of the caller's token. */
  readonly binding: string;
}

/** What a caller is bound by: base64url HMAC-SHA-256 of its token under a key of the instances. */
export function bindToken(key: KeyGeneration, token: string): string {
  return key.hmac('binding', token).toString('base64url');
}

/** Describes a request for hashing, from the wire and the mount table alone. `body` is the whole body, where there is one. */
export function fingerprintInput(
  request: VaultRequest,
  classification: Classification,
  body: Buffer | undefined,
  audience: string,
  binding: string,
): FingerprintInput {
  const { mount, namespace } = classification.reading;
  const { wrapTtl, wrapFormat, contentType } = request.controls;
  return {
    v: 1,
    aud: audience,
    ns: [...namespace].join('/'),
    mount: mount?.path ?? null,
    kv: mount?.type === 'kv-v2' ? 2 : mount?.type === 'kv-v1' ? 1 : null,
    path: serialiseApiPath({ segments: classification.reading.path, trailing: request.path.trailing }),
    op: request.operation,
    // `list` and `scan` are the operation already: LIST and GET ?list=true are one request.
    query: request.query.filter(([name]) => name !== 'list' && name !== 'scan'),
    body_sha256: body === undefined ? null : createHash('sha256').update(body).digest('hex'),
    content_type: body === undefined ? null : (contentType ?? null),
    wrap_ttl: wrapTtl ?? null,
    wrap_format: wrapFormat ?? null,
    binding,
  };
}

/** base64url SHA-256 over canonical JSON (RFC 8785). */
export function hashCanonical(value: unknown): string {
  return createHash('sha256')
    .update(canonicalize(value) ?? '')
    .digest('base64url');
}

/** The request digest: what issuers and people sign, and what the gate recomputes. */
export function requestDigest(parts: {
  readonly fingerprint: string;
  readonly challengeId: string;
  readonly tier: string;
  readonly requirement: string;
}): string {
  return hashCanonical({
    v: 1,
    fingerprint: parts.fingerprint,
    challenge_id: parts.challengeId,
    tier: parts.tier,
    requirement: parts.requirement,
    grant: null,
  });
}
