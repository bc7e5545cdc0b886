import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';

import { checkDocument, parseText } from '../../src/document.ts';
import { classify } from '../../src/policy/classify.ts';
import { compilePolicy, type Policy } from '../../src/policy/policy.ts';
import { LATER_POLICY_KEYS, policySchema } from '../../src/policy/schema.ts';
import { MountTable } from '../../src/vault/mounts.ts';
import { parseRequest } from '../../src/vault/request.ts';

function compile(change: Record<string, unknown>): Policy {
  const document = parseText(
    'policy.yaml',
    stringify({
      version: 1,
      tiers: [{ name: 'open' }, { name: 'low' }, { name: 'high', deny: 'no' }, { name: 'top', deny: 'never' }],
      default_tier: 'low',
      unknown_mount: 'high',
      system: { admin: 'high', exits: 'top' },
      ...change,
    }),
  );
  return compilePolicy(document, checkDocument(document, policySchema, LATER_POLICY_KEYS), new Map());
}

const table = new MountTable(
  [
    ['secret/', 'kv-v2'],
    ['kv1/', 'kv-v1'],
    ['data/', 'kv-v2'],
    ['pki/', 'pki'],
    ['db/', 'database'],
    ['transit/', 'transit'],
    ['plugin/', 'homemade'],
    ['ns1/secret/', 'kv-v2'],
    ['auth/corp/ldap/', 'ldap'],
  ],
  ['ns1', 'ns1/child'],
);
const nothingKnown = new MountTable([], undefined);

function tierOf(policy: Policy, asked: string, mounts = table): string {
  const [method = '', target = '', namespace] = asked.split(' ');
  const request = parseRequest({ method, target: `/v1/${target}`, headers: namespace === undefined ? [] : [['X-Vault-Namespace', namespace]] });
  const { tier, why } = classify(policy, mounts, request);
  return `${tier?.name ?? '-'} ${why}`;
}

const policy = compile({
  rules: [
    { secret: 'secret/crit/*', tier: 'high' },
    { secret: 'secret/crit/public/*', tier: 'open' },
    { secret: 'secret/listed/*', tier: 'high', operations: ['all'] },
    { secret: 'secret/+/prod/*', tier: 'top' },
    { secret: 'kv1/crit/*', tier: 'high' },
    { secret: 'data/crit/*', tier: 'high' },
    { secret: 'secret/crit/*', tier: 'top', namespace: 'ns1' },
    { secret: 'any/*', tier: 'top', namespace: '*' },
    { path: 'db/creds/deploy', tier: 'high' },
    { path: 'pki/issue/web', tier: 'open' },
    { path: 'sys/policies/*', operations: ['write'], tier: 'top' },
    { path: 'sys/capabilities', tier: 'open' },
    { path: 'sys/metrics', tier: 'open' },
    { path: 'sys/raw/*', tier: 'open' },
    { path: 'sys/pprof/*', tier: 'open', allow_exit: true },
  ],
});

