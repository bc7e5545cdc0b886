import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { RequestError } from '../../src/vault/error.ts';
import { parseNamespaceHeader } from '../../src/vault/namespace.ts';
import { parseApiPath, serialiseApiPath } from '../../src/vault/path.ts';
import { parseRequest, type RawRequest, serialiseRequest } from '../../src/vault/request.ts';

const TOKEN = ['X-Vault-Token', 'hvs.caller'] as const;
const get = (target: string, headers: RawRequest['headers'] = [TOKEN], method = 'GET') => parseRequest({ method, target, headers });
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'accepted';
  } catch (error) {
    if (error instanceof RequestError) return `${error.status} ${error.code}`;
    throw error;
  }
};

/** A segment as a server may have one: any printable text but what is refused. */
const segment = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 8 })
  .map((text) => text.replace(/[/\\;]/g, '_'))
  .filter((text) => text !== '.' && text !== '..' && !/[\p{C}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/u.test(text) && text.isWellFormed());

const query = fc.array(
  fc.tuple(
    fc.constantFrom('version', 'a', 'b c', 'ü'),
    fc.string({ maxLength: 6 }).filter((text) => text.isWellFormed()),
  ),
  { maxLength: 3 },
);

describe('the round trip', () => {
  test('what is written for the upstream reads as what was classified', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('GET', 'LIST', 'SCAN', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD'),
        fc.array(segment, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        query,
        fc.option(fc.constantFrom('ns1', '/ns1/', 'ns1/child', 'root', ''), { nil: undefined }),
        fc.option(fc.constantFrom('60s', '0', '5'), { nil: undefined }),
        (method, segments, trailing, pairs, namespace, wrap) => {
          const target = `/v1/${segments.map((text) => encodeURIComponent(text)).join('/')}${trailing ? '/' : ''}?${pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join('&')}`;
          const headers: [string, string][] = [
            ['X-Vault-Token', 'hvs.x'],
            ['User-Agent', 'test'],
          ];
          if (namespace !== undefined) headers.push(['X-Vault-Namespace', namespace]);
          if (wrap !== undefined) headers.push(['X-Vault-Wrap-TTL', wrap]);
          let request: ReturnType<typeof parseRequest>;
          try {
            request = parseRequest({ method, target, headers });
          } catch (error) {
            if (error instanceof RequestError) return; // a doubled key, for one
            throw error;
          }
          expect(request.path.segments).toEqual(segments);
          const written = serialiseRequest(request);
          expect(written.target).toMatch(/^\/v1\/[!-~]*$/);
          expect(parseRequest(written)).toEqual(request);
        },
      ),
      { numRuns: 5000 },
    );
  });

  test('any raw path that is accepted has one spelling, and that is its own', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.constantFrom(
            'a',
            'crit',
            '%2F',
            '%2e',
            '%2E%2e',
            '.',
            '..',
            '/',
            '//',
            '%25',
            '%2525',
            '%41',
            '+',
            '%20',
            '~',
            '%C3%BC',
            '%00',
            '%ff',
            '\\',
            '%5c',
            ';',
            '*',
          ),
          { maxLength: 8 },
        ),
        (parts) => {
          const raw = `/v1/${parts.join('')}`;
          if (codeOf(() => parseApiPath(raw)) !== 'accepted') return;
          const path = parseApiPath(raw);
          for (const text of path.segments) expect(['', '.', '..']).not.toContain(text);
          expect(parseApiPath(serialiseApiPath(path))).toEqual(path);
        },
      ),
      { numRuns: 5000 },
    );
  });
});

