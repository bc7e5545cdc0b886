import { z } from 'zod';

import { parseDuration } from '../units.ts';
import { OPERATION_BITS, OPERATION_GROUPS } from '../vault/operations.ts';

const duration = z.string({ error: 'expected a duration such as 30s, 10m or 1h' }).transform((text, context) => {
  const ms = parseDuration(text);
  if (ms === null || ms === 0) {
    context.addIssue({ code: 'custom', message: 'expected a duration such as 30s, 10m or 1h' });
    return z.NEVER;
  }
  return ms;
});

const name = z.string({ error: 'expected a name' }).regex(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/, 'expected a name of letters, digits, - and _');
const text = z.string({ error: 'expected a text' }).min(1, 'expected a text').max(500, 'expected at most 500 characters');
const OPERATIONS = [...Object.keys(OPERATION_BITS), ...Object.keys(OPERATION_GROUPS)];

const stepUp = z.strictObject({
  accept: z.array(name, { error: 'expected a list of proofs, such as [ci]' }).min(1, 'expected at least one proof'),
  max_age: duration.exactOptional(),
});

const tier = z
  .strictObject({
    name,
    step_up: stepUp.exactOptional(),
    deny: text.exactOptional(),
    bind: z.literal('token', { error: 'only `token` is available in this version' }).exactOptional(),
    on_audit_failure: z.enum(['refuse', 'gap'], { error: 'expected refuse or gap' }).exactOptional(),
  })
  .refine((value) => value.step_up === undefined || value.deny === undefined, 'a tier has either step_up or deny');

const operation = z.string().refine((value) => OPERATIONS.includes(value), `expected one of ${OPERATIONS.join(', ')}`);

const rule = z
  .strictObject({
    secret: z.string({ error: 'expected a pattern' }).max(4096).exactOptional(),
    path: z.string({ error: 'expected a pattern' }).max(4096).exactOptional(),
    tier: name,
    operations: z.array(operation, { error: 'expected a list of operations' }).min(1, 'expected at least one operation').exactOptional(),
    namespace: z.string({ error: 'expected a namespace, such as ns1, ns1/* or "*"' }).max(4096).exactOptional(),
    owner: text.exactOptional(),
    reason: text.exactOptional(),
    allow_exit: z.boolean({ error: 'expected true or false' }).exactOptional(),
  })
  .refine((value) => (value.secret === undefined) !== (value.path === undefined), 'a rule has either secret or path');

const strings = z.array(z.string().min(1), { error: 'expected a list of texts' }).min(1, 'expected at least one');

const proof = z.strictObject({
  kind: z.literal('jwt', {
    error: ({ input }) =>
      input === 'passkey' || input === 'vault_identity' ? `kind \`${String(input)}\` is not available in this version: use jwt` : 'expected jwt',
  }),
  issuer: z.string({ error: 'expected the issuer, exactly as its tokens name it' }).min(1).max(1024),
  algs: z
    .array(z.enum(['EdDSA', 'ES256', 'PS256', 'RS256'], { error: 'expected EdDSA, ES256, PS256 or RS256' }), { error: 'expected a list of algorithms' })
    .min(1, 'expected at least one algorithm'),
  nonce_in: z.enum(['nonce', 'aud'], {
    error: ({ input }) => (input === 'none' ? '`none` is not available in this version: use nonce or aud' : 'expected nonce or aud'),
  }),
  jwks_file: z.string({ error: 'expected the path of a JWKS file' }).min(1),
  audience: z.string({ error: 'expected a text' }).min(1).max(1024).exactOptional(),
  acr: strings.exactOptional(),
  amr: strings.exactOptional(),
  match: z.record(z.string(), z.union([z.string(), strings], { error: 'expected a text or a list of texts' })).exactOptional(),
  typ: z.enum(['JWT', 'stepgate-stepup+jwt'], { error: 'expected JWT or stepgate-stepup+jwt' }).exactOptional(),
  max_lifetime: duration.exactOptional(),
  clock_skew: duration.refine((ms) => ms <= 60_000, 'expected at most 60s').exactOptional(),
});

/** The policy file: tiers from lax to strict, rules, and whose proofs are believed (design.md §4). */
export const policySchema = z.strictObject({
  version: z.literal(1, { error: 'expected 1' }),
  tiers: z.array(tier, { error: 'expected a list of tiers, the least strict first' }).min(1, 'expected at least one tier').max(64, 'expected at most 64 tiers'),
  default_tier: name,
  unknown_mount: name,
  system: z.strictObject({ admin: name, exits: name }),
  rules: z.array(rule, { error: 'expected a list of rules' }).max(200_000).default([]),
  proofs: z.record(name, proof, { error: 'expected proofs by name' }).default({}),
});

/** A policy file that fits the schema; names in it are not resolved yet. Durations in milliseconds. */
export type PolicySource = z.output<typeof policySchema>;

/** Keys of features that are not built yet, refused by name. */
export const LATER_POLICY_KEYS: ReadonlySet<string> = new Set([
  'when',
  'grant',
  'approvals',
  'pending_for',
  'use_within',
  'hold',
  'raise_to',
  'freeze',
  'groups',
  'gates',
  'observe',
  'serial',
  'require_signature',
  'jwks_url',
  'discovery',
  'profile',
  'profiles',
  'issuers',
  'passkey',
  'web',
  'break_glass',
  'factors',
  'self',
  'limits',
  'challenge_status',
  'path_mode',
  'binding',
]);
