import { createPrivateKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from 'node:crypto';

import { calculateJwkThumbprint, SignJWT } from 'jose';
import { z } from 'zod';

import { CodedError } from '../errors.ts';
import { STEP_UP_TYP } from './step-up-token.ts';

/** A signing key that cannot be read. */
export class SigningKeyError extends CodedError<'signing_key'> {}

/** A local issuer's key pair as it lies in its file: a private JWK (RFC 7517). */
export interface SigningKey {
  readonly kid: string;
  readonly algorithm: 'EdDSA' | 'ES256';
  readonly key: KeyObject;
}

const privateJwk = z.looseObject({ kty: z.enum(['OKP', 'EC']), crv: z.enum(['Ed25519', 'P-256']), d: z.string(), x: z.string(), kid: z.string() });

/** Makes an Ed25519 or P-256 key for a local issuer: the private JWK, and the key set with the public half. */
export async function generateSigningKey(algorithm: 'EdDSA' | 'ES256'): Promise<{ privateJwk: JsonWebKey; jwks: { keys: JsonWebKey[] } }> {
  const pair = algorithm === 'EdDSA' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicJwk = pair.publicKey.export({ format: 'jwk' });
  const kid = await calculateJwkThumbprint(publicJwk as Parameters<typeof calculateJwkThumbprint>[0]);
  const described = { alg: algorithm, use: 'sig', kid };
  return { privateJwk: { ...pair.privateKey.export({ format: 'jwk' }), ...described }, jwks: { keys: [{ ...publicJwk, ...described }] } };
}

/** Reads a private JWK, as `generateSigningKey` made it. @throws {SigningKeyError} */
export function parseSigningKey(text: string): SigningKey {
  try {
    const jwk = privateJwk.parse(JSON.parse(text));
    return { kid: jwk.kid, algorithm: jwk.crv === 'Ed25519' ? 'EdDSA' : 'ES256', key: createPrivateKey({ key: jwk as JsonWebKey, format: 'jwk' }) };
  } catch (cause) {
    throw new SigningKeyError('signing_key', 'expected a private JWK (Ed25519 or P-256) with a kid: `stepgate keys generate --issuer` makes one', { cause });
  }
}

/** What a local issuer puts into a step-up token. `nowMs` in milliseconds, `lifetimeS` and `authTime` in seconds. */
export interface StepUpClaims {
  readonly issuer: string;
  readonly audience: string;
  readonly subject: string;
  readonly nonce: string;
  readonly jti: string;
  readonly nowMs: number;
  readonly lifetimeS: number;
  readonly acr: string | undefined;
  readonly amr: readonly string[];
  /** Seconds since 1970; now, where it is left out. */
  readonly authTime: number | undefined;
}

/** Signs a step-up token as a local issuer. */
export async function signStepUpToken(key: SigningKey, claims: StepUpClaims): Promise<string> {
  const iat = Math.floor(claims.nowMs / 1000);
  return new SignJWT({
    nonce: claims.nonce,
    auth_time: claims.authTime ?? iat,
    ...(claims.acr === undefined ? {} : { acr: claims.acr }),
    ...(claims.amr.length === 0 ? {} : { amr: [...claims.amr] }),
  })
    .setProtectedHeader({ alg: key.algorithm, kid: key.kid, typ: STEP_UP_TYP })
    .setIssuer(claims.issuer)
    .setAudience(claims.audience)
    .setSubject(claims.subject)
    .setJti(claims.jti)
    .setIssuedAt(iat)
    .setExpirationTime(iat + claims.lifetimeS)
    .sign(key.key);
}
