import { once } from 'node:events';
import { connect } from 'node:net';

import { afterEach, describe, expect, test } from 'vitest';

import { wireErrorAnswer } from '../../src/proxy/refusals.ts';
import type { WireHandler } from '../../src/wire/connection.ts';
import type { WireRequest } from '../../src/wire/exchange.ts';
import { defaultWireLimits, type WireLimits } from '../../src/wire/limits.ts';
import { WireListener } from '../../src/wire/listener.ts';
import { exchange, parseAnswers } from '../support/raw.ts';

const open: WireListener[] = [];

async function listen(handler: WireHandler, limits: Partial<WireLimits> = {}): Promise<WireListener> {
  const listener = await WireListener.open({
    host: '127.0.0.1',
    port: 0,
    tls: undefined,
    limits: { ...defaultWireLimits, ...limits },
    handler,
    renderRefusal: (error) => wireErrorAnswer(error, 0),
    onRefused: () => {},
    onTrouble: () => {},
    monotonicMs: () => performance.now(),
  });
  open.push(listener);
  return listener;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((listener) => listener.drain(0)));
});

/** Answers with what it was asked. */
const echo: WireHandler = async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of (request.body ?? []) as AsyncIterable<Buffer>) chunks.push(chunk);
  const { method, target, headers } = request.head;
  response.send(200, 'OK', [], Buffer.from(JSON.stringify({ method, target, headers, body: Buffer.concat(chunks).toString('latin1') })));
};

const TEN = Buffer.from(
  Array.from(
    { length: 10 },
    (_, i) =>
      [
        `GET /v1/a/${i} HTTP/1.1\r\nHost: a\r\n\r\n`,
        `LIST /v1/b/${i} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n`,
        `PUT /v1/c/${i} HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{"a":1}`,
        `POST /v1/d/${i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 1\r\n\r\n`,
      ][i % 4],
  ).join(''),
);

