import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A stand-in for a server that misbehaves on purpose: no real one can be told to. */
export interface CannedUpstream {
  readonly url: string;
  /** Everything that was asked but health and the preflight. */
  readonly asked: { method: string; url: string; headers: string[] }[];
  /** What the next requests are answered with. */
  answer: (request: IncomingMessage, response: ServerResponse) => void;
  /** Status of `sys/health`. */
  health: number;
  readonly stop: () => Promise<void>;
}

export async function startCannedUpstream(): Promise<CannedUpstream> {
  const server = createServer((request, response) => {
    const url = request.url ?? '';
    if (url.startsWith('/v1/sys/health')) return void response.writeHead(canned.health).end('{}');
    if (url.startsWith('/v1/sys/internal/ui/mounts/')) return void response.writeHead(200).end('{"data":{}}');
    canned.asked.push({ method: request.method ?? '', url, headers: request.rawHeaders });
    canned.answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const canned: CannedUpstream = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: [],
    answer: (_, response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{"data":{"value":"SECRET"}}'),
    health: 200,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return canned;
}
