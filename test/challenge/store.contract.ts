import { describe, expect, test } from 'vitest';

import type { Challenge, ChallengeStore, Opening, Reservation } from '../../src/challenge/store.ts';

/** A store under test with limits of 3 a binding, 5 an address and 8 in all, 3 attempts, a lease and a life as given. */
export interface StoreUnderTest {
  readonly store: ChallengeStore;
  /** Moves the store's clock on: in memory at once, in Redis by waiting for it. */
  readonly elapse: (ms: number) => Promise<void>;
  readonly now: () => number;
  readonly close: () => Promise<void>;
}

let serial = 0;

/** A challenge that no other test has. */
export function opening(at: number, change: Partial<Challenge> & { binding?: string; address?: string } = {}): Opening {
  const n = `${process.pid}-${++serial}`;
  const { binding = `b-${n}`, address = `a-${n}`, ...challenge } = change;
  return {
    binding,
    address,
    challenge: { fingerprint: `fp-${n}`, challengeId: `id-${n}`, keyId: 'k1', nonceHash: `nh-${n}`, digest: `dg-${n}`, expiresAtMs: at + 60_000, ...challenge },
  };
}

export function reservation({ challenge, binding }: Opening, id = 'r1'): Reservation {
  return { fingerprint: challenge.fingerprint, nonceHash: challenge.nonceHash, reservation: id, binding };
}

