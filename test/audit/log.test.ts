import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';

import { checkChain, encodeEntry } from '../../src/audit/chain.ts';
import { GENESIS } from '../../src/audit/entry.ts';
import { AuditLog } from '../../src/audit/log.ts';
import { systemHost } from '../../src/host.ts';
import { readAudit } from '../support/stack.ts';

const dirs: string[] = [];
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

function newDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'stepgate-audit-'));
  dirs.push(dir);
  return dir;
}

const open = (dir: string, fileBytes?: number) =>
  AuditLog.open({ dir, ...systemHost, start: { version: 'test' }, onStatus: () => {}, ...(fileBytes === undefined ? {} : { fileBytes }) });

/** All lines of a log, over its files. */
function bytesOf(dir: string): Buffer {
  return Buffer.concat(
    readdirSync(dir)
      .filter((name) => name.endsWith('.jsonl'))
      .sort()
      .map((name) => readFileSync(join(dir, name))),
  );
}

describe('the log', () => {
  test('chains what is appended at once, and goes on after a restart', async () => {
    const dir = newDir();
    const log = await open(dir);
    await Promise.all(Array.from({ length: 1000 }, (_, i) => log.append({ type: 'decision', request_id: String(i) })));
    await log.close();
    const again = await open(dir);
    await again.append({ type: 'outcome' });
    await again.close();
    expect(checkChain(bytesOf(dir))).toMatchObject({ ok: true, head: { seq: 1005 } });
    const entries = readAudit(dir);
    expect(entries.map(({ type }) => type).filter((type) => type !== 'decision')).toEqual(['start', 'stop', 'start', 'outcome', 'stop']);
    expect(new Set(entries.map(({ log_id: id }) => id)).size).toBe(1);
    expect(new Set(entries.map(({ boot_id: id }) => id)).size).toBe(2);
  });

  test('promises nothing before the disk has it', async () => {
    const dir = newDir();
    const probe = await openFile(join(dir, 'probe'), 'w');
    const handles = Object.getPrototypeOf(probe) as { datasync: () => Promise<void> };
    await probe.close();
    const log = await open(dir);
    const synced = Promise.withResolvers<void>();
    const real = handles.datasync;
    handles.datasync = async function (this: unknown) {
      await synced.promise;
      return real.call(this as never);
    };
    try {
      let promised = false;
      const appended = log.append({ type: 'decision' }).then(() => {
        promised = true;
      });
      while (readFileSync(join(dir, 'audit-000001.jsonl')).toString().split('\n').length < 3) await new Promise((resolve) => setImmediate(resolve));
      // Turns enough for a promise that does not wait for the disk to be kept.
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
      expect(promised).toBe(false);
      synced.resolve();
      await appended;
    } finally {
      handles.datasync = real;
    }
    await log.close();
  });

  test('begins a new file when one is full, and the chain runs through', async () => {
    const dir = newDir();
    const log = await open(dir, 2000);
    for (let i = 0; i < 40; i++) await log.append({ type: 'decision', filler: 'x'.repeat(100) });
    await log.close();
    expect(readdirSync(dir).filter((name) => name.endsWith('.jsonl')).length).toBeGreaterThan(3);
    expect(checkChain(bytesOf(dir))).toMatchObject({ ok: true, head: { seq: 42 } });
    await (await open(dir)).close();
    expect(checkChain(bytesOf(dir)).ok).toBe(true);
  });

  test('goes on from the last entry when crashes left files without any behind it', async () => {
    const dir = newDir();
    await (await open(dir)).close();
    for (const name of ['audit-000002.jsonl', 'audit-000003.jsonl']) appendFileSync(join(dir, name), '');
    await (await open(dir)).close();
    expect(checkChain(bytesOf(dir))).toMatchObject({ ok: true, head: { seq: 4 } });
    expect(readFileSync(join(dir, 'audit-000003.jsonl')).length).toBeGreaterThan(0);
  });

  test.for([
    ['half a line', (file: string) => appendFileSync(file, '{"v":1,"type":"decis')],
    ['a line cut short', (file: string) => truncateSync(file, readFileSync(file).length - 7)],
    ['rubbish with a line feed', (file: string) => appendFileSync(file, '\0\0\0\0\n')],
    ['zeros, as some file systems leave them', (file: string) => appendFileSync(file, Buffer.alloc(4096))],
  ] as const)('sets %s aside and never glues a line to it', async ([, damage]) => {
    const dir = newDir();
    const log = await open(dir);
    for (let i = 0; i < 5; i++) await log.append({ type: 'decision' });
    await log.close();
    damage(join(dir, 'audit-000001.jsonl'));
    const again = await open(dir);
    await again.append({ type: 'outcome' });
    await again.close();
    expect(checkChain(bytesOf(dir)).ok).toBe(true);
    expect(readAudit(dir).find(({ recovered }) => recovered === true)).toMatchObject({ type: 'start' });
    expect(readdirSync(dir).some((name) => name.includes('.torn-'))).toBe(true);
  });

  test("is one process's alone, also when that process was killed", async () => {
    const dir = newDir();
    const log = await open(dir);
    await expect(open(dir)).rejects.toMatchObject({ code: 'audit_locked' });
    await log.close();
    const child = writer(dir);
    await once(child.lines, 'line');
    await expect(open(dir)).rejects.toMatchObject({ code: 'audit_locked' });
    child.process.kill('SIGKILL');
    await once(child.process, 'exit');
    await (await open(dir)).close();
  });

  test('has every acknowledged entry on disk when its process is killed, 20 times', async () => {
    const dir = newDir();
    let acknowledged = 0;
    for (let round = 0; round < 20; round++) {
      const child = writer(dir);
      const told: string[] = [];
      child.lines.on('line', (line: string) => {
        told.push(line);
        if (told.length >= 20 + round * 5) child.process.kill('SIGKILL');
      });
      await once(child.lines, 'close');
      const present = new Set(readAuditLoosely(dir));
      for (const id of told) expect(present.has(id), `entry ${id} of round ${round}`).toBe(true);
      acknowledged += told.length;
    }
    await (await open(dir)).close();
    expect(checkChain(bytesOf(dir)).ok).toBe(true);
    expect(acknowledged).toBeGreaterThan(400);
  }, 120_000);

  const canMount = spawnSync('unshare', ['--map-root-user', '--mount', 'sh', '-c', 'mount -t tmpfs -o size=64k tmpfs /mnt']).status === 0;
  test.runIf(canMount)('counts what a full disk kept out, and holds no half line afterwards', () => {
    const dir = newDir();
    const script = `mount -t tmpfs -o size=1m tmpfs ${dir} && exec ${process.execPath} ${new URL('./full-disk.child.ts', import.meta.url).pathname} ${dir}`;
    const { stdout, stderr, status } = spawnSync('unshare', ['--map-root-user', '--mount', 'sh', '-c', script], { encoding: 'utf8', timeout: 50_000 });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const result = JSON.parse(stdout) as {
      refused: number;
      written: number;
      chain: { ok: boolean };
      gaps: { state: string; count?: number }[];
      statuses: boolean[];
    };
    expect(result.refused).toBeGreaterThan(0);
    expect(result.chain.ok).toBe(true);
    expect(result.statuses).toEqual([false, true]);
    expect(result.gaps.map(({ state }) => state)).toEqual(['begins', 'ends']);
    expect(result.gaps[1]?.count).toBe(result.refused);
  });
});

