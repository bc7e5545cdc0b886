import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { type DevServer, startRedis } from '../../src/demo/dev-server.ts';
import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { ask, jsonOf } from '../support/raw.ts';
import { GATED_POLICY, type Stack, startStack } from '../support/stack.ts';

const TOKEN = ['X-Vault-Token', 'hvs.job'] as const;

let upstream: CannedUpstream;
let redis: DevServer & { port: number };
let stack: Stack;

beforeAll(async () => {
  [upstream, redis] = await Promise.all([startCannedUpstream(), startRedis(inject('redisProgram'))]);
  stack = await startStack({ upstream: upstream.url, policy: GATED_POLICY, mounts: { 'secret/': 'kv-v2' }, redis: redis.url });
});
afterAll(async () => {
  await stack?.stop();
  await Promise.all([upstream?.stop(), redis?.stop()]);
});

const read = (path: string, headers: readonly (readonly [string, string])[] = []) => ask(stack.port, 'GET', `/v1/secret/data/${path}`, [TOKEN, ...headers]);
const ready = async (query = '') => (await fetch(`http://127.0.0.1:${stack.served.opsPort}/readyz${query}`)).status;

describe('a Redis that freezes between reserving and committing', () => {
  test('costs the step-up, and delivers not one byte', async () => {
    const { nonce } = (jsonOf(await read('crit/between')) as { step_up: { nonce: string } }).step_up;
    upstream.answer = (_, response) => {
      redis.process.kill('SIGSTOP');
      response.writeHead(200).end('{"data":{"value":"SECRET"}}');
    };
    const answer = await read('crit/between', [['X-Step-Up-Token', await stack.sign(nonce)]]);
    redis.process.kill('SIGCONT');
    expect(answer?.status).toBe(503);
    expect(answer?.body.toString()).not.toContain('SECRET');
    upstream.answer = (_, response) => void response.writeHead(200).end('{}');
    while ((await ready('?tier=critical')) !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
    const again = await read('crit/between', [['X-Step-Up-Token', await stack.sign(nonce)]]);
    expect(again?.status).toBe(401);
    expect(stack.audit().filter(({ type, commit }) => type === 'release' && commit === 'failed')).toHaveLength(1);
  });
});

describe('a Redis that is frozen, then dead', () => {
  test('stops gated requests at once and nothing else', async () => {
    const { nonce } = (jsonOf(await read('crit/x')) as { step_up: { nonce: string } }).step_up;
    expect([await ready(), await ready('?tier=critical')]).toEqual([200, 200]);
    redis.process.kill('SIGSTOP');
    const token = await stack.sign(nonce);
    for (const headers of [[], [['X-Step-Up-Token', token]]] as const) {
      const answer = await read('crit/y', headers);
      expect(answer?.status).toBe(503);
      expect(jsonOf(answer)).toHaveProperty('errors');
      expect(answer?.headers.some(([name]) => name.toLowerCase() === 'retry-after')).toBe(false);
    }
    expect((await read('app/x'))?.status).toBe(200);
    expect([await ready(), await ready('?tier=critical')]).toEqual([200, 503]);
    redis.process.kill('SIGCONT');
    // The store is looked at every second while it cannot be used.
    while ((await ready('?tier=critical')) !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await read('crit/x', [['X-Step-Up-Token', token]]))?.status).toBe(200);
    redis.process.kill('SIGKILL');
    while ((await ready('?tier=critical')) !== 503) await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await read('crit/x'))?.status).toBe(503);
    expect((await read('app/x'))?.status).toBe(200);
    const decisions = stack.audit().filter(({ type, reason_code: code }) => type === 'decision' && code === 'store_unavailable');
    expect(decisions.length).toBeGreaterThan(0);
  });
});