describe('classify', () => {
  test.for([
    // KV version 2: a secret is one secret by whatever endpoint
    ['GET secret/data/crit/db', 'high rule'],
    ['GET secret/data/crit/db?version=1', 'high rule'],
    ['GET secret/data/crit/db/', 'high rule'],
    ['GET secret%2Fdata%2fcrit%2Fdb', 'high rule'],
    ['GET secret/subkeys/crit/db', 'high rule'],
    ['GET secret/metadata/crit/db', 'high rule'],
    ['PUT secret/data/crit/db', 'high rule'],
    ['PATCH secret/data/crit/db', 'high rule'],
    ['DELETE secret/data/crit/db', 'high rule'],
    ['DELETE secret/metadata/crit/db', 'high rule'],
    ['PUT secret/metadata/crit/db', 'high rule'],
    ['PUT secret/delete/crit/db', 'high rule'],
    ['PUT secret/undelete/crit/db', 'high rule'],
    ['PUT secret/destroy/crit/db', 'high rule'],
    ['HEAD secret/data/crit/db', 'high rule'],
    ['GET secret/data/crit/public/x', 'open rule'],
    ['GET secret/data/crit', 'low default_tier'],
    ['GET secret/data/critical/x', 'low default_tier'],
    ['GET secret/data/app/prod/db', 'top rule'],
    ['GET secret/data/app/web', 'low default_tier'],
    ['PUT secret/data/app/web', '- pass'],
    ['GET secret/metadata/app/web', '- pass'],
    // listings are free unless a rule says otherwise, and then from above too
    ['LIST secret/metadata/crit', '- pass'],
    ['LIST secret/metadata/listed', 'high rule'],
    ['LIST secret/metadata/listed/sub', 'high rule'],
    ['LIST secret/metadata', 'high rule'],
    ['GET secret/metadata/?list=true', 'high rule'],
    ['SCAN secret/metadata', 'high rule'],
    ['LIST secret/metadata/other', '- pass'],
    ['LIST secret/detailed-metadata/listed', 'high rule'],
    // configuring a mount that holds something gated
    ['PUT secret/config', 'top configure'],
    ['GET secret/config', '- pass'],
    ['PUT transit/keys/k/config', '- pass'],
    ['PUT db/config/x', 'high configure'],
    // both shapes, whatever the table says
    ['GET kv1/crit/db', 'high rule'],
    ['GET kv1/data/crit/db', 'high rule'],
    ['GET secret/crit/db', 'high rule'],
    ['GET data/data/crit/db', 'high rule'],
    // other engines
    ['GET db/creds/deploy', 'high rule'],
    ['GET db/creds/other', 'low default_tier'],
    ['LIST db/roles', '- pass'],
    ['PUT pki/issue/web', 'open rule'],
    ['PUT pki/issue/other', 'low default_tier'],
    ['GET pki/ca/pem', '- pass'],
    ['PUT transit/decrypt/k', 'low default_tier'],
    ['PUT transit/encrypt/k', '- pass'],
    ['GET transit/export/encryption-key/k', 'low default_tier'],
    ['GET plugin/anything', 'low default_tier'],
    ['PUT plugin/anything', 'low default_tier'],
    ['GET cubbyhole/x', 'low default_tier'],
    // mounts that are not known
    ['GET nowhere/x', 'high unknown_mount'],
    ['PUT nowhere/x', 'high unknown_mount'],
    ['GET ns2/secret/data/x', 'high unknown_mount'],
    // namespaces
    ['GET secret/data/crit/db ns1', 'top rule'],
    ['GET ns1/secret/data/crit/db', 'top rule'],
    ['GET secret/data/app/prod/db ns1', 'low default_tier'],
    ['GET any/x ns1', 'top rule'],
    ['GET any/x', 'top rule'],
    ['GET secret/data/crit/db nope', 'high rule'],
    ['GET secret/data/x nope', 'high unknown_mount'],
    // the system
    ['GET sys/health', '- pass'],
    ['GET sys/internal/ui/mounts/secret/crit/db', '- pass'],
    ['GET sys/mounts', '- pass'],
    ['PUT sys/mounts/x', 'high system.admin'],
    ['GET sys/policies/acl/x', 'high system.admin'],
    ['PUT sys/policies/acl/x', 'top rule'],
    ['PUT sys/capabilities', 'open rule'],
    ['PUT sys/capabilities-self', '- pass'],
    ['PUT sys/wrapping/unwrap', '- pass'],
    ['GET sys/raw/logical/x', 'top system.exits'],
    ['GET sys/storage/raft/snapshot', 'top system.exits'],
    ['GET sys/pprof/heap', 'open rule'],
    ['GET sys/never-heard-of', 'top system.exits'],
    ['GET sys/wrapping/unwrap/x', 'top system.exits'],
    ['GET ns1/sys/raw/x', 'top system.exits'],
    ['GET sys/raw/x ns1', 'top system.exits'],
    ['PUT auth/userpass/login/alice', '- pass'],
    ['PUT auth/approle/login', '- pass'],
    ['PUT auth/userpass/users/login', 'high system.admin'],
    ['PUT auth/corp/ldap/login/alice', '- pass'],
    ['PUT auth/corp/other/login/alice', 'high system.admin'],
    ['GET auth/token/lookup-self', '- pass'],
    ['PUT auth/token/create', 'high system.admin'],
    ['PUT identity/entity', 'high system.admin'],
    ['GET identity/oidc/token/r', 'high system.admin'],
  ] as const)('%s is %s', ([asked, verdict]) => {
    expect(tierOf(policy, asked)).toBe(verdict);
  });

  test.for([
    ['GET secret/data/crit/db', 'high'],
    ['GET secret/crit/db', 'high'],
    ['GET ns1/secret/data/crit/db', 'top'],
    ['GET secret/data/crit/db ns1', 'top'],
    ['GET a/b/c/any/x', 'top'],
    ['GET anything', 'high'],
    ['GET a/sys/raw/x', 'top'],
    ['GET sys/health', '-'],
  ] as const)('with nothing known, %s is %s', ([asked, tier]) => {
    expect(tierOf(policy, asked, nothingKnown).split(' ')[0]).toBe(tier);
  });

  test('a mount table that names more never makes a gated request free', () => {
    for (const asked of [
      'GET secret/data/crit/db',
      'GET kv1/crit/db',
      'GET secret/metadata/crit/db',
      'PUT secret/destroy/crit/db',
      'GET ns1/secret/data/crit/db',
    ]) {
      for (const type of ['kv-v1', 'kv-v2', 'pki', 'homemade']) {
        const swapped = new MountTable(
          [
            ['secret/', type],
            ['kv1/', type],
            ['ns1/secret/', type],
          ],
          ['ns1'],
        );
        expect(['high', 'top'], `${asked} on ${type}`).toContain(tierOf(policy, asked, swapped).split(' ')[0]);
      }
    }
  });
});