describe('targets', () => {
  test.for([
    ['/v1/secret%2Fdata%2Fcrit%2Fdb', ['secret', 'data', 'crit', 'db']],
    ['/v1/%73ecret/data/crit/db', ['secret', 'data', 'crit', 'db']],
    ['/v1/secret/data/a%252Fb', ['secret', 'data', 'a%2Fb']],
    ['/v1/secret/data/my%20key%2B%C3%BC', ['secret', 'data', 'my key+ü']],
    ['/v1/secret/metadata/x/?list=true', ['secret', 'metadata', 'x']],
  ] as const)('reads %s', ([target, segments]) => {
    expect(get(target).path.segments).toEqual(segments);
  });

  test.for([
    ['http://evil/v1/x', '400 bad_path'],
    ['//v1/x', '400 bad_path'],
    ['*', '400 bad_path'],
    ['/v1/x#y', '400 bad_path'],
    ['/v1/x\\y', '400 bad_path'],
    ['/v1/x%5cy', '400 bad_path'],
    ['/v1/x;y', '400 bad_path'],
    ['/v1/x%3By', '400 bad_path'],
    ['/v1/x%00', '400 bad_path'],
    ['/v1/x%0a', '400 bad_path'],
    ['/v1/x%ff', '400 bad_path'],
    ['/v1/x%zz', '400 bad_path'],
    ['/v1/x%', '400 bad_path'],
    ['/v1/x%E2%80%8B', '400 bad_path'],
    ['/v1/x%C2%A0', '400 bad_path'],
    ['/v1//x', '400 bad_path'],
    [`/v1/${'data/'.repeat(200)}x`, '400 bad_path'],
    ['/v1/x//y', '400 bad_path'],
    ['/v1/x/%2Fy', '400 bad_path'],
    ['/v1/x//', '400 bad_path'],
    ['/v1/x/../y', '400 relative_path'],
    ['/v1/x/%2e%2e/y', '400 relative_path'],
    ['/v1/x/..%2fy', '400 relative_path'],
    ['/v1/./x', '400 relative_path'],
    ['/v1/..', '400 relative_path'],
    ['/%76%31/x', '404 not_found'],
    ['/v2/x', '404 not_found'],
    ['/v1/', '404 not_found'],
    ['/v1', '404 not_found'],
    ['/ui/../v1/secret', '404 not_found'],
    ['/v1/x?a=b;c=d', '400 ambiguous_query'],
    ['/v1/x?a=%zz', '400 ambiguous_query'],
    ['/v1/x?list=true&list=false', '400 ambiguous_query'],
    ['/v1/x?list=yes', '400 ambiguous_query'],
    ['/v1/x?list=true&scan=true', '400 ambiguous_query'],
    ['/v1/x?version=1&%76ersion=2', '400 ambiguous_query'],
  ] as const)('refuses %s with %s', ([target, code]) => {
    expect(codeOf(() => get(target))).toBe(code);
  });

  test.for([
    ['GET', '/v1/x', 'read'],
    ['GET', '/v1/x?list=true', 'list'],
    ['GET', '/v1/x?%6cist=T', 'list'],
    ['GET', '/v1/x?list=', 'read'],
    ['GET', '/v1/x?list=0', 'read'],
    ['GET', '/v1/x?scan=1', 'scan'],
    ['GET', '/v1/x?help=1', 'help'],
    ['LIST', '/v1/x', 'list'],
    ['SCAN', '/v1/x', 'scan'],
    ['PUT', '/v1/x', 'update'],
    ['POST', '/v1/x?list=true', 'update'],
    ['PATCH', '/v1/x', 'patch'],
    ['DELETE', '/v1/x', 'delete'],
    ['HEAD', '/v1/x', 'head'],
  ] as const)('%s %s is %s', ([method, target, operation]) => {
    expect(get(target, [TOKEN], method).operation).toBe(operation);
  });

  test.for(['get', 'FOO', 'CONNECT', 'TRACE', 'LINK'])('answers 405 to %s', (method) => {
    expect(codeOf(() => get('/v1/x', [TOKEN], method))).toBe('405 method_not_allowed');
  });
});

