import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { KeyRing } from '../../src/challenge/key-ring.ts';
import { RedisConnection, RedisUnfit } from '../../src/challenge/redis/connection.ts';
import { RedisStore } from '../../src/challenge/redis/store.ts';
import { StoreUnavailable } from '../../src/challenge/store.ts';
import { type DevServer, startRedis } from '../../src/demo/dev-server.ts';
import { systemHost } from '../../src/host.ts';
import { opening, reservation, storeContract } from './store.contract.ts';

const keys = new KeyRing([{ id: 'k1', notBeforeMs: 0, secret: Buffer.alloc(32, 7) }]);
const limits = { perBinding: 3, perAddress: 5, total: 60 };

async function openStore(url: string, leaseMs = 60_000, caps = limits): Promise<RedisStore> {
  const connection = new RedisConnection({ url, password: undefined, ca: undefined, now: systemHost.now, random: systemHost.random, onStatus: () => {} });
  await connection.start();
  return new RedisStore({ connection, keys, limits: caps, times: { leaseMs, graceMs: 60_000, maxAttempts: 3 }, now: systemHost.now });
}

let redis: DevServer & { port: number };
beforeAll(async () => {
  redis = await startRedis(inject('redisProgram'));
});
afterAll(() => redis?.stop());

describe('contract', () => {
  storeContract(async (leaseMs) => {
    const admin = new Redis(redis.url);
    await admin.flushall();
    await admin.quit();
    const store = await openStore(redis.url, leaseMs);
    // Redis tells the time of its own machine: only waiting moves it.
    return { store, elapse: (ms) => sleep(ms), now: systemHost.now, close: () => store.close() };
  });
});

describe('many racers', () => {
  test('500 nonces, 40 racers each over 4 connections: exactly one delivery each', async () => {
    const roomy = { perBinding: 10_000, perAddress: 10_000, total: 10_000 };
    const stores = await Promise.all([1, 2, 3, 4].map(() => openStore(redis.url, 60_000, roomy)));
    let once = 0;
    for (let n = 0; n < 500; n++) {
      const one = opening(systemHost.now());
      await stores[0]?.open(one);
      const wins = await Promise.all(
        Array.from({ length: 40 }, async (_, i) => {
          const store = stores[i % 4] as RedisStore;
          const mine = reservation(one, `r${i}`);
          return (await store.reserve(mine)).kind === 'reserved' && (await store.commit(mine)) === 'done';
        }),
      );
      if (wins.filter(Boolean).length === 1) once++;
    }
    expect(once).toBe(500);
    await Promise.all(stores.map((store) => store.close()));
  }, 120_000);
});

describe('a Redis that lies or forgets', () => {
  test('holds no nonce and no token, and a forged or changed record opens nothing', async () => {
    const store = await openStore(redis.url);
    const admin = new Redis(redis.url);
    const one = opening(systemHost.now());
    await store.open(one);
    const key = `stepgate:{${one.challenge.fingerprint}}:c`;
    // A later expiry, another digest: the MAC tells.
    await admin.hset(key, 'exp', String(one.challenge.expiresAtMs + 1));
    expect(await store.reserve(reservation(one))).toEqual({ kind: 'refused', reason: 'mac' });
    const forged = opening(systemHost.now());
    const fields = await admin.hgetall(key);
    await admin.hset(`stepgate:{${forged.challenge.fingerprint}}:c`, {
      ...fields,
      id: forged.challenge.challengeId,
      nh: forged.challenge.nonceHash,
      dg: forged.challenge.digest,
      exp: String(forged.challenge.expiresAtMs),
    });
    expect((await store.reserve(reservation(forged))).kind).toBe('refused');
    // A forged record does not keep the request from a challenge of its own.
    const own = opening(systemHost.now());
    await admin.hset(`stepgate:{${own.challenge.fingerprint}}:c`, {
      id: 'x',
      kid: 'k1',
      nh: 'x',
      dg: 'x',
      exp: String(own.challenge.expiresAtMs),
      fence: fields['fence'] ?? '',
      mac: 'x',
      att: '0',
    });
    expect(await store.open(own)).toEqual({ kind: 'opened', challenge: own.challenge });
    await admin.quit();
    await store.close();
  });

  test('after FLUSHALL what was open is unknown', async () => {
    const store = await openStore(redis.url);
    const one = opening(systemHost.now());
    await store.open(one);
    const admin = new Redis(redis.url);
    await admin.flushall();
    await admin.quit();
    expect(await store.reserve(reservation(one))).toEqual({ kind: 'refused', reason: 'unknown' });
    await store.close();
  });
});

