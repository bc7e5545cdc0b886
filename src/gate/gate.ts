import { createHash } from 'node:crypto';

import { bindToken, type FingerprintInput, fingerprintInput, hashCanonical, requestDigest } from '../challenge/fingerprint.ts';
import type { KeyGeneration, KeyRing } from '../challenge/key-ring.ts';
import type { Challenge, ChallengeStore, FinishResult, Reservation, ReserveRefusal } from '../challenge/store.ts';
import { equalTexts } from '../constant-time.ts';
import { StepUpError, type StepUp as VerifiedStepUp, verifyStepUpToken } from '../identity/step-up-token.ts';
import type { Classification } from '../policy/classify.ts';
import type { StepUp, Tier } from '../policy/policy.ts';
import type { VaultRequest } from '../vault/request.ts';

/** What the gate works with. */
export interface GateOptions {
  readonly store: ChallengeStore;
  readonly keys: KeyRing;
  /** Our public URL. */
  readonly audience: string;
  /** Life of a challenge, milliseconds. */
  readonly ttlMs: number;
  readonly now: () => number;
  readonly random: (bytes: number) => Buffer;
}

/** A gated request of a caller that has a token, with its whole body. */
export interface GatedRequest {
  readonly request: VaultRequest;
  readonly classification: Classification;
  readonly tier: Tier;
  readonly stepUp: StepUp;
  /** The caller's Vault token. */
  readonly token: string;
  readonly body: Buffer | undefined;
  /** Of the client, for the caps. */
  readonly address: string;
}

/** A challenge with what the caller needs to answer it. The nonce is for the answer alone. */
export interface IssuedChallenge {
  readonly challenge: Challenge;
  readonly nonce: string;
  readonly input: FingerprintInput;
  readonly isNew: boolean;
}

/** A step-up that was verified and whose nonce is reserved for one delivery. */
export interface Admission {
  readonly reservation: Reservation;
  readonly challengeId: string;
  readonly digest: string;
  readonly attempt: number;
}

/** A step-up token that is in order, and the nonce that it is about; nothing is reserved yet. */
export interface VerifiedRequest {
  readonly stepUp: VerifiedStepUp;
  readonly input: FingerprintInput;
  readonly fingerprint: string;
  readonly binding: string;
  readonly nonceHash: string;
}

