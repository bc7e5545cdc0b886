import fc from 'fast-check';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

import { type DevServer, startVault } from '../../src/demo/dev-server.ts';
import { ask, exchange, jsonOf, parseAnswers } from '../support/raw.ts';
import { type Stack, startStack } from '../support/stack.ts';

const RUNS = Number(process.env['FUZZ_REQUESTS'] ?? 2000);
const ROOT = 'fuzz-root';
/** Names that servers have been found to confuse (semantics.md §10). */
const MOUNTS: readonly (readonly [string, 1 | 2])[] = [
  ['secret', 2],
  ['data', 2],
  ['team/kv', 2],
  ['x/data/y', 2],
  ['my mount', 2],
  ['m+', 2],
  ['ünï', 2],
  ['kv1', 1],
  ['metadata', 1],
  ['raw', 1],
];
const NAMES = ['db', 'x.', 'x y', 'a+b', '%41', '%2F', 'ü', 'u\u0308', 'data', 'metadata', 'sub/deep', '~', '*'];
const NAMESPACES = ['', 'ns1', 'ns1/child'];

let vault: DevServer;
let stack: Stack;
let port = 0;

const encode = (path: string) => path.split('/').map(encodeURIComponent).join('/');
const headersOf = (namespace: string): [string, string][] => [
  ['X-Vault-Token', ROOT],
  ...(namespace === '' ? [] : ([['X-Vault-Namespace', namespace]] as [string, string][])),
];

beforeAll(async () => {
  vault = await startVault(inject('vaultProgram'), ROOT);
  port = Number(new URL(vault.url).port);
  await ask(port, 'POST', '/v1/sys/namespaces/ns1', headersOf(''), '{}');
  await ask(port, 'POST', '/v1/sys/namespaces/child', headersOf('ns1'), '{}');
  for (const namespace of NAMESPACES) {
    for (const [mount, version] of MOUNTS) {
      if (namespace !== '' && version === 2 && mount !== 'secret' && mount !== 'data') continue;
      await ask(port, 'POST', `/v1/sys/mounts/${encode(mount)}`, headersOf(namespace), JSON.stringify({ type: 'kv', options: { version: String(version) } }));
      for (const name of NAMES) {
        const value = { key: `MARKER-${namespace}-${mount}-${name}` };
        await ask(
          port,
          'POST',
          `/v1/${encode(mount)}/${version === 2 ? 'data/' : ''}crit/${encode(name)}`,
          headersOf(namespace),
          JSON.stringify(version === 2 ? { data: value } : value),
        );
        if (version === 2)
          await ask(port, 'POST', `/v1/${encode(mount)}/metadata/crit/${encode(name)}`, headersOf(namespace), '{"custom_metadata":{"owner":"MARKER-META"}}');
      }
    }
  }
  stack = await startStack({
    upstream: vault.url,
    rootToken: ROOT,
    policy: {
      version: 1,
      tiers: [{ name: 'open' }, { name: 'critical', step_up: { accept: ['ci'] } }],
      default_tier: 'open',
      unknown_mount: 'open',
      system: { admin: 'open', exits: 'critical' },
      rules: NAMESPACES.flatMap((namespace) =>
        MOUNTS.map(([mount]) => ({ secret: `${mount}/crit/*`, tier: 'critical', operations: ['all'], ...(namespace === '' ? {} : { namespace }) })),
      ),
    },
    settings: { challenges: { store: 'memory', limits: { per_binding: 100_000, per_address: 100_000, total: 1_000_000 } } },
  });
}, 120_000);

afterAll(async () => {
  await stack?.stop();
  await vault?.stop();
});

/** Percent-encodes some characters, slashes too, and now and then twice. */
function spelling(path: string, picks: readonly number[]): string {
  return [...path]
    .map((char, i) => {
      const pick = picks[i % picks.length] ?? 0;
      const plain = char === '/' || /[A-Za-z0-9._~+*-]/.test(char) ? char : encodeURIComponent(char);
      if (pick < 80) return plain;
      const once = [...Buffer.from(char)].map((byte) => `%${byte.toString(16)[pick % 2 === 0 ? 'toUpperCase' : 'toLowerCase']().padStart(2, '0')}`).join('');
      return pick < 97 ? once : once.replaceAll('%', '%25');
    })
    .join('');
}

