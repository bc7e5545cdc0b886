import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { Pool } from 'undici';

/** Bare undici dispatch behind Node's own server: the least that a forwarder on Node does. */
const pool = new Pool(process.argv[2] ?? '', { connections: 128, pipelining: 1 });
const server = createServer((request, response) => {
  pool.dispatch(
    { method: 'GET', path: request.url ?? '/', headers: request.rawHeaders.filter((_, i, all) => !/^(?:connection|host)$/i.test(all[i - (i % 2)] ?? '')) },
    {
      onRequestStart: (controller) => void response.on('close', () => response.writableEnded || controller.abort(new Error('gone'))),
      onResponseStart: (_, status, headers) => void response.writeHead(status, headers),
      onResponseData: (controller, chunk) => {
        if (response.write(chunk)) return;
        controller.pause();
        response.once('drain', () => controller.resume());
      },
      onResponseEnd: () => void response.end(),
      onResponseError: () => void response.destroy(),
    },
  );
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
