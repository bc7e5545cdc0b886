import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { type DevServer, startRedis, startVault } from '../../src/demo/dev-server.ts';
import { systemHost } from '../../src/host.ts';
import { parseSigningKey } from '../../src/identity/sign.ts';
import { ask, jsonOf, type RawAnswer } from '../support/raw.ts';
import { ISSUER, type PolicyData, type Stack, startStack } from '../support/stack.ts';

const ROOT = 'step-up-root';
const policy: PolicyData = {
  version: 1,
  tiers: [{ name: 'open' }, { name: 'critical', step_up: { accept: ['ci'], max_age: '5m' } }, { name: 'forbidden', deny: 'ask the security team' }],
  default_tier: 'open',
  unknown_mount: 'critical',
  system: { admin: 'open', exits: 'forbidden' },
  rules: [
    { secret: 'secret/crit/*', tier: 'critical', operations: ['all'] },
    { secret: 'kv1/crit/*', tier: 'critical', operations: ['all'] },
    { secret: 'secret/crit/*', tier: 'critical', operations: ['all'], namespace: 'ns1' },
    { secret: 'secret/never/*', tier: 'forbidden' },
  ],
};

let vault: DevServer;
let redis: DevServer & { port: number };
let stack: Stack;
let jobA = '';
let jobB = '';

const direct = (method: string, path: string, body: unknown, namespace?: string) =>
  ask(
    Number(new URL(vault.url).port),
    method,
    `/v1/${path}`,
    [['X-Vault-Token', ROOT], ...(namespace === undefined ? [] : ([['X-Vault-Namespace', namespace]] as [string, string][]))],
    JSON.stringify(body),
  );

beforeAll(async () => {
  [vault, redis] = await Promise.all([startVault(inject('vaultProgram'), ROOT), startRedis(inject('redisProgram'))]);
  await direct('POST', 'sys/mounts/kv1', { type: 'kv' });
  await direct('POST', 'sys/namespaces/ns1', {});
  await direct('POST', 'sys/mounts/secret', { type: 'kv', options: { version: '2' } }, 'ns1');
  for (const name of ['db', 'other'])
    for (const value of ['one', 'two']) await direct('POST', `secret/data/crit/${name}`, { data: { password: `PW-${name}-${value}` } });
  await direct('POST', 'secret/data/never/x', { data: { a: 1 } });
  await direct('POST', 'secret/data/app/x', { data: { color: 'blue' } });
  await direct('POST', 'kv1/crit/db', { password: 'PW-kv1' });
  await direct('POST', 'secret/data/crit/db', { data: { password: 'PW-ns1' } }, 'ns1');
  await direct('PUT', 'sys/policies/acl/job', {
    policy:
      'path "secret/*" { capabilities = ["create","read","update","delete","list"] }\npath "kv1/*" { capabilities = ["read"] }\npath "ns1/secret/*" { capabilities = ["read"] }',
  });
  await direct('PUT', 'sys/policies/acl/nobody', { policy: 'path "cubbyhole/x" { capabilities = ["read"] }' });
  const token = async (...policies: string[]) =>
    (jsonOf(await direct('POST', 'auth/token/create', { policies })) as { auth: { client_token: string } }).auth.client_token;
  [jobA, jobB] = [await token('job'), await token('job')];
  stack = await startStack({
    upstream: vault.url,
    policy,
    rootToken: ROOT,
    redis: redis.url,
    settings: { challenges: { store: 'redis', url: redis.url, limits: { per_binding: 1000, per_address: 1000 } } },
  });
});

afterAll(async () => {
  await stack?.stop();
  await Promise.all([vault?.stop(), redis?.stop()]);
});

interface Asked {
  readonly method?: string;
  readonly target?: string;
  readonly token?: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: string | null;
}

const send = ({ method = 'GET', target = '/v1/secret/data/crit/db', token = jobA, headers = [], body = null }: Asked = {}, stepUp?: string) =>
  ask(
    stack.port,
    method,
    target,
    [['X-Vault-Token', token], ...headers, ...(stepUp === undefined ? [] : ([['X-Step-Up-Token', stepUp]] as [string, string][]))],
    body,
  );

interface StepUpBody {
  readonly step_up: { readonly nonce: string; readonly challenge_id: string; readonly error?: string };
}

async function nonceFor(asked: Asked = {}): Promise<string> {
  const answer = await send(asked);
  expect(answer?.status).toBe(401);
  return (jsonOf(answer) as unknown as StepUpBody).step_up.nonce;
}

const codeOf = (answer: RawAnswer | undefined) => `${answer?.status} ${(jsonOf(answer) as unknown as StepUpBody).step_up?.error ?? ''}`;

