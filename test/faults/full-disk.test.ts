import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { ask, jsonOf } from '../support/raw.ts';
import { type PolicyData, readAudit, type Stack, startStack } from '../support/stack.ts';

const policy: PolicyData = {
  version: 1,
  tiers: [
    { name: 'open' },
    { name: 'lenient', on_audit_failure: 'gap' },
    { name: 'critical', step_up: { accept: ['ci'] } },
    { name: 'unlogged', step_up: { accept: ['ci'] }, on_audit_failure: 'gap' },
  ],
  default_tier: 'open',
  unknown_mount: 'critical',
  system: { admin: 'open', exits: 'critical' },
  rules: [
    { secret: 'secret/crit/*', tier: 'critical' },
    { secret: 'secret/lenient/*', tier: 'lenient' },
    { secret: 'secret/unlogged/*', tier: 'unlogged' },
  ],
};
const TOKEN = ['X-Vault-Token', 'hvs.job'] as const;
const dir = mkdtempSync(join(tmpdir(), 'stepgate-full-'));
// A small file system of its own needs root; the log's own full-disk test does without.
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]).status === 0;

let upstream: CannedUpstream;
let stack: Stack;

beforeAll(async () => {
  upstream = await startCannedUpstream();
  stack = await startStack({ upstream: upstream.url, policy, mounts: { 'secret/': 'kv-v2' }, settings: { audit: { dir: join(dir, 'audit') } } });
});
afterAll(async () => {
  await stack?.stop();
  await upstream?.stop();
  if (mounted) spawnSync('umount', [dir]);
  rmSync(dir, { recursive: true, force: true });
});

const read = async (path: string, headers: readonly (readonly [string, string])[] = [], method = 'GET') =>
  (await ask(stack.port, method, `/v1/${path}`, [TOKEN, ...headers]))?.status;

describe.runIf(mounted)('a full disk', () => {
  test('stops what must be logged, lets through what need not be, and costs no step-up', async () => {
    const challenge = jsonOf(await ask(stack.port, 'GET', '/v1/secret/data/crit/x', [TOKEN])) as { step_up: { nonce: string } };
    const stepUp: [string, string] = ['X-Step-Up-Token', await stack.sign(challenge.step_up.nonce)];
    const { bavail, bsize } = statfsSync(dir);
    const ballast = join(dir, 'ballast');
    writeFileSync(ballast, Buffer.alloc(bavail * bsize - bsize));
    // The page that is left, and the space that the log keeps for this, are used up first.
    for (let status: number | undefined = 200; status === 200; ) status = await read('secret/data/app/x');
    expect(await read('secret/data/app/x')).toBe(503); // reveals
    expect(await read('secret/data/crit/x')).toBe(503); // a challenge
    expect(await read('secret/data/crit/x', [stepUp])).toBe(503);
    expect(await read('secret/data/lenient/x')).toBe(200);
    expect(await read('secret/data/unlogged/x')).toBe(401); // a challenge, since its tier says so
    expect(await read('secret/metadata/app?list=true')).toBe(200);
    expect(await read('auth/token/lookup-self')).toBe(200);
    const asked = upstream.asked.length;
    rmSync(ballast);
    while ((await read('secret/data/app/x')) !== 200) await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await read('secret/data/crit/x', [stepUp])).toBe(200);
    expect(upstream.asked.length).toBeGreaterThan(asked);
    const gaps = readAudit(join(dir, 'audit')).filter(({ type }) => type === 'gap');
    expect(gaps.map(({ state }) => state)).toEqual(['begins', 'ends']);
    expect(Number(gaps[1]?.['count'])).toBeGreaterThan(5);
  });
});
