import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { freePort } from '../../src/demo/dev-server.ts';
import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { startProgram } from '../support/command.ts';
import { ask } from '../support/raw.ts';
import { type Stack, startStack } from '../support/stack.ts';

let upstream: CannedUpstream;
let stack: Stack;

beforeAll(async () => {
  upstream = await startCannedUpstream();
  stack = await startStack({ upstream: upstream.url }); // for its files; the one under test is a process of its own
});
afterAll(async () => {
  await stack?.stop();
  await upstream?.stop();
});

test('a process that runs out of descriptors goes on writing its log, and serves again when there are some', async () => {
  const port = await freePort();
  const cli = new URL('../../src/cli/stepgate.ts', import.meta.url).pathname;
  const child = startProgram(
    'sh',
    ['-c', `ulimit -n 64 && exec "$0" "$@"`, process.execPath, cli, 'serve', '--config', join(stack.dir, 'stepgate.yaml'), '--policy', stack.policyFile],
    {
      STEPGATE_LISTEN_VAULT_ADDRESS: `127.0.0.1:${port}`,
      STEPGATE_LISTEN_OPS_ADDRESS: '127.0.0.1:0',
      STEPGATE_AUDIT_DIR: join(stack.dir, 'audit-few'),
    },
  );
  const read = async () => (await ask(port, 'GET', '/v1/secret/data/x', [['X-Vault-Token', 't']]))?.status;
  while ((await read()) !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
  const held: Socket[] = [];
  for (let i = 0; i < 200; i++) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    held.push(socket);
  }
  for (const socket of held) socket.destroy();
  while ((await read()) !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await read()).toBe(200);
  child.process.kill('SIGTERM');
  expect((await child.ended).code).toBe(0);
});
