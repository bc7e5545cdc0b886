import { CodedError } from '../errors.ts';

/** What lies in the store for a challenge. No field of it opens anything: the nonce is there as its hash only. */
export interface Challenge {
  readonly fingerprint: string;
  readonly challengeId: string;
  /** Id of the key generation that made the nonce and the MAC. */
  readonly keyId: string;
  /** base64url SHA-256 of the nonce. */
  readonly nonceHash: string;
  readonly digest: string;
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
}

/** How many challenges may be open at once. */
export interface ChallengeLimits {
  readonly perBinding: number;
  readonly perAddress: number;
  readonly total: number;
}

/** A wish for a challenge: `binding` and `address` are hashes, for the caps. */
export interface Opening {
  readonly challenge: Challenge;
  readonly binding: string;
  readonly address: string;
  /** Id of an open challenge that this one takes the place of: its requirement has changed, so it can never be met. */
  readonly replaces?: string;
}

/** What became of a wish for a challenge; with `too_many` nothing was stored. */
export type OpenResult = { readonly kind: 'opened' | 'existing'; readonly challenge: Challenge } | { readonly kind: 'too_many' };

/** Why a nonce cannot be used: never issued for this request, spent, being used, … */
export type ReserveRefusal = 'unknown' | 'epoch' | 'expired' | 'spent' | 'inflight' | 'indoubt' | 'attempts' | 'mac';

/** Whether a nonce was taken; `attempt` counts deliveries that were begun with it, from 1. */
export type ReserveResult =
  | { readonly kind: 'reserved'; readonly attempt: number; readonly challenge: Challenge }
  | { readonly kind: 'refused'; readonly reason: ReserveRefusal };

/** One use of a nonce, from reserving to its end. `reservation` is a random id: only its holder can end it. */
export interface Reservation {
  readonly fingerprint: string;
  readonly nonceHash: string;
  readonly reservation: string;
  readonly binding: string;
}

/** `stale`: somebody else ended it, or its time passed; nothing may be delivered then. */
export type FinishResult = 'done' | 'stale' | 'epoch';

/** The store cannot be asked, or its answer is in doubt: gated requests are answered 503. */
export class StoreUnavailable extends CodedError<'store_unavailable', { reason: string }> {
  constructor(reason: string, cause?: unknown) {
    super('store_unavailable', 'the challenge store is not available', { detail: { reason }, cause });
  }
}

/**
 * Challenges from issue to spent: Issued → Reserved → Spent, back from Reserved on release (security.md §2.3).
 *
 * INVARIANT: for one nonce at most one `commit` ever answers `done`, whatever the store loses, repeats or rolls back.
 */
export interface ChallengeStore {
  /** The open challenge of a request, if there is one. @throws {StoreUnavailable} */
  readonly find: (fingerprint: string) => Promise<Challenge | undefined>;
  /** Opens a challenge unless the request has one open already, or a cap is reached. @throws {StoreUnavailable} */
  readonly open: (opening: Opening) => Promise<OpenResult>;
  /** Takes a nonce for one delivery; the same reservation again gets the same answer. @throws {StoreUnavailable} */
  readonly reserve: (reservation: Reservation) => Promise<ReserveResult>;
  /** Spends a reserved nonce; must be `done` before the first byte is delivered. @throws {StoreUnavailable} */
  readonly commit: (reservation: Reservation) => Promise<FinishResult>;
  /** Gives a reserved nonce back unused. @throws {StoreUnavailable} */
  readonly release: (reservation: Reservation) => Promise<FinishResult>;
  /** Whether gated requests can be served, and if not why. */
  readonly status: () => { readonly usable: boolean; readonly reason: string };
  readonly close: () => Promise<void>;
}

/** Times of a store, milliseconds. */
export interface StoreTimes {
  /** A reservation that is older is in doubt: its nonce counts as spent. The upstream's time-out and 10 s. */
  readonly leaseMs: number;
  /** How long a spent nonce is remembered beyond its expiry, so that a replay hears `spent`. */
  readonly graceMs: number;
  /** Deliveries that may be begun with one nonce. */
  readonly maxAttempts: number;
}

/** The defaults of security.md §2.3, for an upstream time-out of 60 s. */
export const defaultStoreTimes: StoreTimes = { leaseMs: 70_000, graceMs: 60_000, maxAttempts: 5 };
