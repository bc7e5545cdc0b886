import { isDeepStrictEqual } from 'node:util';

import { afterAll, beforeAll, expect, inject, test } from 'vitest';

import { type DevServer, startVault } from '../../src/demo/dev-server.ts';
import { at, type GoldenRow, readCorpus, save, sendRow } from '../support/corpus.ts';
import type { RawAnswer } from '../support/raw.ts';
import { type Stack, startStack } from '../support/stack.ts';

/** Where Stepgate answers otherwise on purpose, and why (design.md §1.2, §3). */
const ON_PURPOSE: Readonly<Record<string, string>> = {
  g106: 'an empty segment is refused with 400, never redirected',
  g108: 'an unprintable path is refused with a text that says so; the server sends an empty body',
};

let direct: DevServer;
let behind: DevServer;
let stack: Stack;

beforeAll(async () => {
  [direct, behind] = await Promise.all([startVault(inject('vaultProgram'), 'devroot'), startVault(inject('vaultProgram'), 'devroot')]);
  stack = await startStack({ upstream: behind.url, rootToken: 'devroot' });
});

afterAll(async () => {
  await stack?.stop();
  await Promise.all([direct?.stop(), behind?.stop()]);
});

const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'date', 'content-length', 'x-vault-index']);

/** An answer without what differs between two servers. */
function comparable(answer: RawAnswer | undefined, row: GoldenRow): unknown {
  if (answer === undefined) return null;
  const varies = new Set(row.varies.headers.map((name) => name.toLowerCase()));
  const headers = answer.headers
    .map(([name, value]) => [name.toLowerCase(), value] as const)
    .filter(([name]) => !HOP_BY_HOP.has(name) && !varies.has(name))
    .sort();
  // Ids of entities stand inside keys of one answer (resultant-acl), accessors behind keys with slashes (ui/mounts); a ttl counts down.
  let body: unknown = answer.body
    .toString()
    .replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'uuid')
    .replace(/([a-z]+_)[0-9a-f]{8}\b/g, '$1x')
    .replace(/"ttl":(\d+)/g, (_, seconds: string) => `"ttl":${Math.ceil(Number(seconds) / 10) * 10}`);
  try {
    const json = JSON.parse(String(body)) as unknown;
    for (const pointer of row.varies.json_pointers) {
      const parent = at(json, pointer.slice(0, pointer.lastIndexOf('/')));
      const key = pointer.slice(pointer.lastIndexOf('/') + 1).replaceAll('~1', '/');
      if (typeof parent === 'object' && parent !== null && key in parent) (parent as Record<string, unknown>)[key] = 'varies';
    }
    body = json;
  } catch {
    // not JSON: as it is
  }
  return { status: answer.status, headers, body };
}

test('every recorded exchange is the same through Stepgate as without', async () => {
  const variables = { direct: new Map([['root', 'devroot']]), behind: new Map([['root', 'devroot']]) };
  const differences: string[] = [];
  const rows = readCorpus<GoldenRow>('golden');
  for (const row of rows) {
    const plain = (await sendRow(Number(new URL(direct.url).port), row.request, variables.direct))[0];
    const proxied = (await sendRow(stack.port, row.request, variables.behind))[0];
    save(row, plain, variables.direct);
    save(row, proxied, variables.behind);
    expect(plain?.status, `${row.id} as recorded`).toBe(row.response.status);
    // The server writes the members of some objects in random order.
    const [want, got] = [comparable(plain, row), comparable(proxied, row)];
    if (!isDeepStrictEqual(want, got) && !(row.id in ON_PURPOSE)) differences.push(`${row.id}\n want ${JSON.stringify(want)}\n got  ${JSON.stringify(got)}`);
  }
  expect(rows.length).toBe(123);
  expect(differences).toEqual([]);
}, 120_000);
