import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Duplex } from 'node:stream';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { requestArbitrary } from './generate.ts';
import { readPieces } from './read.ts';

const RUNS = Number(process.env['FUZZ_RUNS'] ?? 100_000);

interface Seen {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly string[];
  readonly body: string;
}

/** What Node's own server makes of the same bytes; null when it refuses them. */
function nodeReads(server: Server, bytes: Buffer): Promise<Seen | null> {
  return new Promise((resolve) => {
    const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const give = (seen: Seen | null): void => {
      resolve(seen);
      socket.destroy();
    };
    (socket as unknown as { give: typeof give }).give = give;
    server.emit('connection', socket);
    socket.push(bytes);
    socket.push(null);
  });
}

function nodeServer(): Server {
  const server = createServer({ insecureHTTPParser: false, maxHeaderSize: 64 * 1024, joinDuplicateHeaders: false });
  const onRequest = (request: IncomingMessage): void => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () =>
      (request.socket as unknown as { give: (seen: Seen) => void }).give({
        method: request.method ?? '',
        target: request.url ?? '',
        headers: request.rawHeaders,
        body: Buffer.concat(chunks).toString('latin1'),
      }),
    );
    request.on('error', () => (request.socket as unknown as { give: (seen: null) => void }).give(null));
  };
  server.on('request', onRequest).on('checkContinue', onRequest).on('checkExpectation', onRequest);
  server.on('clientError', (_error, socket) => (socket as unknown as { give: (seen: null) => void }).give(null));
  return server;
}

describe('what the wire accepts', () => {
  test(`Node's parser accepts and reads the same, on ${RUNS} generated inputs`, async () => {
    const server = nodeServer();
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(requestArbitrary(), async (bytes) => {
        const read = readPieces([bytes]);
        const [first] = read.requests;
        if (first === undefined || read.refused !== undefined) return;
        accepted++;
        // Node cannot read LIST and SCAN at all; the method apart they are the same request.
        const { method } = first.head;
        const known = method === 'LIST' || method === 'SCAN' || !/^(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS)$/.test(method) ? 'GET' : method;
        const seen = await nodeReads(server, Buffer.concat([Buffer.from(known), bytes.subarray(method.length)]));
        expect(seen).not.toBeNull();
        expect(seen?.target).toBe(first.head.target);
        expect(seen?.headers).toEqual(first.head.headers.flat());
        expect(seen?.body).toBe(first.body);
      }),
      { numRuns: RUNS },
    );
    process.stdout.write(`differential: ${RUNS} inputs, ${accepted} accepted by both\n`);
    expect(accepted).toBeGreaterThan(RUNS / 4);
  }, 600_000);

  test('does not depend on the pieces in which the bytes come', () => {
    fc.assert(
      fc.property(fc.array(requestArbitrary(), { minLength: 1, maxLength: 10 }), fc.array(fc.nat(40), { maxLength: 30 }), (requests, cuts) => {
        const bytes = Buffer.concat(requests);
        const whole = readPieces([bytes]);
        const bytewise = readPieces([...bytes].map((byte) => Buffer.from([byte])));
        const pieces: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          pieces.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        const cutUp = readPieces([...pieces, bytes.subarray(at)]);
        for (const other of [bytewise, cutUp]) {
          expect(other.requests).toEqual(whole.requests);
          expect(other.refused?.code).toBe(whole.refused?.code);
          expect(other.refused?.status).toBe(whole.refused?.status);
        }
      }),
      { numRuns: Math.min(RUNS, 2000) },
    );
  }, 300_000);
});
