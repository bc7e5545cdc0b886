import { createHash } from 'node:crypto';

import canonicalize from 'canonicalize';

import type { Document, Finding } from '../document.ts';
import { DocumentError } from '../document.ts';
import type { Proof } from '../identity/proof.ts';
import { OPERATION_BITS, OPERATION_GROUPS } from '../vault/operations.ts';
import { type Pattern, PatternError, parsePattern, patternMatches } from './pattern.ts';
import type { PolicySource } from './schema.ts';
import { Trie } from './trie.ts';

/** What a tier asks for, resolved: the names in `accept` replaced by what they stand for. */
export interface StepUp {
  /** By name, in the policy's order of preference. */
  readonly proofs: ReadonlyMap<string, Proof>;
  /** Longest time since the person or job authenticated, milliseconds. */
  readonly maxAgeMs: number | undefined;
  /** base64url SHA-256 of all of this; part of the digest, so that a change of it voids what was issued under it. */
  readonly hash: string;
}

/** A degree of sensitivity. */
export interface Tier {
  readonly name: string;
  /** Place in the policy; higher is stricter. */
  readonly strictness: number;
  readonly stepUp: StepUp | undefined;
  /** Set when nothing gets through: what to tell the caller. */
  readonly deny: string | undefined;
  readonly onAuditFailure: 'refuse' | 'gap' | undefined;
}

/** A rule, compiled. */
export interface Rule {
  readonly kind: 'secret' | 'path';
  readonly pattern: Pattern;
  readonly namespace: string;
  readonly operations: number;
  readonly tier: Tier;
  readonly strictness: number;
  readonly allowExit: boolean;
  readonly owner: string | undefined;
  readonly reason: string | undefined;
  /** Line in the policy file, from 1. */
  readonly line: number;
}

/** The rules of the namespaces that one pattern covers. */
export interface RuleGroup {
  /** Null: the root namespace only. */
  readonly namespace: Pattern | null;
  readonly secret: Trie<Rule>;
  readonly path: Trie<Rule>;
}

/** A policy, ready to classify. Immutable; a reload makes a new one. */
export interface Policy {
  readonly tiers: readonly Tier[];
  readonly defaultTier: Tier;
  readonly unknownMount: Tier;
  readonly systemAdmin: Tier;
  readonly systemExits: Tier;
  readonly groups: readonly RuleGroup[];
  readonly rules: readonly Rule[];
  /** Hex SHA-256 of the file's bytes; stands in every audit entry. */
  readonly sha256: string;
}

/** Whether a tier lets nothing through without more ado. */
export function isGated(tier: Tier | undefined): tier is Tier {
  return tier !== undefined && (tier.stepUp !== undefined || tier.deny !== undefined);
}

/**
 * Compiles a checked policy. `proofs` are the policy's, with their keys.
 * @throws {DocumentError} with every contradiction in it
 */
export function compilePolicy(document: Document, source: PolicySource, proofs: ReadonlyMap<string, Proof>): Policy {
  const findings: Finding[] = [];
  const tiers = compileTiers(document, source, proofs, findings);
  const byName = new Map(tiers.map((tier) => [tier.name, tier]));
  const tierAt = (name: string, path: readonly PropertyKey[]): Tier => {
    const tier = byName.get(name);
    if (tier === undefined) findings.push(document.finding(path, `unknown tier \`${name}\`: expected one of ${[...byName.keys()].join(', ')}`));
    return tier ?? (tiers[0] as Tier);
  };
  const policy = {
    tiers,
    defaultTier: tierAt(source.default_tier, ['default_tier']),
    unknownMount: tierAt(source.unknown_mount, ['unknown_mount']),
    systemAdmin: tierAt(source.system.admin, ['system', 'admin']),
    systemExits: tierAt(source.system.exits, ['system', 'exits']),
  };
  const rules = source.rules.flatMap((rule, i) => compileRule(document, rule, i, tierAt, findings));
  const groups = groupsOf(rules);
  if (findings.length === 0) findings.push(...outrankedRules(document, rules, groups));
  if (findings.length > 0) throw new DocumentError(findings);
  return { ...policy, rules, groups, sha256: createHash('sha256').update(document.text).digest('hex') };
}

function compileTiers(document: Document, source: PolicySource, proofs: ReadonlyMap<string, Proof>, findings: Finding[]): Tier[] {
  const names = new Set<string>();
  let gatedBefore: string | undefined;
  return source.tiers.map((tier, strictness) => {
    if (names.has(tier.name)) findings.push(document.finding(['tiers', strictness, 'name'], `tier \`${tier.name}\` is there twice`));
    names.add(tier.name);
    const gated = tier.step_up !== undefined || tier.deny !== undefined;
    if (!gated && gatedBefore !== undefined) {
      findings.push(
        document.finding(
          ['tiers', strictness],
          `tier \`${tier.name}\` asks for nothing and stands behind \`${gatedBefore}\`: the order is the strictness, the least strict first`,
        ),
      );
    }
    if (gated) gatedBefore = tier.name;
    return {
      name: tier.name,
      strictness,
      stepUp: tier.step_up === undefined ? undefined : resolveStepUp(document, tier.step_up, strictness, proofs, findings),
      deny: tier.deny,
      onAuditFailure: tier.on_audit_failure,
    };
  });
}

