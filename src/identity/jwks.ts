import { createPublicKey, type JsonWebKey } from 'node:crypto';

import { z } from 'zod';

import { CodedError } from '../errors.ts';
import type { Algorithm, IssuerKey } from './proof.ts';

/** A key set that cannot be used; the message says which key and why, never its value. */
export class JwksError extends CodedError<'jwks'> {}

const jwkSchema = z.looseObject({
  kty: z.string(),
  kid: z.string().regex(/^[A-Za-z0-9._~=-]{1,128}$/),
  use: z.string().optional(),
  alg: z.string().optional(),
});
const jwksSchema = z.object({ keys: z.array(z.unknown()).min(1).max(100) });
const MIN_RSA_BITS = 2048;

/** Longest key set that is read, bytes. */
export const MAX_JWKS_BYTES = 256 * 1024;

/** Reads a JSON Web Key Set (RFC 7517): public signature keys with a `kid`. @throws {JwksError} */
export function parseJwks(text: string): ReadonlyMap<string, IssuerKey> {
  let set: { keys: unknown[] };
  try {
    set = jwksSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new JwksError('jwks', 'expected a JSON Web Key Set: {"keys":[…]} with 1 to 100 keys', { cause });
  }
  const keys = new Map<string, IssuerKey>();
  for (const [i, value] of set.keys.entries()) {
    const jwk = jwkSchema.safeParse(value);
    if (!jwk.success) throw new JwksError('jwks', `key ${i}: expected a JWK with kty and a kid of at most 128 letters, digits and ._~=-`);
    if ('d' in jwk.data || jwk.data.kty === 'oct') throw new JwksError('jwks', `key ${i}: is a private or symmetric key; only public keys belong here`);
    if (jwk.data.use !== undefined && jwk.data.use !== 'sig') continue;
    if (keys.has(jwk.data.kid)) throw new JwksError('jwks', `key ${i}: its kid is there twice`);
    const key = readKey(jwk.data, i);
    if (key !== null) keys.set(key.kid, key);
  }
  if (keys.size === 0) throw new JwksError('jwks', 'holds no signature key of a kind that is supported (Ed25519, P-256, RSA)');
  return keys;
}

function readKey(jwk: z.output<typeof jwkSchema>, index: number): IssuerKey | null {
  let algorithms: readonly Algorithm[];
  if (jwk.kty === 'OKP' && jwk['crv'] === 'Ed25519') algorithms = ['EdDSA'];
  else if (jwk.kty === 'EC' && jwk['crv'] === 'P-256') algorithms = ['ES256'];
  else if (jwk.kty === 'RSA') algorithms = ['RS256', 'PS256'];
  else return null;
  if (jwk.alg !== undefined && jwk.alg !== 'Ed25519') algorithms = algorithms.filter((algorithm) => algorithm === jwk.alg);
  let key: ReturnType<typeof createPublicKey>;
  try {
    key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
  } catch (cause) {
    throw new JwksError('jwks', `key ${index}: is not a valid ${jwk.kty} key`, { cause });
  }
  if ((key.asymmetricKeyDetails?.modulusLength ?? MIN_RSA_BITS) < MIN_RSA_BITS)
    throw new JwksError('jwks', `key ${index}: RSA keys need at least ${MIN_RSA_BITS} bits`);
  return { kid: jwk.kid, algorithms, key };
}
