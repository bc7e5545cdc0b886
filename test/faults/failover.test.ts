import { once } from 'node:events';

import { Redis } from 'ioredis';
import { afterEach, describe, expect, inject, test } from 'vitest';

import { KeyRing } from '../../src/challenge/key-ring.ts';
import { RedisConnection } from '../../src/challenge/redis/connection.ts';
import { RedisStore } from '../../src/challenge/redis/store.ts';
import { defaultStoreTimes } from '../../src/challenge/store.ts';
import { type DevServer, startRedis } from '../../src/demo/dev-server.ts';
import { systemHost } from '../../src/host.ts';
import { opening, reservation } from '../challenge/store.contract.ts';

const N = 100;
const keys = new KeyRing([{ id: 'k1', notBeforeMs: 0, secret: Buffer.alloc(32, 7) }]);
type Server = DevServer & { port: number };
const cleanup: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo();
});

async function server(...args: string[]): Promise<Server> {
  const redis = await startRedis(inject('redisProgram'), ['--repl-diskless-sync', 'yes', '--repl-diskless-sync-delay', '0', ...args]);
  cleanup.push(redis.stop);
  return redis;
}

async function storeOn(redis: Server): Promise<RedisStore> {
  const connection = new RedisConnection({
    url: redis.url,
    password: undefined,
    ca: undefined,
    now: systemHost.now,
    random: systemHost.random,
    onStatus: () => {},
  });
  await connection.start();
  cleanup.push(() => connection.close());
  const roomy = { perBinding: 10_000, perAddress: 10_000, total: 10_000 };
  return new RedisStore({ connection, keys, limits: roomy, times: defaultStoreTimes, now: systemHost.now });
}

/** Sends a command to a server. */
async function tell(redis: Server, ...command: string[]): Promise<unknown> {
  const admin = new Redis(redis.url, { maxRetriesPerRequest: 2 });
  try {
    return await admin.call(command[0] as string, ...command.slice(1));
  } finally {
    admin.disconnect();
  }
}

/** Waits until something holds: replication tells nobody when it is done. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`never happened: ${what}`);
}

const info = async (redis: Server): Promise<string> => String(await tell(redis, 'INFO', 'replication'));
const replicates = (replica: Server) => until('the replica is in step', async () => /master_link_status:up/.test(await info(replica)));
const caughtUp = (from: Server, to: Server) =>
  until(
    'the replica has everything',
    async () => /master_repl_offset:(\d+)/.exec(await info(from))?.[1] === /slave_repl_offset:(\d+)/.exec(await info(to))?.[1],
  );

/** A primary and its replica, in step. */
async function pair(): Promise<[Server, Server]> {
  const [a, b] = [await server(), await server()];
  await tell(b, 'REPLICAOF', '127.0.0.1', String(a.port));
  await replicates(b);
  return [a, b];
}

type Issued = ReturnType<typeof opening>;

async function issue(store: RedisStore): Promise<Issued[]> {
  const issued: Issued[] = [];
  for (let i = 0; i < N; i++) {
    const one = opening(systemHost.now());
    expect((await store.open(one)).kind).toBe('opened');
    issued.push(one);
  }
  return issued;
}

/** Uses every nonce and counts deliveries. */
async function spend(store: RedisStore, issued: readonly Issued[], id: string): Promise<number> {
  let delivered = 0;
  for (const one of issued) {
    const mine = reservation(one, `${id}-${one.challenge.challengeId}`);
    try {
      if ((await store.reserve(mine)).kind === 'reserved' && (await store.commit(mine)) === 'done') delivered++;
    } catch {
      // not available: nothing is delivered
    }
  }
  return delivered;
}

describe('losing the primary never lets a nonce be used twice (security.md §2.2)', () => {
  test('S1: the primary is killed and comes back empty, its replica follows', async () => {
    const [a, b] = await pair();
    const issued = await issue(await storeOn(a));
    expect(await spend(await storeOn(a), issued, 'first')).toBe(N);
    const died = once(a.process, 'exit');
    a.process.kill('SIGKILL');
    await died;
    // The last --port holds: the same address, a new process, nothing in it.
    const again: Server = { ...(await server('--port', String(a.port))), url: a.url, port: a.port };
    await until('the replica follows into emptiness', async () => /master_link_status:up/.test(await info(b)) && (await tell(b, 'DBSIZE')) === 0);
    expect(await spend(await storeOn(again), issued, 'again')).toBe(0);
    await tell(b, 'REPLICAOF', 'NO', 'ONE');
    expect(await spend(await storeOn(b), issued, 'on the replica')).toBe(0);
  });

  test('S2: the replica was cut off before anything, then promoted', async () => {
    const [a, b] = await pair();
    await tell(b, 'REPLICAOF', 'NO', 'ONE');
    const store = await storeOn(a);
    const issued = await issue(store);
    expect(await spend(store, issued, 'first')).toBe(N);
    expect(await spend(await storeOn(b), issued, 'again')).toBe(0);
  });

  test('S3: issuing reached the replica, spending did not', async () => {
    const [a, b] = await pair();
    const store = await storeOn(a);
    const issued = await issue(store);
    await caughtUp(a, b);
    await tell(b, 'REPLICAOF', 'NO', 'ONE');
    expect(await spend(store, issued, 'first')).toBe(N);
    expect(await tell(b, 'EXISTS', `stepgate:{${issued[0]?.challenge.fingerprint}}:c`)).toBe(1);
    const onB = await storeOn(b);
    const [first] = issued;
    if (first !== undefined) expect(await onB.reserve(reservation(first, 'early'))).toEqual({ kind: 'refused', reason: 'epoch' });
    expect(await spend(onB, issued, 'again')).toBe(0);
  });

  test('S4: the primary dies in the middle of spending, the replica is promoted', async () => {
    const [a, b] = await pair();
    const store = await storeOn(a);
    const issued = await issue(store);
    const half = issued.slice(0, N / 2);
    expect(await spend(store, half, 'first')).toBe(N / 2);
    a.process.kill('SIGKILL');
    await tell(b, 'REPLICAOF', 'NO', 'ONE');
    expect(await spend(await storeOn(b), issued, 'again')).toBe(0);
  });

  test('S5: both serve', async () => {
    const [a, b] = await pair();
    const onA = await storeOn(a);
    const issued = await issue(onA);
    await caughtUp(a, b);
    await tell(b, 'REPLICAOF', 'NO', 'ONE');
    const onB = await storeOn(b);
    const [first, second] = await Promise.all([spend(onA, issued, 'a'), spend(onB, issued, 'b')]);
    expect([first, second]).toEqual([N, 0]);
  });

  test('fail-back: B is promoted, nonces are spent on A, A is demoted without a restart and promoted again', async () => {
    const [a, b] = await pair();
    const store = await storeOn(a);
    const issued = await issue(store);
    await caughtUp(a, b);
    await tell(b, 'REPLICAOF', 'NO', 'ONE');
    expect(await spend(store, issued, 'first')).toBe(N);
    await tell(a, 'REPLICAOF', '127.0.0.1', String(b.port));
    await replicates(a);
    await tell(a, 'REPLICAOF', 'NO', 'ONE');
    // The same process has the old, unspent records again.
    expect(await tell(a, 'EXISTS', `stepgate:{${issued[0]?.challenge.fingerprint}}:c`)).toBe(1);
    expect(await spend(await storeOn(a), issued, 'again')).toBe(0);
    expect(await spend(store, issued, 'by the old connection')).toBe(0);
  });
});
