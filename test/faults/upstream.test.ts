import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { ask, exchange, jsonOf, parseAnswers, requestBytes } from '../support/raw.ts';
import { GATED_POLICY, type Stack, startStack } from '../support/stack.ts';

const TOKEN = ['X-Vault-Token', 'hvs.job'] as const;
const ORDINARY = '/v1/secret/data/app/x';
const CRITICAL = '/v1/secret/data/crit/x';

let upstream: CannedUpstream;
let other: CannedUpstream;
let stack: Stack;
let pair: Stack;

beforeAll(async () => {
  [upstream, other] = await Promise.all([startCannedUpstream(), startCannedUpstream()]);
  const mounts = { 'secret/': 'kv-v2' };
  const challenges = { store: 'memory', limits: { per_binding: 1000, per_address: 1000 } };
  stack = await startStack({
    upstream: upstream.url,
    policy: GATED_POLICY,
    mounts,
    settings: { challenges, upstream: { nodes: [upstream.url], mounts, timeout: '1s' } },
  });
  pair = await startStack({ upstream: [upstream.url, other.url], policy: GATED_POLICY, mounts, settings: { challenges } });
});

beforeEach(() => {
  for (const one of [upstream, other]) {
    one.asked.splice(0);
    one.health = 200;
    one.answer = (_, response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{"data":{"value":"SECRET"}}');
  }
});

afterAll(async () => {
  await Promise.all([stack?.stop(), pair?.stop()]);
  await Promise.all([upstream?.stop(), other?.stop()]);
});

async function stepUp(on: Stack, method = 'GET', target = CRITICAL, body: string | null = null): Promise<readonly [string, string][]> {
  const challenge = jsonOf(await ask(on.port, method, target, [TOKEN], body)) as { step_up: { nonce: string } };
  return [['X-Step-Up-Token', await on.sign(challenge.step_up.nonce)]];
}

/** Sends with a step-up and tells how its nonce ended up, by sending it again to an upstream that works. */
async function afterwards(on: Stack, headers: readonly (readonly [string, string])[], method = 'GET', body: string | null = null): Promise<string> {
  upstream.answer = (_, response) => void response.writeHead(200).end('{"data":{"value":"SECRET"}}');
  const again = await ask(on.port, method, CRITICAL, [TOKEN, ...headers], body);
  return again?.status === 200 ? 'was given back' : (jsonOf(again) as { step_up: { error: string } }).step_up.error;
}

describe('an ordinary request', () => {
  test('reaches the server as it was classified, with our id and nothing else of ours', async () => {
    await ask(stack.port, 'GET', '/v1/secret%2Fdata%2Fapp/x?version=1', [
      TOKEN,
      ['X-Step-Up-Token', 'x'],
      ['X-Stepgate-Job', 'x'],
      ['X-Forwarded-For', '1.2.3.4'],
      ['X-A', 'b'],
    ]);
    const [asked] = upstream.asked;
    expect([asked?.method, asked?.url]).toEqual(['GET', '/v1/secret/data/app/x?version=1']);
    const names = asked?.headers.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
    expect(names?.sort()).toEqual(['connection', 'host', 'x-a', 'x-stepgate-request-id', 'x-vault-token']);
  });

  test('LIST, bodies and answers pass as they are', async () => {
    upstream.answer = (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => response.writeHead(299, 'Odd', { 'x-vault-index': 'i' }).end(Buffer.concat(chunks)));
    };
    const body = 'x'.repeat(3_000_000);
    const answer = await ask(stack.port, 'PUT', ORDINARY, [TOKEN], body);
    expect([answer?.status, answer?.reason, answer?.body.toString() === body]).toEqual([299, 'Odd', true]);
    const chunked = Buffer.concat([
      Buffer.from(`POST ${ORDINARY} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`),
      ...Array.from({ length: 50 }, () => Buffer.from('5\r\nabcde\r\n')),
      Buffer.from('0\r\n\r\n'),
    ]);
    expect(parseAnswers(await exchange(stack.port, [chunked]))[0]?.body.toString()).toBe('abcde'.repeat(50));
  });

  test.for([
    ['a redirect to another host', 301, 'http://evil.example/v1/secret', 502],
    ['a redirect without a scheme', 302, '//evil.example/v1', 502],
    ['a redirect with a backslash', 302, '/\\evil.example', 502],
    ['a standby without an active node', 307, 'http://10.0.0.1:8200/v1/secret', 503],
    ['a redirect within', 307, '/ui/', 307],
  ] as const)('%s: %i to %s is answered %i', async ([, status, location, answered]) => {
    upstream.answer = (_, response) => void response.writeHead(status, { location }).end();
    const answer = await ask(stack.port, 'GET', ORDINARY, [TOKEN]);
    expect(answer?.status).toBe(answered);
    expect(JSON.stringify(answer?.headers)).not.toMatch(/evil|10\.0\.0\.1/);
  });

  test('a standby is passed over for the active node, once', async () => {
    upstream.answer = (_, response) => void response.writeHead(307, { location: 'http://10.0.0.1:8200/x' }).end();
    upstream.health = 429;
    const answer = await ask(pair.port, 'GET', ORDINARY, [TOKEN]);
    expect([answer?.status, other.asked.length]).toEqual([200, 1]);
  });

  test('a server that dies in the middle of an answer ends in a cut, never in an answer that looks whole', async () => {
    for (const head of ['Content-Length: 1000\r\n', 'Transfer-Encoding: chunked\r\n']) {
      upstream.answer = (request) => {
        request.socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n${head.startsWith('T') ? '5\r\n{"dat\r\n' : '{"dat'}`);
        setImmediate(() => request.socket.resetAndDestroy());
      };
      const socket = connect(stack.port, '127.0.0.1');
      socket.write(requestBytes('GET', ORDINARY, [TOKEN]));
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
      expect(error.code).toBe('ECONNRESET');
    }
  });

  test('a server that does not answer in time is a 504, one that cannot be reached a 502', async () => {
    upstream.answer = () => {};
    expect((await ask(stack.port, 'GET', ORDINARY, [TOKEN]))?.status).toBe(504);
    const gone = await startCannedUpstream();
    const lonely = await startStack({ upstream: gone.url, policy: GATED_POLICY, mounts: { 'secret/': 'kv-v2' } });
    await gone.stop();
    expect((await ask(lonely.port, 'GET', ORDINARY, [TOKEN]))?.status).toBe(502);
    await lonely.stop();
  });

  test('a client that goes away cancels its request', async () => {
    const cancelled = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    upstream.answer = (_, response) => {
      arrived.resolve();
      response.on('close', () => cancelled.resolve());
    };
    const socket = connect(stack.port, '127.0.0.1');
    socket.write(requestBytes('GET', ORDINARY, [TOKEN]));
    await arrived.promise;
    socket.resetAndDestroy();
    await cancelled.promise;
    expect(upstream.asked).toHaveLength(1);
  });

  test('300 clients that stop reading, and then go away, leave a proxy that serves', async () => {
    upstream.answer = (_, response) => void response.writeHead(200).end(Buffer.alloc(5_000_000));
    const held = await Promise.all(
      Array.from({ length: 300 }, async () => {
        const socket = connect(stack.port, '127.0.0.1');
        socket.on('error', () => {});
        socket.write(requestBytes('GET', ORDINARY, [TOKEN]));
        await once(socket, 'data');
        return socket.pause();
      }),
    );
    upstream.answer = (_, response) => void response.writeHead(200).end('{}');
    const ordinary = async () => {
      for (let i = 0; i < 20; i++) expect((await ask(stack.port, 'GET', ORDINARY, [TOKEN]))?.status).toBe(200);
    };
    await ordinary();
    for (const socket of held) socket.destroy();
    await ordinary();
  });

  test('is not smuggled behind a body that the method may not have', async () => {
    const bytes = Buffer.from(
      `DELETE ${ORDINARY} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /v1/secret/data/crit/x HTTP/1.1\r\nHost: a\r\n\r\n`,
    );
    const answers = parseAnswers(await exchange(stack.port, [bytes]));
    expect(answers.map(({ status }) => status)).toEqual([400]);
    expect(upstream.asked).toEqual([]);
  });
});

describe('a stepped-up request', () => {
  test.for<[string, (request: IncomingMessage, response: ServerResponse) => void, number, string]>([
    [
      'the server is sealed',
      (_: unknown, response: ServerResponse) => void response.writeHead(503).end('{"errors":["Vault is sealed"]}'),
      503,
      'was given back',
    ],
    ['the server breaks off before its answer', (request: IncomingMessage) => void request.socket.destroy(), 502, 'was given back'],
    ['the server does not answer', () => {}, 504, 'was given back'],
    ['the server redirects', (_: unknown, response: ServerResponse) => void response.writeHead(302, { location: '/v1/x' }).end(), 502, 'was given back'],
  ])('when %s, is answered %i and its nonce %s', async ([, answer, status, ending]) => {
    const headers = await stepUp(stack);
    upstream.answer = answer;
    expect((await ask(stack.port, 'GET', CRITICAL, [TOKEN, ...headers]))?.status).toBe(status);
    expect(await afterwards(stack, headers)).toBe(ending);
  });

  test('a write that may have taken effect is spent', async () => {
    const headers = await stepUp(stack, 'PUT', CRITICAL, '{}');
    upstream.answer = (request) => void request.socket.destroy();
    expect((await ask(stack.port, 'PUT', CRITICAL, [TOKEN, ...headers], '{}'))?.status).toBe(502);
    expect(await afterwards(stack, headers, 'PUT', '{}')).toBe('step_up_nonce_spent');
  });

  test('an answer that breaks off in the middle is cut, and its nonce is spent', async () => {
    const headers = await stepUp(stack);
    upstream.answer = (request) => {
      request.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"dat');
      // After the commit: the first bytes are on their way then.
      setTimeout(() => request.socket.resetAndDestroy(), 200);
    };
    const socket = connect(stack.port, '127.0.0.1');
    socket.write(requestBytes('GET', CRITICAL, [TOKEN, ...headers]));
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNRESET');
    expect(await afterwards(stack, headers)).toBe('step_up_nonce_spent');
  });

  test('is committed before the first byte of its answer', async () => {
    const headers = await stepUp(stack);
    upstream.answer = (_, response) => {
      response.writeHead(200);
      response.write('{"data":{"value":"SECRET"}');
      setTimeout(() => response.end('}'), 300);
    };
    const first = ask(stack.port, 'GET', CRITICAL, [TOKEN, ...headers]);
    const socket = connect(stack.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.destroy();
    while (upstream.asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const second = await ask(stack.port, 'GET', CRITICAL, [TOKEN, ...headers]);
    expect(second?.status).toBe(401);
    expect((await first)?.body.toString()).toContain('SECRET');
    expect(upstream.asked).toHaveLength(1);
  });

  test.for([
    ['an error with data beside it', 400, '{"errors":["x"],"data":{"value":"SECRET"}}'],
    ['a missing version with its metadata', 404, '{"data":{"metadata":{"custom_metadata":{"owner":"SECRET"}}}}'],
    ['no JSON', 500, 'SECRET'],
    ['a huge error', 500, `{"errors":["SECRET${'x'.repeat(20_000)}"]}`],
  ] as const)('passes nothing on of %s', async ([, status, body]) => {
    const headers = await stepUp(stack);
    upstream.answer = (_, response) => void response.writeHead(status, { 'content-type': 'application/json' }).end(body);
    const answer = await ask(stack.port, 'GET', CRITICAL, [TOKEN, ...headers]);
    expect(answer?.status).toBe(status);
    expect(answer?.body.toString()).not.toContain('SECRET');
    expect(jsonOf(answer)).toHaveProperty('errors');
  });

  test('reaches the server without the token that let it through', async () => {
    await ask(stack.port, 'GET', CRITICAL, [TOKEN, ...(await stepUp(stack))]);
    expect(JSON.stringify(upstream.asked[0]?.headers)).not.toMatch(/step-up|eyJ/i);
  });
});
