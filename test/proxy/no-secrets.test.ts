import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, inject, test } from 'vitest';

import { type DevServer, freePort, startRedis } from '../../src/demo/dev-server.ts';
import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { start } from '../support/command.ts';
import { ask, exchange, jsonOf, requestBytes } from '../support/raw.ts';
import { GATED_POLICY, type Stack, startStack } from '../support/stack.ts';

/** Values that must appear nowhere but where they were sent to. */
const marks: string[] = [];
function mark(name: string): string {
  const value = `MARK${marks.length}-${name}-9f8e7d6c5b4a39281706`;
  marks.push(value);
  return value;
}

/** Every form in which a value could show. */
function forms(value: string): string[] {
  const base64 = Buffer.from(value).toString('base64').replace(/=+$/, '');
  // In base64 of something longer the value starts at one of three offsets.
  const inner = [1, 2].map((offset) =>
    Buffer.from('x'.repeat(offset) + value)
      .toString('base64')
      .slice(4, -6),
  );
  return [value, base64, ...inner, Buffer.from(value).toString('hex'), encodeURIComponent(value), JSON.stringify(value).slice(1, -1)];
}

let upstream: CannedUpstream;
let redis: DevServer & { port: number };
let stack: Stack;
let child: ReturnType<typeof start>;
let childPort = 0;