/** Between the classification of a request and its forwarding: challenges, verifies, reserves. The store's calls are made here. */
export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** Whether gated requests can be served at all. */
  status(): { readonly usable: boolean; readonly reason: string } {
    return this.#options.store.status();
  }

  /**
   * The open challenge of this request by this caller, or a new one; undefined when too many are open.
   * @throws {StoreUnavailable}
   */
  async challenge(gated: GatedRequest): Promise<IssuedChallenge | undefined> {
    const { store, keys, now, random, ttlMs } = this.#options;
    const generations = keys.active(now());
    let outdated: Challenge | undefined;
    for (const key of generations) {
      const { input, fingerprint } = this.#describe(gated, key);
      const open = await store.find(fingerprint);
      if (open !== undefined && this.#isCurrent(open, gated)) return this.#issued(open, input, false);
      outdated ??= open;
    }
    const [key] = generations;
    const { input, fingerprint } = this.#describe(gated, key);
    const challengeId = random(16).toString('base64url');
    const nonce = nonceOf(key, challengeId);
    const challenge: Challenge = {
      fingerprint,
      challengeId,
      keyId: key.id,
      nonceHash: hashNonce(nonce),
      digest: this.#digest(fingerprint, challengeId, gated),
      expiresAtMs: now() + ttlMs,
    };
    const address = key.hmac('binding', `address ${gated.address}`).toString('base64url').slice(0, 16);
    const opened = await store.open({ challenge, binding: input.binding, address, ...(outdated === undefined ? {} : { replaces: outdated.challengeId }) });
    if (opened.kind === 'too_many') return undefined;
    return this.#issued(opened.challenge, input, opened.kind === 'opened');
  }

  /** Verifies a step-up token for this request; asks nobody. @throws {StepUpError} */
  async verify(gated: GatedRequest, token: string): Promise<VerifiedRequest> {
    const { audience, keys, now } = this.#options;
    const [key] = keys.active(now());
    const { input, fingerprint } = this.#describe(gated, key);
    const stepUp = await verifyStepUpToken(token, {
      proofs: gated.stepUp.proofs,
      audience,
      maxAgeMs: gated.stepUp.maxAgeMs,
      nowMs: now(),
      binding: input.binding,
    });
    return { stepUp, input, fingerprint, binding: input.binding, nonceHash: hashNonce(stepUp.nonce) };
  }

  /**
   * Takes the nonce of a verified step-up for one delivery. The digest is recomputed from the request on the wire and the
   * policy as it is now, under each generation of keys that may have issued the nonce.
   * @throws {StoreUnavailable}
   */
  async reserve(gated: GatedRequest, verified: VerifiedRequest): Promise<Admission | ReserveRefusal | 'digest'> {
    const { store, keys, now, random } = this.#options;
    const reservation = random(16).toString('base64url');
    let refusal: ReserveRefusal = 'unknown';
    for (const key of keys.active(now())) {
      const { input, fingerprint } = this.#describe(gated, key);
      const taking: Reservation = { fingerprint, nonceHash: verified.nonceHash, reservation, binding: input.binding };
      const result = await store.reserve(taking);
      if (result.kind === 'reserved') return this.#checkDigest(gated, verified, taking, result.challenge, result.attempt);
      refusal = result.reason;
      if (refusal !== 'unknown') break;
    }
    return refusal;
  }

  async #checkDigest(gated: GatedRequest, verified: VerifiedRequest, taken: Reservation, challenge: Challenge, attempt: number): Promise<Admission | 'digest'> {
    const digest = this.#digest(taken.fingerprint, challenge.challengeId, gated);
    const admission = { reservation: taken, challengeId: challenge.challengeId, digest, attempt };
    const named = verified.stepUp.digest;
    if (equalTexts(challenge.digest, digest) && (named === undefined || equalTexts(named, digest))) return admission;
    await this.release(admission);
    return 'digest';
  }

  /** Spends the nonce. Must be `done` before the first byte of the answer. @throws {StoreUnavailable} */
  commit(admission: Admission): Promise<FinishResult> {
    return this.#options.store.commit(admission.reservation);
  }

  /** Gives the nonce back: nothing was delivered. Failing that its lease ends it as spent. */
  async release(admission: Admission): Promise<FinishResult | 'failed'> {
    try {
      return await this.#options.store.release(admission.reservation);
    } catch {
      return 'failed';
    }
  }

  #describe(gated: GatedRequest, key: KeyGeneration): { readonly input: FingerprintInput; readonly fingerprint: string } {
    const input = fingerprintInput(gated.request, gated.classification, gated.body, this.#options.audience, bindToken(key, gated.token));
    return { input, fingerprint: hashCanonical(input) };
  }

  #digest(fingerprint: string, challengeId: string, gated: GatedRequest): string {
    return requestDigest({ fingerprint, challengeId, tier: gated.tier.name, requirement: gated.stepUp.hash });
  }

  /** A challenge of before a change of the tier's requirement can never be met: a new one takes its place. */
  #isCurrent(challenge: Challenge, gated: GatedRequest): boolean {
    return equalTexts(challenge.digest, this.#digest(challenge.fingerprint, challenge.challengeId, gated));
  }

  #issued(challenge: Challenge, input: FingerprintInput, isNew: boolean): IssuedChallenge {
    const key = this.#options.keys.byId(challenge.keyId);
    if (key === undefined) throw new StepUpError('step_up_claims', 'the key of this challenge is gone');
    return { challenge, nonce: nonceOf(key, challenge.challengeId), input, isNew };
  }
}

/** 256 bits that only the holders of the keys can tell, so that the store never holds a nonce. */
function nonceOf(key: KeyGeneration, challengeId: string): string {
  return key.hmac('nonce', challengeId).toString('base64url');
}

function hashNonce(nonce: string): string {
  return createHash('sha256').update(nonce).digest('base64url');
}