function resolveStepUp(
  document: Document,
  stepUp: NonNullable<PolicySource['tiers'][number]['step_up']>,
  index: number,
  proofs: ReadonlyMap<string, Proof>,
  findings: Finding[],
): StepUp {
  const accepted = new Map<string, Proof>();
  for (const [i, name] of stepUp.accept.entries()) {
    const proof = proofs.get(name);
    if (proof === undefined)
      findings.push(
        document.finding(
          ['tiers', index, 'step_up', 'accept', i],
          `unknown proof \`${name}\`: expected one of ${[...proofs.keys()].join(', ') || 'those under proofs (there are none)'}`,
        ),
      );
    else accepted.set(name, proof);
  }
  const described = [...accepted].map(([name, { keys: _, ...proof }]) => ({ name, ...proof }));
  const json = canonicalize({ proofs: described, max_age_ms: stepUp.max_age ?? null }) ?? '';
  return { proofs: accepted, maxAgeMs: stepUp.max_age, hash: createHash('sha256').update(json).digest('base64url') };
}

function compileRule(
  document: Document,
  rule: PolicySource['rules'][number],
  index: number,
  tierAt: (name: string, path: readonly PropertyKey[]) => Tier,
  findings: Finding[],
): Rule[] {
  const kind = rule.secret === undefined ? 'path' : 'secret';
  const tier = tierAt(rule.tier, ['rules', index, 'tier']);
  const pattern = readPattern(document, rule[kind] ?? '', ['rules', index, kind], findings);
  const namespace = rule.namespace === undefined || rule.namespace === '' || rule.namespace === 'root' ? '' : rule.namespace.replace(/\/$/, '');
  if (namespace !== '' && readPattern(document, namespace, ['rules', index, 'namespace'], findings) === undefined) return [];
  if (pattern === undefined) return [];
  let operations = 0;
  for (const name of rule.operations ?? ['reveal', 'write', 'read']) operations |= bitsOf(name);
  const { line } = document.finding(['rules', index], '');
  return [
    {
      kind,
      pattern,
      namespace,
      operations,
      tier,
      strictness: tier.strictness,
      allowExit: rule.allow_exit === true,
      owner: rule.owner,
      reason: rule.reason,
      line,
    },
  ];
}

function bitsOf(name: string): number {
  return (OPERATION_BITS as Readonly<Record<string, number>>)[name] ?? (OPERATION_GROUPS as Readonly<Record<string, number>>)[name] ?? 0;
}

function readPattern(document: Document, source: string, path: readonly PropertyKey[], findings: Finding[]): Pattern | undefined {
  try {
    return parsePattern(source);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    const finding = document.finding(path, `bad pattern: ${error.message}`);
    findings.push({ ...finding, column: finding.column + (error.detail?.column ?? 1) - 1 });
    return undefined;
  }
}

/**
 * Rules that never decide, because a laxer one outranks them wherever they match: `secret/*` outranks `secret/+/prod/*`
 * in Vault, which few expect. Found by asking for a path that only wildcards match.
 */
function outrankedRules(document: Document, rules: readonly Rule[], groups: readonly RuleGroup[]): Finding[] {
  const findings: Finding[] = [];
  for (const [index, rule] of rules.entries()) {
    if (rule.strictness === 0) continue;
    const group = groups.find(({ namespace }) => (namespace?.source ?? '') === rule.namespace);
    const { segments, prefix } = rule.pattern;
    const path = [...segments.map((segment) => (segment === '+' ? '\0' : segment)), ...(prefix === null ? [] : [`${prefix}\0`])];
    const decides = group?.[rule.kind].find(path, rule.operations);
    if (decides === undefined || decides.strictness >= rule.strictness) continue;
    findings.push(
      document.finding(
        ['rules', index, rule.kind],
        `never decides: \`${decides.pattern.source}\` (line ${decides.line}, tier ${decides.tier.name}) outranks it, as in Vault, where a pattern with fewer + wins; write it more precisely`,
      ),
    );
  }
  return findings;
}

function groupsOf(rules: readonly Rule[]): RuleGroup[] {
  const byNamespace = Map.groupBy(rules, (rule) => rule.namespace);
  return [...byNamespace].map(([namespace, group]) => ({
    namespace: namespace === '' ? null : parsePattern(namespace),
    secret: new Trie(group.filter((rule) => rule.kind === 'secret')),
    path: new Trie(group.filter((rule) => rule.kind === 'path')),
  }));
}

/** Whether the rules of a group are about a namespace. */
export function coversNamespace(group: RuleGroup, namespace: readonly string[]): boolean {
  if (group.namespace === null) return namespace.length === 0;
  // `*` alone is every namespace, the root too.
  if (group.namespace.source === '*') return true;
  return patternMatches(group.namespace, namespace);
}