describe('headers', () => {
  test.for([
    [
      [
        ['X-Vault-Token', 'a'],
        ['x-vault-token', 'b'],
      ],
      '400 ambiguous_header',
    ],
    [
      [
        ['X-Vault-Token', 'a'],
        ['Authorization', 'Bearer b'],
      ],
      '400 ambiguous_token',
    ],
    [
      [
        ['X-Vault-Namespace', 'a'],
        ['X-Vault-Namespace', 'a'],
      ],
      '400 ambiguous_header',
    ],
    [
      [
        ['X-Vault-Wrap-TTL', '1'],
        ['X-Vault-Wrap-TTL', '2'],
      ],
      '400 ambiguous_header',
    ],
    [
      [
        ['X-Step-Up-Token', 'a'],
        ['X-Step-Up-Token', 'b'],
      ],
      '400 ambiguous_header',
    ],
    [[['X_Vault_Namespace', 'a']], '400 ambiguous_header'],
    [[['X-Vault-Inline-Auth-Path', 'auth/x']], '400 inline_auth_refused'],
    [[['X-Vault-Recover-Snapshot-Id', 'x']], '400 recover_refused'],
    [[['X-Vault-Namespace', 'a/../b']], '400 bad_namespace'],
    [[['X-Vault-Namespace', 'a//b']], '400 bad_namespace'],
    [[['X-Vault-Namespace', '//a']], '400 bad_namespace'],
    [[['X-Vault-Namespace', 'a,b']], '400 bad_namespace'],
    [[['X-Vault-Namespace', 'a%2Fb']], '400 bad_namespace'],
    [[['X-Vault-Namespace', 'root/a']], '400 bad_namespace'],
    [[['X-Vault-Namespace', '\u00ff']], '400 bad_namespace'],
  ] as const)('refuses %j with %s', ([headers, code]) => {
    expect(codeOf(() => get('/v1/x', headers))).toBe(code);
  });

  test.for([
    ['ns1', ['ns1']],
    ['/ns1/', ['ns1']],
    ['ns1/child/', ['ns1', 'child']],
    ['', []],
    ['/', []],
    ['root', []],
    [' root\t', []],
    ['\u00c3\u00bc', ['ü']],
  ] as const)('reads the namespace %j', ([value, segments]) => {
    expect(parseNamespaceHeader(value)).toEqual(segments);
  });

  test('an empty X-Vault-Token does not hide the Bearer, another scheme is no token', () => {
    expect(
      get('/v1/x', [
        ['X-Vault-Token', ''],
        ['Authorization', 'Bearer b'],
      ]).token,
    ).toEqual({ source: 'authorization', value: 'b' });
    expect(get('/v1/x', [['Authorization', 'bearer b']]).token).toBeUndefined();
    expect(get('/v1/x', [['Authorization', 'Basic b']]).token).toBeUndefined();
  });

  test('nothing of ours, of another hop or of the server itself is passed on', () => {
    const names = [
      'X-Step-Up-Token',
      'X-Stepgate-Job',
      'X-Stepgate-Request-Id',
      'X-Forwarded-For',
      'Forwarded',
      'X-Original-URL',
      'X-Rewrite-URL',
      'X-HTTP-Method-Override',
      'X-Vault-No-Request-Forwarding',
      'X-Vault-Internal-No-Request-Forwarding',
      'X-Vault-Forward',
      'X-Vault-Policy-Override',
      'X-Processed-Tls-Client-Certificate',
      'Connection',
      'TE',
      'Expect',
      'Range',
      'If-None-Match',
      'Cookie',
      'Accept-Encoding',
    ];
    const written = serialiseRequest(
      get('/v1/x', [TOKEN, ['X-Vault-MFA', 'stepgate:abc'], ['X-Vault-MFA', 'totp:123'], ['X-Vault-Index', 'i'], ...names.map((name) => [name, 'v'] as const)]),
    );
    expect(written.headers).toEqual([TOKEN, ['X-Vault-MFA', 'totp:123'], ['X-Vault-Index', 'i']]);
  });
});