const inserted = [
  '/',
  '//',
  '/./',
  '/../',
  '/%2e/',
  '/%2e%2e/',
  '/%2F',
  '%2F/',
  '/x/../',
  '/x/%2e%2e/',
  ';',
  '%3b',
  '\\',
  '%5c',
  '%00',
  '%20',
  '#',
  '?',
  '%3F',
  '%C2%A0',
  '%E2%80%8B',
  '/crit/../crit/',
  '/data/',
  '/metadata/',
];
const endpoints = ['data', 'metadata', 'subkeys', 'detailed-metadata', 'delete', 'undelete', 'destroy', 'config', '', 'Data', 'data/data', 'metadata/data'];

const target = fc
  .record({
    namespace: fc.oneof({ weight: 6, arbitrary: fc.constant('') }, { weight: 1, arbitrary: fc.constantFrom('ns1', 'ns1/child', 'root', 'nope') }),
    mount: fc.constantFrom(...MOUNTS),
    endpoint: fc.oneof({ weight: 4, arbitrary: fc.constant('data') }, { weight: 3, arbitrary: fc.constantFrom(...endpoints) }),
    name: fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...NAMES).map((name) => `crit/${name}`) },
      { weight: 1, arbitrary: fc.constantFrom('crit', '', 'crit/', 'app/x') },
    ),
    insert: fc.option(fc.tuple(fc.nat(60), fc.constantFrom(...inserted)), { nil: null, freq: 2 }),
    picks: fc.oneof({ weight: 6, arbitrary: fc.constant([0]) }, { weight: 3, arbitrary: fc.array(fc.nat(99), { minLength: 1, maxLength: 12 }) }),
    prefix: fc.oneof(
      { weight: 12, arbitrary: fc.constant('/v1/') },
      {
        weight: 1,
        arbitrary: fc.constantFrom('//v1/', '/v1//', 'http://x/v1/', 'unix:/v1/', 'f:///v1/', '/%76%31/', '/V1/', '/ui/../v1/', '/./v1/', '/v1/./'),
      },
    ),
    query: fc.oneof(
      { weight: 3, arbitrary: fc.constant('') },
      {
        weight: 2,
        arbitrary: fc.constantFrom(
          '?list=true',
          '?version=1',
          '?version=0',
          '?list=1&x=y',
          '?%6cist=true',
          '?list=true;x=1',
          '?scan=true',
          '?help=1',
          '?path=secret/data/crit/db',
          '?depth=0',
          '?list=true&list=false',
          '/?list=true',
        ),
      },
    ),
  })
  .map(({ namespace, mount: [mount, version], endpoint, name, insert, picks, prefix, query }) => {
    const middle = version === 2 || endpoint === 'x' ? endpoint : '';
    const path = [namespace, mount, middle, name].filter((part) => part !== '').join('/');
    const spelt = spelling(path, picks);
    const at = insert === null ? 0 : insert[0] % (spelt.length + 1);
    return prefix + (insert === null ? spelt : spelt.slice(0, at) + insert[1] + spelt.slice(at)) + query;
  });

const header = fc.oneof(
  { weight: 6, arbitrary: fc.constant<readonly [string, string] | null>(null) },
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constantFrom('X-Vault-Namespace', 'x-vault-namespace', 'X-Bao-Namespace', 'X_Vault_Namespace', 'X-Vault-Namespace '),
      fc.constantFrom(
        'ns1',
        'ns1/',
        '/ns1',
        'ns1/child',
        '//ns1',
        'ns1//child',
        'root',
        'root/',
        ' root ',
        'root/.',
        'root/x/..',
        'x/../root',
        'x/../ns1',
        'ns1/..',
        '.',
        '',
        '/',
        'nope',
        'NS1',
        'ns1%2Fchild',
        'ns1,ns1',
      ),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<readonly [string, string]>(
      ['X-Vault-Wrap-TTL', '0'],
      ['X-Original-URL', '/v1/secret/data/app/x'],
      ['X-HTTP-Method-Override', 'LIST'],
      ['X-Forwarded-Prefix', '/ns1'],
      ['Connection', 'X-Vault-Namespace'],
      ['Expect', '100-continue'],
      ['X-Vault-Inline-Auth-Path', 'auth/x/login'],
      ['Upgrade', 'h2c'],
    ),
  },
);