beforeAll(async () => {
  [upstream, redis] = await Promise.all([startCannedUpstream(), startRedis(inject('redisProgram'))]);
  stack = await startStack({ upstream: upstream.url, policy: GATED_POLICY, mounts: { 'secret/': 'kv-v2' }, redis: redis.url });
  childPort = await freePort();
  // As a process of its own too, so that everything it prints can be searched.
  child = start(['serve', '--config', join(stack.dir, 'stepgate.yaml'), '--policy', stack.policyFile], {
    STEPGATE_LISTEN_VAULT_ADDRESS: `127.0.0.1:${childPort}`,
    STEPGATE_LISTEN_OPS_ADDRESS: '127.0.0.1:0',
    STEPGATE_AUDIT_DIR: join(stack.dir, 'audit-child'),
    STEPGATE_LOG_LEVEL: 'debug',
  });
  while ((await ask(childPort, 'GET', '/v1/sys/health')) === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
});

afterAll(async () => {
  await stack?.stop();
  await Promise.all([upstream?.stop(), redis?.stop()]);
});

async function walkAllRoutes(port: number): Promise<string> {
  const seen: string[] = [];
  const take = async (method: string, target: string, headers: readonly (readonly [string, string])[], body: string | null = null) => {
    const answer = await ask(port, method, target, headers, body);
    seen.push(answer === undefined ? '' : `${answer.reason} ${answer.headers.flat().join(' ')} ${answer.body.toString('latin1')}`);
    return answer;
  };
  upstream.answer = (_, response) => void response.writeHead(200).end('{"data":{}}');
  const token = ['X-Vault-Token', mark('vault-token')] as const;
  const critical = '/v1/secret/data/crit/x';
  await take('GET', '/v1/secret/data/app/x', [token]);
  await take('GET', '/v1/secret/data/app/x', [['Authorization', `Bearer ${mark('bearer')}`]]);
  await take('PUT', '/v1/secret/data/app/x', [token], JSON.stringify({ data: { [mark('key-name')]: mark('value') } }));
  await take('PUT', critical, [token], JSON.stringify({ data: { [mark('gated-key-name')]: mark('gated-value') } }));
  await take('GET', `/v1/secret/data/app/x?token=${mark('query-value')}`, [token]);
  await take('GET', `/v1/secret/data/crit/y?${mark('query-value-gated')}=1`, [token]);
  await take('PUT', `/v1/auth/token/renew/hvs.${mark('token-in-path')}`, [token]);
  await take('GET', critical, [token, ['X-Step-Up-Token', mark('bad-step-up')]]);
  await take('GET', critical, [token, ['X-Vault-MFA', `stepgate:${mark('bad-mfa')}`]]);
  await take('GET', critical, [token, ['X-Step-Up-Token', mark('one')], ['X-Vault-MFA', `stepgate:${mark('two')}`]]);
  await take('GET', '/v1/x', [token, ['X-Vault-Token', mark('second-token')]]);
  await take('GET', '/v1/x', [['X_Vault_Token', mark('underscore')]]);
  await take('GET', `/v1/../${mark('bad-path')}`, [token]);
  await take('GET', '/v1/x', [['X-Vault-Inline-Auth-Path', mark('inline')]]);
  seen.push((await exchange(port, [Buffer.from(`GET /v1/x HTTP/1.1\r\nHost: a\r\nX-Vault-Token: ${mark('broken-head')}\r\n folded\r\n\r\n`)])).toString());
  await exchange(
    port,
    [requestBytes('PUT', '/v1/secret/data/app/x', [token], null).subarray(0, -4), Buffer.from(`\r\nContent-Length: 500\r\n\r\n${mark('cut-body')}`)],
    { halfClose: true },
  );
  // The nonce and the step-up token are for the caller's eyes: they are marked only now, so that answers may hold them.
  const { nonce } = (jsonOf(await ask(port, 'GET', critical, [token])) as { step_up: { nonce: string } }).step_up;
  const stepUp = await stack.sign(nonce);
  marks.push(nonce, stepUp, stepUp.split('.')[2] as string);
  upstream.answer = (_, response) => void response.writeHead(500).end(`{"errors":["x"],"data":"${mark('upstream-error')}"}`);
  await take('GET', critical, [token, ['X-Step-Up-Token', stepUp]]);
  const secret = mark('secret');
  upstream.answer = (_, response) => void response.writeHead(200).end(`{"data":{"${mark('secret-key')}":"${secret}"}}`);
  const delivered = await ask(port, 'GET', critical, [token, ['X-Step-Up-Token', stepUp]]);
  expect(delivered?.body.toString()).toContain(secret);
  upstream.answer = (request) => {
    request.socket.write(`HTTP/1.1 200 OK\r\nX-Evil: ${mark('bad-upstream')}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n`);
    request.socket.end();
  };
  await take('GET', '/v1/secret/data/app/x', [token]);
  return seen.join('\n');
}

test('no token, nonce, body, key name or query value shows in an answer, in the log, in the audit log, in the figures or in Redis', async () => {
  const places: [string, string][] = [];
  for (const port of [stack.port, childPort]) places.push([`answers of ${port}`, await walkAllRoutes(port)]);
  const { Redis } = await import('ioredis');
  const admin = new Redis(redis.url);
  for (const key of await admin.keys('*')) {
    const value =
      (await admin.type(key)) === 'hash'
        ? JSON.stringify(await admin.hgetall(key))
        : (await admin.type(key)) === 'zset'
          ? (await admin.zrange(key, '0', '-1')).join()
          : await admin.get(key);
    places.push(['Redis', `${key} ${value}`]);
  }
  await admin.quit();
  places.push(['figures', await (await fetch(`http://127.0.0.1:${stack.served.opsPort}/metrics`)).text()]);
  child.process.kill('SIGTERM');
  const { code, stdout, stderr } = await child.ended;
  expect(code).toBe(0);
  places.push(['standard output', stdout], ['standard error', stderr]);
  for (const dir of ['audit', 'audit-child']) {
    for (const name of readdirSync(join(stack.dir, dir))) {
      if (name.endsWith('.jsonl')) places.push([dir, readFileSync(join(stack.dir, dir, name), 'utf8')]);
    }
  }
  const found = places.flatMap(([place, text]) =>
    marks.flatMap((value) =>
      forms(value)
        .filter((form) => form.length > 8 && text.includes(form))
        .map((form) => `${place}: ${value} as ${form}`),
    ),
  );
  expect(marks.length).toBeGreaterThan(40);
  expect(places.reduce((sum, [, text]) => sum + text.length, 0)).toBeGreaterThan(20_000);
  expect(found).toEqual([]);
}, 120_000);
