import { once } from 'node:events';
import { copyFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect } from 'node:tls';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { ask, parseAnswers, requestBytes } from '../support/raw.ts';
import { type Stack, startStack } from '../support/stack.ts';

const vector = (name: string) => new URL(`../vectors/tls/${name}`, import.meta.url).pathname;
const pem = (name: string) => readFileSync(vector(name));

let upstream: CannedUpstream;
let stack: Stack;
let mutual: Stack;

async function withTls(tls: Record<string, string>): Promise<Stack> {
  const { freePort } = await import('../../src/demo/dev-server.ts');
  const port = await freePort();
  const made = await startStack({ upstream: upstream.url, settings: { listen: { vault: { address: `127.0.0.1:${port}`, tls } } } });
  return { ...made, port };
}

beforeAll(async () => {
  upstream = await startCannedUpstream();
  stack = await withTls({ cert: vector('one.cert.pem'), key: vector('one.key.pem') });
  mutual = await withTls({ cert: vector('one.cert.pem'), key: vector('one.key.pem'), client_ca: vector('ca.cert.pem') });
});
afterAll(async () => {
  await Promise.all([stack?.stop(), mutual?.stop()]);
  await upstream?.stop();
});

/** One request over TLS: the status, and what the handshake settled. */
async function get(
  port: number,
  options: ConnectionOptions = {},
): Promise<{ status: number | undefined; protocol: string | null; alpn: string | false | null; subject: string }> {
  const socket = connect({ port, host: '127.0.0.1', ca: [pem('one.cert.pem'), pem('two.cert.pem')], ...options });
  await once(socket, 'secureConnect');
  const subject = String(socket.getPeerCertificate().subject.CN);
  const [protocol, alpn] = [socket.getProtocol(), socket.alpnProtocol];
  socket.write(requestBytes('GET', '/v1/secret/data/x', [['X-Vault-Token', 't']]));
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  socket.destroy();
  return { status: parseAnswers(Buffer.concat(chunks))[0]?.status, protocol, alpn, subject };
}

describe('TLS', () => {
  test('is served as 1.3 or 1.2, with http/1.1 or without ALPN, and not below', async () => {
    expect(await get(stack.port, { ALPNProtocols: ['h2', 'http/1.1'] })).toMatchObject({ status: 200, protocol: 'TLSv1.3', alpn: 'http/1.1' });
    expect(await get(stack.port, { maxVersion: 'TLSv1.2' })).toMatchObject({ status: 200, protocol: 'TLSv1.2', alpn: false });
    await expect(get(stack.port, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' })).rejects.toThrow();
    await expect(get(stack.port, { ALPNProtocols: ['h2'] })).rejects.toThrow();
  });

  test('asks for a client certificate where one is configured', async () => {
    await expect(get(mutual.port, { maxVersion: 'TLSv1.2' })).rejects.toThrow();
    expect((await get(mutual.port, { cert: pem('client.cert.pem'), key: pem('client.key.pem') })).status).toBe(200);
    const decision = mutual.audit().find(({ type }) => type === 'decision') as { client: { certificate?: string } };
    expect(decision.client.certificate).toMatch(/^[0-9A-F:]{95}$/);
  });

  test('takes a new certificate on reload, and keeps the last good one when the new one is broken', async () => {
    const certificate = join(stack.dir, 'live.cert.pem');
    const key = join(stack.dir, 'live.key.pem');
    copyFileSync(vector('one.cert.pem'), certificate);
    copyFileSync(vector('one.key.pem'), key);
    const live = await withTls({ cert: certificate, key });
    expect((await get(live.port)).subject).toBe('stepgate test one');
    copyFileSync(vector('two.cert.pem'), certificate);
    live.served.reload(); // a certificate that does not fit its key
    expect((await get(live.port)).subject).toBe('stepgate test one');
    copyFileSync(vector('two.key.pem'), key);
    live.served.reload();
    expect((await get(live.port)).subject).toBe('stepgate test two');
    await live.stop();
  });

  test('plain text on the TLS listener gets no answer', async () => {
    expect(await ask(stack.port, 'GET', '/v1/x')).toBeUndefined();
  });
});

test('the upstream is reached over TLS with its own authority, and not with another', async () => {
  const server = createServer({ cert: pem('two.cert.pem'), key: pem('two.key.pem') }, (_, response) => void response.end('{}'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const nodes = [`https://127.0.0.1:${(server.address() as AddressInfo).port}`];
  for (const [ca, status] of [
    ['two.cert.pem', 200],
    ['one.cert.pem', 502],
  ] as const) {
    const trusting = await startStack({ upstream: nodes, settings: { upstream: { nodes, tls: { ca: vector(ca) } } } });
    expect((await ask(trusting.port, 'GET', '/v1/secret/data/x'))?.status).toBe(status);
    await trusting.stop();
  }
  server.closeAllConnections();
  server.close();
});
