import { createHash } from 'node:crypto';

import { z } from 'zod';

import { equalTexts } from '../../constant-time.ts';
import type { KeyRing } from '../key-ring.ts';
import {
  type Challenge,
  type ChallengeLimits,
  type ChallengeStore,
  type FinishResult,
  type Opening,
  type OpenResult,
  type Reservation,
  type ReserveRefusal,
  type ReserveResult,
  type StoreTimes,
  StoreUnavailable,
} from '../store.ts';
import type { RedisConnection } from './connection.ts';

const REFUSALS = ['unknown', 'epoch', 'expired', 'spent', 'inflight', 'indoubt', 'attempts'] as const satisfies readonly ReserveRefusal[];

// What Redis answers was chosen by whoever can write to it: shapes first, then the MAC.
const hash = z.string().max(64);
const recordReply = z.tuple([hash, hash, hash, hash, z.string().regex(/^\d{1,15}$/), z.string().max(128), hash]);
const openReply = z.union([
  z.tuple([z.literal('opened')]),
  z.tuple([z.literal('existing'), ...recordReply.def.items]),
  z.tuple([z.literal('fence'), z.string().max(128)]),
  z.tuple([z.literal('clock')]),
]);
const reserveReply = z.union([z.tuple([z.literal('reserved'), z.string().regex(/^\d{1,6}$/), ...recordReply.def.items]), z.tuple([z.enum(REFUSALS)])]);
const commitReply = z.union([z.tuple([z.literal('done'), z.string().max(128)]), z.tuple([z.enum(['stale', 'epoch'])])]);
const releaseReply = z.enum(['done', 'stale', 'epoch']);

/** What the store works with: a connection, the keys of its MACs, caps and times. */
export interface RedisStoreOptions {
  readonly connection: RedisConnection;
  readonly keys: KeyRing;
  readonly limits: ChallengeLimits;
  readonly times: StoreTimes;
  readonly now: () => number;
}

/** The longest life of a challenge that the store takes, milliseconds: bounds what a wrong clock can do. */
const MAX_LIFE_MS = 24 * 3_600_000;

/** Challenges in Redis: one script a step, each record with a MAC that Redis cannot make (design.md §6). */
export class RedisStore implements ChallengeStore {
  readonly #redis: RedisConnection;
  readonly #options: RedisStoreOptions;

  constructor(options: RedisStoreOptions) {
    this.#redis = options.connection;
    this.#options = options;
  }

  readonly find = async (fingerprint: string): Promise<Challenge | undefined> => {
    const reply = await this.#redis.run('find', challengeKey(fingerprint), String(this.#options.times.maxAttempts));
    if (reply === null) return undefined;
    const record = parse(recordReply, reply);
    return this.#verified(fingerprint, record);
  };

  readonly open = async ({ challenge, binding, address, replaces }: Opening): Promise<OpenResult> => {
    const existing = await this.find(challenge.fingerprint);
    if (existing !== undefined && existing.challengeId !== replaces) return { kind: 'existing', challenge: existing };
    const caps = this.#caps(binding, address);
    const counted: string[] = [];
    for (const [key, most] of caps) {
      const counts = await this.#redis.run('cap', key, challenge.fingerprint, String(challenge.expiresAtMs), String(most), String(this.#options.times.graceMs));
      if (counts !== 1) {
        this.#redis.forget(counted, challenge.fingerprint);
        return { kind: 'too_many' };
      }
      counted.push(key);
    }
    return this.#create(challenge, address, replaces ?? '');
  };

  readonly reserve = async (reservation: Reservation): Promise<ReserveResult> => {
    const { fingerprint, nonceHash } = reservation;
    const { times } = this.#options;
    const args = [
      challengeKey(fingerprint),
      spentKey(fingerprint, nonceHash),
      nonceHash,
      reservation.reservation,
      String(times.leaseMs),
      String(times.maxAttempts),
      String(times.graceMs),
    ];
    let reply: z.output<typeof reserveReply>;
    try {
      reply = parse(reserveReply, await this.#redis.run('reserve', ...args));
    } catch (error) {
      // It may have run, or run later: give it back as soon as that is possible, else its lease ends it.
      this.#releaseLater(reservation);
      throw error;
    }
    if (reply[0] !== 'reserved') return { kind: 'refused', reason: reply[0] };
    const [, attempt, ...record] = reply;
    const challenge = this.#verified(fingerprint, record);
    if (challenge === undefined || challenge.nonceHash !== nonceHash) return { kind: 'refused', reason: 'mac' };
    return { kind: 'reserved', attempt: Number(attempt), challenge };
  };

  readonly commit = async ({ fingerprint, nonceHash, reservation, binding }: Reservation): Promise<FinishResult> => {
    const reply = parse(
      commitReply,
      await this.#redis.run('commit', challengeKey(fingerprint), spentKey(fingerprint, nonceHash), nonceHash, reservation, String(this.#options.times.graceMs)),
    );
    if (reply[0] !== 'done') return reply[0];
    this.#redis.forget(
      this.#caps(binding, reply[1]).map(([key]) => key),
      fingerprint,
    );
    return 'done';
  };