describe('a policy is refused', () => {
  const findings = (text: string): string => {
    try {
      const document = parseText('policy.yaml', text);
      compilePolicy(document, checkDocument(document, policySchema, LATER_POLICY_KEYS), new Map());
      return 'accepted';
    } catch (error) {
      return (error as Error).message;
    }
  };
  const base = 'version: 1\ntiers: [{name: open}, {name: high, deny: x}]\ndefault_tier: open\nunknown_mount: high\nsystem: {admin: high, exits: high}\n';

  test.for([
    [`${base}rules:\n  - secret: a/*/b\n    tier: high\n`, 'policy.yaml:7:15: rules.0.secret: bad pattern: `*` may stand only at the end'],
    [`${base}rules:\n  - {secret: a, tier: nope}\n`, 'policy.yaml:7:23: rules.0.tier: unknown tier `nope`'],
    [`${base}rules:\n  - {secret: a, tier: high, when: x}\n`, 'policy.yaml:7:29: rules.0.when: `when` is not available in this version'],
    [`${base}rules:\n  - {secret: a, tier: high, wen: x}\n`, 'policy.yaml:7:29: rules.0.wen: unknown key `wen`'],
    [`${base}rules:\n  - {secret: a, tier: high, operations: [reed]}\n`, 'rules.0.operations.0: expected one of reveal'],
    [`${base}rules:\n  - {secret: a, path: b, tier: high}\n`, 'a rule has either secret or path'],
    [`${base}proofs: {p: {kind: passkey}}\n`, 'kind `passkey` is not available in this version'],
    [
      `${base}rules:\n  - {secret: a/*, tier: open}\n  - {secret: a/+/prod/*, tier: high}\n`,
      'policy.yaml:8:14: rules.1.secret: never decides: `a/*` (line 7, tier open) outranks it',
    ],
    [`${base}groups: {}\n`, '`groups` is not available in this version'],
    ['version: 2\n', 'policy.yaml:1:10: version: expected 1'],
    ['version: 1\nversion: 1\n', 'not valid YAML'],
    ['a: [\n', 'not valid YAML'],
    [
      'version: 1\ntiers: [{name: high, deny: x}, {name: open}]\ndefault_tier: open\nunknown_mount: high\nsystem: {admin: high, exits: high}\n',
      'the order is the strictness',
    ],
    [
      'version: 1\ntiers: [{name: high, step_up: {accept: [ci], approvals: {count: 2}}}]\ndefault_tier: high\nunknown_mount: high\nsystem: {admin: high, exits: high}\n',
      '`approvals` is not available in this version',
    ],
    [
      'version: 1\ntiers: [{name: high, step_up: {accept: [ci]}}]\ndefault_tier: high\nunknown_mount: high\nsystem: {admin: high, exits: high}\n',
      'policy.yaml:2:41: tiers.0.step_up.accept.0: unknown proof `ci`',
    ],
  ] as const)('%#: %s', ([text, message]) => {
    expect(findings(text)).toContain(message);
  });
});