describe('the challenge', () => {
  test('is a 401 that says what to do in every place where a client may look', async () => {
    const answer = await send();
    expect(answer?.status).toBe(401);
    expect(answer?.reason).toMatch(/^step-up required: .*X-Step-Up-Token$/);
    const header = (name: string) => answer?.headers.find(([other]) => other.toLowerCase() === name)?.[1] ?? '';
    expect(header('www-authenticate')).toMatch(/^Bearer realm="stepgate", error="insufficient_user_authentication".*max_age="300"$/);
    expect(header('cache-control')).toBe('no-store');
    const body = jsonOf(answer) as unknown as StepUpBody & { errors: string[]; step_up: Record<string, unknown> };
    expect(body.errors).toHaveLength(1);
    expect(body.errors[0]?.split('\n')).toHaveLength(2);
    expect(body.errors[0]).toContain('secret/data/crit/db is critical');
    expect(body.step_up).toMatchObject({
      tier: 'critical',
      header: 'X-Step-Up-Token',
      required: { max_age: 300, any_of: [{ proof: 'ci', nonce_in: 'nonce' }] },
    });
  });

  test('is the same for the same request by the same caller, and another for any other', async () => {
    const first = await nonceFor();
    expect(await nonceFor()).toBe(first);
    expect(await nonceFor({ target: '/v1/%73ecret/data/crit%2Fdb' })).toBe(first);
    expect(await nonceFor({ token: jobB })).not.toBe(first);
    expect(await nonceFor({ target: '/v1/secret/data/crit/db?version=1' })).not.toBe(first);
  });

  test('is never shown to who has nothing to do with the path', async () => {
    const nobody = (jsonOf(await direct('POST', 'auth/token/create', { policies: ['nobody'], no_default_policy: true })) as { auth: { client_token: string } })
      .auth.client_token;
    for (const token of ['hvs.unknown', nobody]) {
      for (const target of ['/v1/secret/data/crit/db', '/v1/secret/data/never/x', '/v1/nowhere/x']) {
        const answer = await send({ token, target });
        expect(answer?.status).toBe(403);
        expect(answer?.body.toString()).not.toMatch(/critical|step|tier|security team/i);
      }
    }
    const none = await ask(stack.port, 'GET', '/v1/secret/data/crit/db');
    expect([none?.status, none?.body.toString()]).toEqual([403, '{"errors":["permission denied"]}\n']);
  });

  test('a tier that denies says whom to ask', async () => {
    const answer = await send({ target: '/v1/secret/data/never/x' });
    expect([answer?.status, jsonOf(answer)]).toEqual([403, { errors: ['denied by policy (forbidden): ask the security team'] }]);
  });
});

test('the mount that is reserved for our own API is refused by name, in every namespace', async () => {
  for (const [target, headers] of [
    ['/v1/stepgate/approve', []],
    ['/v1/ns1/stepgate/approve', []],
    ['/v1/stepgate/approve', [['X-Vault-Namespace', 'ns1']]],
  ] as const) {
    const answer = await send({ target, headers });
    expect([answer?.status, jsonOf(answer)]).toEqual([404, { errors: [expect.stringContaining('not available in this version')] }]);
  }
});

