import { Agent, createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';

interface Proxy {
  web: (request: unknown, response: unknown) => void;
}

/** Bare http-proxy with a keep-alive agent: what most would reach for. */
const { createProxyServer } = createRequire(import.meta.url)('http-proxy') as { createProxyServer: (options: object) => Proxy };
const proxy = createProxyServer({ target: process.argv[2], agent: new Agent({ keepAlive: true }) });
const server = createServer((request, response) => proxy.web(request, response));
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