const readRequest = fc.record({
  method: fc.constantFrom('GET', 'GET', 'GET', 'LIST', 'SCAN', 'HEAD', 'HELP', 'OPTIONS', 'get'),
  target,
  header,
  version: fc.oneof({ weight: 15, arbitrary: fc.constant('HTTP/1.1') }, { weight: 1, arbitrary: fc.constantFrom('HTTP/1.0', 'HTTP/1.2') }),
  eol: fc.oneof({ weight: 30, arbitrary: fc.constant('\r\n') }, { weight: 1, arbitrary: fc.constant('\n') }),
});

interface Shot {
  readonly method: string;
  readonly target: string;
  readonly header: readonly [string, string] | null;
  readonly version: string;
  readonly eol: string;
  readonly body?: string;
}

function bytesOf({ method, target: to, header: extra, version, eol, body }: Shot): Buffer {
  const lines = [
    `${method} ${to} ${version}`,
    'Host: a',
    `X-Vault-Token: ${ROOT}`,
    'Connection: close',
    ...(extra === null ? [] : [`${extra[0]}: ${extra[1]}`]),
    ...(body === undefined ? [] : [`Content-Length: ${body.length}`]),
  ];
  return Buffer.from(lines.join(eol) + eol + eol + (body ?? ''), 'latin1');
}

async function shoot(to: number, shot: Shot): Promise<string> {
  // The server itself gives up on a request whose client closes its side; Stepgate answers it.
  const bytes = await exchange(to, [bytesOf(shot)], { timeoutMs: 1000, halfClose: to === stack.port });
  try {
    return parseAnswers(bytes, shot.method === 'HEAD')
      .map(({ status, body }) => `${status} ${body.toString()}`)
      .join('\n');
  } catch {
    return bytes.toString('latin1');
  }
}

/** Names below `crit` are secret here as well: the policy gates listings. */
const reveals = (text: string) => /MARKER/.test(text) || (/^200/.test(text) && /"keys":\[[^\]]*"(?:db|x\.|a\+b|sub\/)"/.test(text));

test(`of ${RUNS} requests that read, none that reveals a gated secret directly reveals it through Stepgate`, async () => {
  let direct = 0;
  let challenged = 0;
  await fc.assert(
    fc.asyncProperty(readRequest, async (shot) => {
      const [plain, gated] = await Promise.all([shoot(port, shot), shoot(stack.port, shot)]);
      if (reveals(plain)) direct++;
      if (gated.startsWith('401')) challenged++;
      expect(reveals(gated), `${JSON.stringify(shot)} -> ${gated.slice(0, 200)}`).toBe(false);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
  process.stdout.write(`fuzz: ${RUNS} reads, ${direct} reveal directly, ${challenged} were challenged, 0 reveal through Stepgate\n`);
  expect(direct).toBeGreaterThan(RUNS / 40);
}, 3_600_000);

test(`of ${RUNS / 2} requests that write, none changes a gated secret`, async () => {
  const state = async (): Promise<string> => {
    const all: unknown[] = [];
    for (const [mount, version] of MOUNTS) {
      for (const name of NAMES) {
        const answer = await ask(port, 'GET', `/v1/${encode(mount)}/${version === 2 ? 'metadata/' : ''}crit/${encode(name)}`, headersOf(''));
        all.push([mount, name, answer?.status, answer?.status === 200 ? (jsonOf(answer)['data'] ?? null) : null]);
      }
    }
    return JSON.stringify(all);
  };
  const before = await state();
  expect(before).toContain('MARKER');
  const writes = fc.record({
    method: fc.constantFrom('PUT', 'POST', 'PATCH', 'DELETE', 'DELETE'),
    target,
    header,
    version: fc.constant('HTTP/1.1'),
    eol: fc.constant('\r\n'),
  });
  await fc.assert(
    fc.asyncProperty(
      writes,
      fc.constantFrom('{"data":{"key":"changed"}}', '{"versions":[1]}', '{"custom_metadata":{"owner":"changed"}}', '{}'),
      async (shot, body) => {
        await shoot(stack.port, shot.method === 'DELETE' ? shot : { ...shot, body });
      },
    ),
    { numRuns: RUNS / 2 },
  );
  expect(await state()).toBe(before);
}, 3_600_000);