describe('a step-up token', () => {
  const uses: readonly [string, Asked, string][] = [
    ['a read', {}, 'PW-db-two'],
    ['an old version', { target: '/v1/secret/data/crit/db?version=1' }, 'PW-db-one'],
    ['KV version 1', { target: '/v1/kv1/crit/db' }, 'PW-kv1'],
    ['another spelling of the request that was challenged', { target: '/v1/secret%2Fdata/crit/db' }, 'PW-db-two'],
    ['a listing', { method: 'LIST', target: '/v1/secret/metadata/crit' }, '"db"'],
    ['a namespace', { token: ROOT, headers: [['X-Vault-Namespace', 'ns1']] }, 'PW-ns1'],
    ['a wrapped read', { headers: [['X-Vault-Wrap-TTL', '60s']] }, 'wrap_info'],
    ['a write', { method: 'PUT', target: '/v1/secret/data/crit/written', body: '{"data":{"password":"new"}}' }, '"version":1'],
  ];
  test.for(uses)('lets %s through once, and only once', async ([, asked, shows]) => {
    const token = await stack.sign(await nonceFor(asked));
    const passed = await send(asked, token);
    expect(passed?.status).toBe(200);
    expect(passed?.body.toString()).toContain(shows);
    expect(codeOf(await send(asked, token))).toBe('401 step_up_nonce_spent');
  });

  test('may come as X-Vault-MFA, and two that differ are refused', async () => {
    const token = await stack.sign(await nonceFor());
    expect((await send({ headers: [['X-Vault-MFA', 'stepgate:other']] }, token))?.status).toBe(400);
    expect((await send({ headers: [['X-Vault-MFA', `stepgate:${token}`]] }))?.status).toBe(200);
  });

  const substitutions: readonly [string, () => Asked][] = [
    ['another path', () => ({ target: '/v1/secret/data/crit/other' })],
    ['another version', () => ({ target: '/v1/secret/data/crit/db?version=1' })],
    ['another mount', () => ({ target: '/v1/kv1/crit/db' })],
    ['another namespace', () => ({ headers: [['X-Vault-Namespace', 'ns1']], token: ROOT })],
    ['another operation', () => ({ method: 'DELETE' })],
    ['another endpoint', () => ({ target: '/v1/secret/metadata/crit/db' })],
    ['another Vault token', () => ({ token: jobB })],
    ['a wrap TTL', () => ({ headers: [['X-Vault-Wrap-TTL', '60s']] })],
    ['a wrap format', () => ({ headers: [['X-Vault-Wrap-Format', 'jwt']] })],
    ['a write', () => ({ method: 'PUT', body: '{"data":{}}' })],
    ['one query parameter more', () => ({ target: '/v1/secret/data/crit/db?x=1' })],
  ];
  test.for(substitutions)('for one request is refused for %s, and stays good for its own', async ([, other]) => {
    const token = await stack.sign(await nonceFor());
    expect(codeOf(await send(other(), token))).toBe('401 step_up_nonce_unknown');
    expect((await send({}, token))?.status).toBe(200);
  });

  test('a write is bound to its body and its type', async () => {
    const asked = { method: 'PUT', target: '/v1/secret/data/crit/bound', body: '{"data":{"a":"1"}}' };
    const token = await stack.sign(await nonceFor(asked));
    expect(codeOf(await send({ ...asked, body: '{"data":{"a":"2"}}' }, token))).toBe('401 step_up_nonce_unknown');
    expect(codeOf(await send({ ...asked, headers: [['Content-Type', 'application/x-www-form-urlencoded']] }, token))).toBe('401 step_up_nonce_unknown');
    expect((await send(asked, token))?.status).toBe(200);
  });

  const tampered: readonly [string, (nonce: string) => Promise<string>, string][] = [
    ['another issuer', (nonce) => stack.sign(nonce, { issuer: 'https://evil' }), 'step_up_issuer'],
    ['another audience', (nonce) => stack.sign(nonce, { audience: 'https://evil' }), 'step_up_audience'],
    ['another nonce', () => stack.sign('A'.repeat(43)), 'step_up_nonce_unknown'],
    ['an old token', (nonce) => stack.sign(nonce, { nowMs: Date.now() - 600_000 }), 'step_up_expired'],
    ['a token of the future', (nonce) => stack.sign(nonce, { nowMs: Date.now() + 600_000 }), 'step_up_not_yet_valid'],
    ['an old sign-in', (nonce) => stack.sign(nonce, { authTime: Math.floor(Date.now() / 1000) - 600 }), 'step_up_auth_time'],
    ['a changed signature', async (nonce) => `${(await stack.sign(nonce)).slice(0, -8)}AAAAAAAA`, 'step_up_signature'],
    ['no token at all', async () => 'x', 'step_up_malformed'],
  ];
  test.for(tampered)('with %s is refused', async ([, make, code]) => {
    const nonce = await nonceFor();
    expect(codeOf(await send({}, await make(nonce)))).toBe(`401 ${code}`);
    // None of it used the nonce up.
    expect((await send({}, await stack.sign(nonce)))?.status).toBe(200);
  });

  test('lets a namespace in the path through also where it is not known which namespaces there are', async () => {
    const unknowing = await startStack({ upstream: vault.url, policy, mounts: { 'secret/': 'kv-v2' } });
    const asked = (headers: readonly (readonly [string, string])[] = [], token = ROOT) =>
      ask(unknowing.port, 'GET', '/v1/ns1/secret/data/crit/db', [['X-Vault-Token', token], ...headers]);
    expect((await asked([], 'hvs.unknown'))?.status).toBe(403);
    const { nonce } = (jsonOf(await asked()) as unknown as StepUpBody).step_up;
    expect((await asked([['X-Step-Up-Token', await unknowing.sign(nonce)]]))?.body.toString()).toContain('PW-ns1');
    await unknowing.stop();
  });

  test('is refused after its challenge has expired', async () => {
    let laterMs = 0;
    const other = await startStack({ upstream: vault.url, policy, rootToken: ROOT, host: { ...systemHost, now: () => Date.now() + laterMs } });
    const asked = (headers: readonly (readonly [string, string])[]) => ask(other.port, 'GET', '/v1/secret/data/crit/db', [['X-Vault-Token', jobA], ...headers]);
    const { nonce } = (jsonOf(await asked([])) as unknown as StepUpBody).step_up;
    laterMs = 601_000;
    expect(codeOf(await asked([['X-Step-Up-Token', await other.sign(nonce, { nowMs: Date.now() + laterMs })]]))).toBe('401 step_up_nonce_expired');
    await other.stop();
  });

  test('is refused when what its tier requires has changed since, and not for a comment', async () => {
    const changing = await startStack({ upstream: vault.url, policy, rootToken: ROOT });
    const asked = (headers: readonly (readonly [string, string])[] = []) =>
      ask(changing.port, 'GET', '/v1/secret/data/crit/db', [['X-Vault-Token', jobA], ...headers]);
    const nonce = async () => (jsonOf(await asked()) as unknown as StepUpBody).step_up.nonce;
    const before = readFileSync(changing.policyFile, 'utf8');
    const first = await nonce();
    writeFileSync(changing.policyFile, `# a comment\n${before}`);
    changing.served.reload();
    expect((await asked([['X-Step-Up-Token', await changing.sign(first)]]))?.status).toBe(200);
    const second = await nonce();
    writeFileSync(changing.policyFile, before.replace('max_age: 5m', 'max_age: 4m'));
    changing.served.reload();
    expect(codeOf(await asked([['X-Step-Up-Token', await changing.sign(second)]]))).toBe('401 step_up_digest');
    const third = await nonce();
    expect(third).not.toBe(second);
    expect((await asked([['X-Step-Up-Token', await changing.sign(third)]]))?.status).toBe(200);
    await changing.stop();
  });

  test('that names a digest is good for that digest alone', async () => {
    const key = parseSigningKey(readFileSync(join(stack.dir, 'issuer.json'), 'utf8'));
    const challenge = (jsonOf(await send()) as unknown as { step_up: { nonce: string; digest: string } }).step_up;
    const naming = (req: string) =>
      new SignJWT({ nonce: challenge.nonce, authorization_details: [{ type: 'stepgate_secret_access', req }] })
        .setProtectedHeader({ alg: key.algorithm, kid: key.kid })
        .setIssuer(ISSUER)
        .setAudience(stack.url)
        .setSubject('alice')
        .setJti('j')
        .setIssuedAt()
        .setExpirationTime('2m')
        .sign(key.key);
    expect(codeOf(await send({}, await naming('another')))).toBe('401 step_up_digest');
    expect((await send({}, await naming(challenge.digest)))?.status).toBe(200);
  });

  test('with 40 racers at once delivers exactly once, 20 times', async () => {
    for (let round = 0; round < 20; round++) {
      const token = await stack.sign(await nonceFor());
      const answers = await Promise.all(Array.from({ length: 40 }, () => send({}, token)));
      const delivered = answers.filter((answer) => answer?.body.includes('PW-db'));
      expect(delivered).toHaveLength(1);
      for (const answer of answers)
        if (answer?.status !== 200) expect(['401 step_up_nonce_spent', '401 step_up_nonce_inflight', '401 step_up_nonce_unknown']).toContain(codeOf(answer));
    }
  });

  test('is given back when the server refuses: a missing secret costs no approval', async () => {
    const asked = { target: '/v1/secret/data/crit/missing' };
    const token = await stack.sign(await nonceFor(asked));
    expect((await send(asked, token))?.status).toBe(404);
    await direct('POST', 'secret/data/crit/missing', { data: { password: 'PW-late' } });
    expect((await send(asked, token))?.body.toString()).toContain('PW-late');
  });
});

describe('the log', () => {
  test('holds a decision, a release and an outcome of a delivery, and nobody is named twice for a nonce', async () => {
    const isReleased = ({ type, commit }: Record<string, unknown>) => type === 'release' && commit === 'ok';
    const hasOutcome = (all: Record<string, unknown>[], id: unknown) => all.some(({ type, request_id: other }) => type === 'outcome' && other === id);
    let entries = stack.audit();
    // An outcome is written behind the answer: nobody waits for it but this test.
    while (!entries.filter(isReleased).every(({ request_id: id }) => hasOutcome(entries, id))) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      entries = stack.audit();
    }
    const released = entries.filter(isReleased);
    expect(released.length).toBeGreaterThan(10);
    expect(new Set(released.map(({ nonce_hash: hash }) => hash)).size).toBe(released.length);
    for (const { request_id: id } of released)
      expect(entries.filter(({ request_id: other }) => other === id).map(({ type }) => type)).toEqual(['decision', 'release', 'outcome']);
  });
});