/** What every challenge store must do; `make` takes the lease in ms. */
export function storeContract(make: (leaseMs: number) => Promise<StoreUnderTest>): void {
  const using = async (work: (under: StoreUnderTest) => Promise<void>, leaseMs = 60_000): Promise<void> => {
    const under = await make(leaseMs);
    try {
      await work(under);
    } finally {
      await under.close();
    }
  };

  describe('issuing', () => {
    test('the same request meets the same open challenge', () =>
      using(async ({ store, now }) => {
        const first = opening(now());
        expect(await store.open(first)).toEqual({ kind: 'opened', challenge: first.challenge });
        const again = opening(now(), { fingerprint: first.challenge.fingerprint });
        expect(await store.open(again)).toEqual({ kind: 'existing', challenge: first.challenge });
        expect(await store.find(first.challenge.fingerprint)).toEqual(first.challenge);
      }));

    test('a challenge that can never be met gives way to its successor', () =>
      using(async ({ store, now }) => {
        const first = opening(now());
        await store.open(first);
        const next = opening(now(), { fingerprint: first.challenge.fingerprint });
        expect(await store.open({ ...next, replaces: first.challenge.challengeId })).toEqual({ kind: 'opened', challenge: next.challenge });
        expect(await store.reserve(reservation(first))).toEqual({ kind: 'refused', reason: 'unknown' });
      }));

    test('an expired challenge is open no more', () =>
      using(async ({ store, now, elapse }) => {
        const first = opening(now(), { expiresAtMs: now() + 300 });
        await store.open(first);
        await elapse(400);
        expect(await store.find(first.challenge.fingerprint)).toBeUndefined();
        expect(await store.reserve(reservation(first))).toEqual({ kind: 'refused', reason: 'expired' });
        const next = opening(now(), { fingerprint: first.challenge.fingerprint });
        expect((await store.open(next)).kind).toBe('opened');
      }));

    test('caps hold by binding and by address, and what is spent or expired counts no more', () =>
      using(async ({ store, now, elapse }) => {
        const mine = [1, 2, 3].map((i) => opening(now(), { binding: 'same', expiresAtMs: i === 1 ? now() + 300 : now() + 60_000 }));
        for (const one of mine) expect((await store.open(one)).kind).toBe('opened');
        expect((await store.open(opening(now(), { binding: 'same' }))).kind).toBe('too_many');
        const [, second] = mine as [Opening, Opening, Opening];
        await store.reserve(reservation(second));
        await store.commit(reservation(second));
        expect((await store.open(opening(now(), { binding: 'same' }))).kind).toBe('opened');
        expect((await store.open(opening(now(), { binding: 'same' }))).kind).toBe('too_many');
        await elapse(400);
        expect((await store.open(opening(now(), { binding: 'same' }))).kind).toBe('opened');
        for (let i = 0; i < 5; i++) await store.open(opening(now(), { address: 'there' }));
        expect((await store.open(opening(now(), { address: 'there' }))).kind).toBe('too_many');
      }));
  });

  describe('using', () => {
    test('issued, reserved, released, reserved, spent; then never again', () =>
      using(async ({ store, now }) => {
        const one = opening(now());
        await store.open(one);
        expect(await store.reserve(reservation(one, 'r1'))).toEqual({ kind: 'reserved', attempt: 1, challenge: one.challenge });
        expect(await store.reserve(reservation(one, 'r1'))).toMatchObject({ kind: 'reserved', attempt: 1 });
        expect(await store.reserve(reservation(one, 'r2'))).toEqual({ kind: 'refused', reason: 'inflight' });
        expect(await store.commit(reservation(one, 'r2'))).toBe('stale');
        expect(await store.release(reservation(one, 'r2'))).toBe('stale');
        expect(await store.release(reservation(one, 'r1'))).toBe('done');
        expect(await store.commit(reservation(one, 'r1'))).toBe('stale');
        expect(await store.reserve(reservation(one, 'r3'))).toMatchObject({ kind: 'reserved', attempt: 2 });
        expect(await store.commit(reservation(one, 'r3'))).toBe('done');
        expect(await store.commit(reservation(one, 'r3'))).toBe('done');
        expect(await store.commit(reservation(one, 'r1'))).toBe('stale');
        expect(await store.release(reservation(one, 'r3'))).toBe('stale');
        expect(await store.reserve(reservation(one, 'r4'))).toEqual({ kind: 'refused', reason: 'spent' });
        // The request may be challenged anew; the old nonce stays spent.
        const next = opening(now(), { fingerprint: one.challenge.fingerprint });
        expect((await store.open(next)).kind).toBe('opened');
        expect(await store.reserve(reservation(one, 'r5'))).toEqual({ kind: 'refused', reason: 'spent' });
        expect(await store.reserve(reservation(next, 'r6'))).toMatchObject({ kind: 'reserved' });
      }));

    test('a nonce that was never issued for this request is unknown', () =>
      using(async ({ store, now }) => {
        const [one, other] = [opening(now()), opening(now())];
        await store.open(one);
        await store.open(other);
        expect(await store.reserve({ ...reservation(one), fingerprint: other.challenge.fingerprint })).toEqual({ kind: 'refused', reason: 'unknown' });
        expect(await store.reserve(reservation(opening(now())))).toEqual({ kind: 'refused', reason: 'unknown' });
      }));

    test('a reservation whose holder never ended it is in doubt, and its nonce is spent', () =>
      using(async ({ store, now, elapse }) => {
        const one = opening(now());
        await store.open(one);
        await store.reserve(reservation(one, 'r1'));
        await elapse(400);
        expect(await store.reserve(reservation(one, 'r2'))).toEqual({ kind: 'refused', reason: 'indoubt' });
        expect(await store.commit(reservation(one, 'r2'))).toBe('stale');
        expect(await store.reserve(reservation(one, 'r3'))).toEqual({ kind: 'refused', reason: 'spent' });
      }, 300));

    test('deliveries may be begun three times', () =>
      using(async ({ store, now }) => {
        const one = opening(now());
        await store.open(one);
        for (const id of ['r1', 'r2', 'r3']) {
          expect((await store.reserve(reservation(one, id))).kind).toBe('reserved');
          await store.release(reservation(one, id));
        }
        expect(await store.reserve(reservation(one, 'r4'))).toEqual({ kind: 'refused', reason: 'attempts' });
      }));

    test('of 40 racers for each of 50 nonces exactly one delivers, also when some give it back', () =>
      using(async ({ store, now }) => {
        for (let n = 0; n < 50; n++) {
          const one = opening(now(), { binding: `race-${n}`, address: `race-${n}` });
          const opened = await store.open(one);
          if (opened.kind === 'too_many') throw new Error('the caps of the contract are in the way');
          const delivered = await Promise.all(
            Array.from({ length: 40 }, async (_, i) => {
              const mine = reservation(one, `r${i}`);
              if ((await store.reserve(mine)).kind !== 'reserved') return 0;
              if (n % 3 === 0 && i % 2 === 0) {
                await store.release(mine);
                return 0;
              }
              return (await store.commit(mine)) === 'done' ? 1 : 0;
            }),
          );
          const total = delivered.reduce<number>((sum, count) => sum + count, 0);
          expect(total).toBeLessThanOrEqual(1);
          if (n % 3 !== 0) expect(total).toBe(1);
          else if (total === 0) await drain(store, one);
        }
      }));
  });
}

/** Spends what is left of a challenge, so that the caps have room. */
async function drain(store: ChallengeStore, one: Opening): Promise<void> {
  const last = reservation(one, 'last');
  if ((await store.reserve(last)).kind === 'reserved') await store.commit(last);
}