/** A process that appends for ever and tells each entry that was acknowledged. */
function writer(dir: string): { process: ChildProcess; lines: ReturnType<typeof createInterface> } {
  const child = spawn(process.execPath, [new URL('./writer.child.ts', import.meta.url).pathname, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return { process: child, lines: createInterface({ input: child.stdout }) };
}

function readAuditLoosely(dir: string): string[] {
  return bytesOf(dir)
    .toString()
    .split('\n')
    .flatMap((line) => /"request_id":"([^"]+)"/.exec(line)?.[1] ?? []);
}

describe('the chain', () => {
  const frame = { logId: 'log', bootId: 'boot', ts: '2026-01-01T00:00:00.000000Z', monoNs: 1n };
  const lines = (count: number): Buffer[] => {
    let head = GENESIS;
    return Array.from({ length: count }, (_, i) => {
      const { line, next } = encodeEntry(head, { type: 'decision', request_id: `r${i}` }, frame);
      head = next;
      return line;
    });
  };

  test('shows every change of a line but the last cut', () => {
    const good = lines(12);
    expect(checkChain(Buffer.concat(good)).ok).toBe(true);
    fc.assert(
      fc.property(fc.constantFrom('flip', 'delete', 'swap', 'duplicate'), fc.nat(10), fc.nat(10_000), (what, at, where) => {
        const bad: Buffer[] = good.map((line) => Buffer.from(line));
        const line = bad[at] as Buffer;
        if (what === 'flip') line[where % (line.length - 1)] = (line[where % (line.length - 1)] as number) ^ 1;
        else if (what === 'delete') bad.splice(at, 1);
        else if (what === 'swap') bad.splice(at, 2, bad[at + 1] as Buffer, line);
        else bad.splice(at, 0, line);
        expect(checkChain(Buffer.concat(bad)).ok).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });
});
