import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * CPU per ordinary request of Stepgate next to bare forwarders, in one interleaved run, as ratios: the machine's own speed
 * and its noise cancel out. The figure is the CPU time of each forwarder's own process, as the kernel counts it.
 *
 *   npm run bench            8 rounds of 4,000 requests over 32 connections
 */
const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 8);
const REQUESTS = Number(process.env['BENCH_REQUESTS'] ?? 4000);
const CONNECTIONS = 32;
const BODY = JSON.stringify({
  request_id: '8f70e6dd-cd3b-f9c4-3072-4c094c9872bf',
  lease_id: '',
  renewable: false,
  lease_duration: 0,
  data: {
    data: { password: 'x'.repeat(64), user: 'y'.repeat(32) },
    metadata: { created_time: '2026-11-23T08:54:53.573149691Z', custom_metadata: { owner: 'payments' }, deletion_time: '', destroyed: false, version: 2 },
  },
  wrap_info: null,
  warnings: null,
  auth: null,
});

const upstream = createServer((asked, answer) => {
  asked.resume();
  answer.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(BODY);
});
upstream.listen(0, '127.0.0.1');
await once(upstream, 'listening');
const target = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;

interface Peer {
  readonly name: string;
  readonly process: ChildProcess;
  readonly port: number;
  readonly cpuUs: number[];
}

async function start(name: string): Promise<Peer> {
  const child = spawn(process.execPath, [new URL(`./peers/${name}.ts`, import.meta.url).pathname, target], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { name, process: child, port: Number(line.toString()), cpuUs: [] };
}

/** CPU time of a process with all its threads, microseconds. */
function cpuUs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });

function get(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        agent,
        port,
        host: '127.0.0.1',
        path: '/v1/secret/data/app/config',
        headers: { 'X-Vault-Token': 'hvs.CAESIJbenchbenchbenchbench', 'X-Vault-Request': 'true' },
      },
      (answer) => {
        if (answer.statusCode !== 200) reject(new Error(`answered ${answer.statusCode}`));
        answer.resume().on('end', resolve);
      },
    );
    asked.on('error', reject).end();
  });
}

async function load(port: number, requests: number): Promise<void> {
  let left = requests;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await get(port);
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, worker));
}

const peers: Peer[] = [];
for (const name of ['stepgate', 'undici-dispatch', 'http-proxy']) peers.push(await start(name));
for (let round = 0; round < ROUNDS; round++) {
  for (const peer of round % 2 === 0 ? peers : [...peers].reverse()) {
    await load(peer.port, REQUESTS / 4); // warm: caches, and the kernel's idle memory
    const before = cpuUs(peer.process.pid ?? 0);
    await load(peer.port, REQUESTS);
    peer.cpuUs.push((cpuUs(peer.process.pid ?? 0) - before) / REQUESTS);
  }
}
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const base = median(peers.find(({ name }) => name === 'undici-dispatch')?.cpuUs ?? []);
for (const { name, cpuUs: all } of peers) {
  process.stdout.write(
    `${name.padEnd(16)} ${median(all).toFixed(0).padStart(5)} us CPU/request  ${(median(all) / base).toFixed(2)} x bare undici dispatch  [${all.map((value) => value.toFixed(0)).join(' ')}]\n`,
  );
}
for (const peer of peers) peer.process.kill('SIGTERM');
agent.destroy();
upstream.close();
upstream.closeAllConnections();