describe('one connection', () => {
  test('answers ten glued requests the same, whole, byte by byte and cut anywhere', async () => {
    const { port } = await listen(echo);
    const whole = await exchange(port, [TEN], { halfClose: true });
    expect(parseAnswers(whole).map(({ status, body }) => [status, (JSON.parse(body.toString()) as { target: string }).target])).toEqual(
      Array.from({ length: 10 }, (_, i) => [200, `/v1/${'abcd'[i % 4]}/${i}`]),
    );
    expect(
      await exchange(
        port,
        [...TEN].map((byte) => Buffer.from([byte])),
        { halfClose: true },
      ),
    ).toEqual(whole);
    expect(await exchange(port, [TEN.subarray(0, 333), TEN.subarray(333)], { halfClose: true })).toEqual(whole);
  });

  test.for([
    ['GET /v1/x HTTP/1.1\nHost: a\n\n', 400],
    ['\r\nGET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['GET /v1/x\r\n\r\n', 400],
    ['GET  /v1/x HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['GET /v1/x HTTP/2.0\r\nHost: a\r\n\r\n', 505],
    ['GET /v1/x HTTP/1.2\r\nHost: a\r\n\r\n', 505],
    ['GET /v1/x HTTP/1.1\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost:\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A: b\0\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: X-Vault-Token\r\n\r\n', 400],
    ['GET /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx', 400],
    ['DELETE /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n', 501],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n', 501],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n000\r\n\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n123456789\r\n', 400],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\nx', 417],
    [`GET /v1/${'x'.repeat(4100)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
    [`GET /v1/${'x'.repeat(70_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
    [`GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A: ${'x'.repeat(40_000)}\r\n\r\n`, 431],
    [`GET /v1/x HTTP/1.1\r\nHost: a\r\n${'X-A: b\r\n'.repeat(130)}\r\n`, 431],
    ['PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n', 413],
  ] as const)('refuses %j with %i, and nothing behind it is served', async ([text, status]) => {
    let handled = 0;
    const { port } = await listen(async (request, response) => {
      // A body that breaks the rules is refused while its request is under way.
      for await (const _ of (request.body ?? []) as AsyncIterable<Buffer>);
      handled++;
      await echo({ ...request, body: undefined }, response);
    });
    const bytes = Buffer.concat([Buffer.from(text, 'latin1'), Buffer.from('GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n')]);
    const answers = parseAnswers(await exchange(port, [bytes]));
    expect(answers.map((answer) => answer.status)).toEqual([status]);
    expect(JSON.parse(answers[0]?.body.toString() ?? '')).toHaveProperty('errors');
    expect(handled).toBe(0);
  });

  test('sends 100 Continue only when the body is wanted', async () => {
    const { port } = await listen(async (request, response) =>
      request.head.target === '/v1/no' ? response.send(403, 'no', [], Buffer.from('{}')) : echo(request, response),
    );
    const head = (target: string) => Buffer.from(`PUT ${target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n`);
    const socket = connect(port, '127.0.0.1');
    socket.write(head('/v1/yes'));
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    socket.destroy();
    expect((await exchange(port, [head('/v1/no')])).toString()).toMatch(/^HTTP\/1\.1 403 no/);
  });

  test('gives a half-open client its answer', async () => {
    const { port } = await listen(echo);
    const bytes = await exchange(port, [Buffer.from('GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n')], { halfClose: true });
    expect(parseAnswers(bytes)[0]?.status).toBe(200);
  });

  test('answers HTTP/1.0 without chunks and closes', async () => {
    const { port } = await listen(async (_, response) => {
      response.writeHead(200, 'OK', [], undefined);
      response.write(Buffer.from('streamed'));
      response.end();
    });
    const text = (await exchange(port, [Buffer.from('GET /v1/x HTTP/1.0\r\n\r\n')])).toString();
    expect(text).toMatch(/\r\n\r\nstreamed$/);
    expect(text).not.toMatch(/chunked/i);
  });

  test('lets an upload of a megabyte read its early refusal, 40 of 40 times', async () => {
    const { port } = await listen(async (_, response) => response.send(403, 'early', [], Buffer.from('{"errors":["early"]}')));
    const body = Buffer.alloc(1024 * 1024, 0x61);
    const head = Buffer.from(`PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n`);
    for (let i = 0; i < 40; i++) {
      const answers = parseAnswers(await exchange(port, [head, ...Array.from({ length: 16 }, (_, part) => body.subarray(part * 65_536, (part + 1) * 65_536))]));
      expect(answers[0]?.body.toString()).toBe('{"errors":["early"]}');
    }
  });

  test('gives up a body that its handler answered without reading', async () => {
    const answered = Promise.withResolvers<WireRequest>();
    const { port } = await listen(async (request, response) => {
      response.send(403, 'early', [], Buffer.from('{}'));
      answered.resolve(request);
    });
    await exchange(port, [Buffer.from('PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab')]);
    expect((await answered.promise).body?.destroyed).toBe(true);
  });

  test('tells the handler that its client is gone', async () => {
    const gone = Promise.withResolvers<void>();
    const { port } = await listen((request) => new Promise((resolve) => request.signal.addEventListener('abort', () => resolve(gone.resolve()))));
    const socket = connect(port, '127.0.0.1');
    socket.write('GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'connect');
    socket.destroy();
    await gone.promise;
    expect(true).toBe(true);
  });

  test.for([
    ['a head that does not end', 'GET /v1/x HTTP/1.1\r\nHost', { headMs: 200 }, 408],
    ['a body that does not come', 'PUT /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab', { bodyIdleMs: 200 }, 408],
  ] as const)('ends %s', async ([, text, limits, status]) => {
    const { port } = await listen(echo, limits);
    const answers = parseAnswers(await exchange(port, [Buffer.from(text)]));
    expect(answers[0]?.status).toBe(status);
  });

  test('cuts a client that takes nothing', async () => {
    const ended = Promise.withResolvers<void>();
    const { port } = await listen(
      (request, response) => {
        response.writeHead(200, 'OK', [], undefined);
        for (let i = 0; i < 32; i++) response.write(Buffer.alloc(1024 * 1024));
        return new Promise((resolve) => request.signal.addEventListener('abort', () => resolve(ended.resolve())));
      },
      { writeStallMs: 300 },
    );
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.pause();
    socket.write('GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n');
    await ended.promise;
    expect(socket.destroyed).toBe(false);
    socket.destroy();
  });

  test('holds the limit on connections', async () => {
    const { port } = await listen(echo, { connections: 2 });
    const held = await Promise.all(
      [1, 2].map(async () => {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        return socket;
      }),
    );
    expect(await exchange(port, [Buffer.from('GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n')])).toHaveLength(0);
    for (const socket of held) socket.destroy();
  });
});

describe('the answer', () => {
  test('is never split by a header value or a reason', async () => {
    const { port } = await listen(async (_, response) => {
      expect(() => response.writeHead(200, 'OK', [['X-A', 'b\r\nX-Evil: 1']], 0)).toThrow();
      expect(() => response.writeHead(200, 'OK', [['X A', 'b']], 0)).toThrow();
      response.send(200, 'a\r\nX-Evil: 1', [], Buffer.from('ok'));
    });
    expect((await exchange(port, [Buffer.from('GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')])).toString()).not.toMatch(/Evil/);
  });

  test('that was cut short ends in a reset, not in an end that looks whole', async () => {
    const { port } = await listen(async (_, response) => {
      response.writeHead(200, 'OK', [], 100);
      response.write(Buffer.from('part'));
      response.abort();
    });
    const socket = connect(port, '127.0.0.1');
    socket.write('GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n');
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNRESET');
  });
});
