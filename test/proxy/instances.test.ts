import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { generateKeyFile } from '../../src/challenge/key-ring.ts';
import { type DevServer, startRedis } from '../../src/demo/dev-server.ts';
import { systemHost } from '../../src/host.ts';
import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { ask, jsonOf } from '../support/raw.ts';
import { GATED_POLICY, type Stack, startStack } from '../support/stack.ts';

let upstream: CannedUpstream;
let redis: DevServer & { port: number };
let first: Stack;
let second: Stack;

beforeAll(async () => {
  [upstream, redis] = await Promise.all([startCannedUpstream(), startRedis(inject('redisProgram'))]);
  const options = { upstream: upstream.url, policy: GATED_POLICY, mounts: { 'secret/': 'kv-v2' }, redis: redis.url };
  first = await startStack(options);
  second = await startStack({ ...options, like: first });
});
afterAll(async () => {
  await Promise.all([first?.stop(), second?.stop()]);
  await Promise.all([upstream?.stop(), redis?.stop()]);
});

const read = (on: Stack, name: string, stepUp?: string) =>
  ask(on.port, 'GET', `/v1/secret/data/crit/${name}`, [
    ['X-Vault-Token', 'hvs.job'],
    ...(stepUp === undefined ? [] : ([['X-Step-Up-Token', stepUp]] as [string, string][])),
  ]);
const nonceOf = async (on: Stack, name: string) => (jsonOf(await read(on, name)) as { step_up: { nonce: string } }).step_up.nonce;

describe('two instances on one Redis', () => {
  test('show one challenge, and what one issued the other redeems, once for both', async () => {
    const nonce = await nonceOf(first, 'a');
    expect(await nonceOf(second, 'a')).toBe(nonce);
    const token = await first.sign(nonce);
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => read(i % 2 === 0 ? first : second, 'a', token)));
    expect(answers.filter((answer) => answer?.status === 200)).toHaveLength(1);
    expect(upstream.asked.filter(({ url }) => url.endsWith('/crit/a')).length).toBeLessThanOrEqual(1);
  });

  test('a new key takes over while challenges under the old one are open', async () => {
    const nonce = await nonceOf(first, 'b');
    const keys = JSON.parse(readFileSync(join(first.dir, 'keys.json'), 'utf8')) as unknown[];
    const [next] = JSON.parse(generateKeyFile(systemHost.now() - 1000, systemHost.random)) as unknown[];
    writeFileSync(join(first.dir, 'keys.json'), JSON.stringify([...keys, next]));
    const rotated = await startStack({ upstream: upstream.url, policy: GATED_POLICY, mounts: { 'secret/': 'kv-v2' }, redis: redis.url, like: first });
    expect(await nonceOf(rotated, 'b')).toBe(nonce);
    expect((await read(rotated, 'b', await first.sign(nonce)))?.status).toBe(200);
    await rotated.stop();
  });
});