describe('least privilege', () => {
  test('the access list of the documentation is enough for all of it, and for nothing else', async () => {
    const own = await startRedis(inject('redisProgram'));
    const admin = new Redis(own.url);
    const line = /^ACL SETUSER stepgate (.*)$/m.exec(readFileSync('docs/operations/running.md', 'utf8'))?.[1] ?? '';
    await admin.call('ACL', 'SETUSER', 'stepgate', ...line.replace('>PASSWORD', '>pw').split(' '));
    const url = `redis://stepgate:pw@127.0.0.1:${own.port}`;
    const store = await openStore(url);
    expect(store.status()).toEqual({ usable: true, reason: 'ok' });
    const one = opening(systemHost.now());
    expect((await store.open(one)).kind).toBe('opened');
    expect((await store.reserve(reservation(one))).kind).toBe('reserved');
    expect(await store.release(reservation(one))).toBe('done');
    expect((await store.reserve(reservation(one))).kind).toBe('reserved');
    expect(await store.commit(reservation(one))).toBe('done');
    const user = new Redis(url);
    for (const command of [['FLUSHALL'], ['KEYS', '*'], ['CONFIG', 'GET', '*'], ['GET', 'other'], ['REPLICAOF', 'NO', 'ONE'], ['SHUTDOWN']]) {
      await expect(user.call(command[0] as string, ...command.slice(1))).rejects.toThrow(/NOPERM/i);
    }
    user.disconnect();
    await store.close();
    admin.disconnect();
    await own.stop();
  });
});

describe('start-up checks', () => {
  test('a Redis that evicts is refused for good', async () => {
    const evicting = await startRedis(inject('redisProgram'), ['--maxmemory', '8mb', '--maxmemory-policy', 'allkeys-lru']);
    await expect(openStore(evicting.url)).rejects.toThrow(RedisUnfit);
    await evicting.stop();
  });

  test('a Redis that is away is no error at start, refuses at once, and is used when it comes back', async () => {
    const gone = await startRedis(inject('redisProgram'));
    await gone.stop();
    const store = await openStore(gone.url);
    await expect(store.find('x')).rejects.toThrow(StoreUnavailable);
    await store.close();
  });

  test('a replica is not used', async () => {
    const replica = await startRedis(inject('redisProgram'), ['--replicaof', '127.0.0.1', String(redis.port)]);
    const store = await openStore(replica.url);
    expect(store.status()).toEqual({ usable: false, reason: 'it is a replica' });
    await store.close();
    await replica.stop();
  });

  test.for([
    [1, true, 'ok'],
    [3, true, 'its clock is 3 s off ours'],
    [7, false, 'its clock is 7 s off ours'],
  ] as const)('a clock that is %i s off leaves it usable: %s', async ([seconds, usable, reason]) => {
    const connection = new RedisConnection({
      url: redis.url,
      password: undefined,
      ca: undefined,
      now: () => Date.now() + seconds * 1000,
      random: systemHost.random,
      onStatus: () => {},
    });
    await connection.start();
    expect(connection.status()).toEqual({ usable, reason });
    await connection.close();
  });

  test('a Redis whose memory is nearly full is not used for new challenges', async () => {
    const small = await startRedis(inject('redisProgram'), ['--maxmemory', '3mb', '--maxmemory-policy', 'noeviction']);
    const admin = new Redis(small.url);
    const used = async () => Number(/used_memory:(\d+)/.exec(await admin.info('memory'))?.[1]);
    for (let i = 0; (await used()) < 2.8 * 1024 * 1024; i++) await admin.set(`filler-${i}`, 'x'.repeat(10_000));
    const store = await openStore(small.url);
    expect(store.status()).toEqual({ usable: false, reason: 'its memory is nearly full' });
    await store.close();
    admin.disconnect();
    await small.stop();
  });

  test('a Redis that freezes is answered for within half a second', async () => {
    const frozen = await startRedis(inject('redisProgram'));
    const store = await openStore(frozen.url);
    frozen.process.kill('SIGSTOP');
    const started = performance.now();
    await expect(store.find('x')).rejects.toThrow(StoreUnavailable);
    // The bound is the command time-out of 250 ms; the rest is the machine's.
    expect(performance.now() - started).toBeLessThan(5000);
    frozen.process.kill('SIGCONT');
    await store.close();
    await frozen.stop();
  });
});