  readonly release = async ({ fingerprint, nonceHash, reservation }: Reservation): Promise<FinishResult> =>
    parse(releaseReply, await this.#redis.run('release', challengeKey(fingerprint), nonceHash, reservation));

  readonly status = (): { usable: boolean; reason: string } => this.#redis.status();

  readonly close = (): Promise<void> => this.#redis.close();

  async #create(challenge: Challenge, address: string, replaces: string): Promise<OpenResult> {
    let replaced = replaces;
    for (let tries = 0; tries < 3; tries++) {
      const { fence } = this.#redis;
      const { fingerprint, challengeId, keyId, nonceHash, digest, expiresAtMs } = challenge;
      const mac = this.#mac(challenge, fence);
      const { graceMs, maxAttempts } = this.#options.times;
      const args = [
        fence,
        challengeId,
        keyId,
        nonceHash,
        digest,
        String(expiresAtMs),
        mac,
        String(MAX_LIFE_MS),
        String(graceMs),
        address,
        String(maxAttempts),
        replaced,
      ];
      const reply = parse(openReply, await this.#redis.run('open', challengeKey(fingerprint), ...args));
      if (reply[0] === 'opened') return { kind: 'opened', challenge };
      if (reply[0] === 'clock') throw new StoreUnavailable('its clock differs from ours');
      if (reply[0] === 'fence') await this.#redis.check();
      else {
        const [, ...record] = reply;
        const existing = this.#verified(fingerprint, record);
        if (existing !== undefined) return { kind: 'existing', challenge: existing };
        replaced = record[0]; // nobody with our keys wrote that record
      }
    }
    throw new StoreUnavailable('it changes too fast');
  }

  /** The record, if its MAC shows that an instance of ours wrote it. */
  #verified(fingerprint: string, record: z.output<typeof recordReply>): Challenge | undefined {
    const [challengeId, keyId, nonceHash, digest, expiry, fence, mac] = record;
    const challenge = { fingerprint, challengeId, keyId, nonceHash, digest, expiresAtMs: Number(expiry) };
    const expected = this.#mac(challenge, fence);
    return expected !== '' && equalTexts(expected, mac) ? challenge : undefined;
  }

  #mac(challenge: Challenge, fence: string): string {
    const { fingerprint, challengeId, keyId, nonceHash, digest, expiresAtMs } = challenge;
    const fields = JSON.stringify([1, fingerprint, challengeId, keyId, nonceHash, digest, expiresAtMs, fence]);
    return this.#options.keys.byId(keyId)?.hmac('state', fields).toString('base64url') ?? '';
  }

  /** Voided challenges do not count: the names of the counts hold the fence. */
  #caps(binding: string, address: string): [key: string, most: number][] {
    const { perBinding, perAddress, total } = this.#options.limits;
    const epoch = createHash('sha256').update(this.#redis.fence).digest('base64url').slice(0, 8);
    return [
      [`stepgate:{b:${binding}}:${epoch}`, perBinding],
      [`stepgate:{a:${address}}:${epoch}`, perAddress],
      [`stepgate:{all}:${epoch}`, total],
    ];
  }

  #releaseLater(reservation: Reservation): void {
    const until = this.#options.now() + this.#options.times.leaseMs;
    const attempt = (): void => {
      if (this.#options.now() > until) return;
      this.release(reservation).catch(() => setTimeout(attempt, 500).unref());
    };
    attempt();
  }
}

function challengeKey(fingerprint: string): string {
  return `stepgate:{${fingerprint}}:c`;
}

function spentKey(fingerprint: string, nonceHash: string): string {
  return `stepgate:{${fingerprint}}:s:${nonceHash}`;
}

function parse<Schema extends z.ZodType>(schema: Schema, reply: unknown): z.output<Schema> {
  const result = schema.safeParse(reply);
  if (!result.success) throw new StoreUnavailable('its answer makes no sense');
  return result.data;
}
