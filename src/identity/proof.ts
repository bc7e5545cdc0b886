import type { KeyObject } from 'node:crypto';

/** Algorithms that a proof may be signed with; never a symmetric one, never none. */
export type Algorithm = 'EdDSA' | 'ES256' | 'PS256' | 'RS256';

/** A public key of an issuer. */
export interface IssuerKey {
  readonly kid: string;
  /** The algorithms that this kind of key can be used with. */
  readonly algorithms: readonly Algorithm[];
  readonly key: KeyObject;
}

/** Whose tokens are believed as a step-up, and what they must say. Times in milliseconds. */
export interface Proof {
  readonly issuer: string;
  readonly algorithms: readonly Algorithm[];
  /** Where the tokens carry the nonce. */
  readonly nonceIn: 'nonce' | 'aud';
  /** The audience that tokens must name, where it is not Stepgate's own URL. */
  readonly audience: string | undefined;
  readonly acr: readonly string[] | undefined;
  readonly amr: readonly string[] | undefined;
  /** Claims that must have one of the values listed. */
  readonly match: Readonly<Record<string, readonly string[]>>;
  readonly typ: string | undefined;
  /** Longest `exp - iat`. */
  readonly maxLifetimeMs: number;
  readonly clockSkewMs: number;
  /** By `kid`. */
  readonly keys: ReadonlyMap<string, IssuerKey>;
}
