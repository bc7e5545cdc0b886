import { once } from 'node:events';

import { describe, expect, inject, test } from 'vitest';

import { startRedis } from '../../src/demo/dev-server.ts';
import { run, start } from '../support/command.ts';

describe('the demo', () => {
  test('tells the whole story and ends with 0', async () => {
    const { code, stdout, stderr } = await run(['demo']);
    expect(stderr).toBe('');
    expect(stdout.match(/=> (passed|refused)/g)).toEqual(['=> passed', '=> refused', '=> passed', '=> refused', '=> refused', '=> refused']);
    expect(stdout).toMatch(/The demo went as it must/);
    expect(code).toBe(0);
  });

  test('keeps its challenges in a Redis, and stays up on request', async () => {
    const redis = await startRedis(inject('redisProgram'));
    const child = start(['demo', '--redis', redis.url, '--keep']);
    let text = '';
    child.process.stdout?.on('data', (data: Buffer) => {
      text += data.toString();
    });
    while (!text.includes('until Ctrl-C')) await once(child.process.stdout as NodeJS.ReadableStream, 'data');
    const address = /VAULT_ADDR=(\S+)/.exec(text)?.[1] ?? '';
    expect((await fetch(`${address}/v1/sys/health`)).status).toBe(200);
    child.process.kill('SIGINT');
    expect((await child.ended).code).toBe(0);
    await redis.stop();
  });

  test('leaves no server behind when it is ended in the middle', async () => {
    const child = start(['demo']);
    let text = '';
    child.process.stdout?.on('data', (data: Buffer) => {
      text += data.toString();
    });
    while (!text.includes('server http')) await once(child.process.stdout as NodeJS.ReadableStream, 'data');
    const server = /server (http:\S+),/.exec(text)?.[1] ?? '';
    child.process.kill('SIGTERM');
    expect((await child.ended).code).toBe(1);
    await expect(fetch(`${server}/v1/sys/health`)).rejects.toThrow();
  });

  test('ends with 1 and says what went wrong', async () => {
    const { code, stderr } = await run(['demo', '--redis', 'nonsense']);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/url/);
  });
});
