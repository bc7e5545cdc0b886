import type { MountTable } from '../vault/mounts.ts';
import { CONFIGURE, REVEAL } from '../vault/operations.ts';
import { isListing, type Reading, readingsOf } from '../vault/readings.ts';
import type { VaultRequest } from '../vault/request.ts';
import { coversNamespace, isGated, type Policy, type Rule, type RuleGroup, type Tier } from './policy.ts';

/** Why a request has its tier. */
export type Why = 'rule' | 'default_tier' | 'unknown_mount' | 'system.admin' | 'system.exits' | 'configure' | 'pass';

/** How sensitive a request is, and why. */
export interface Classification {
  /** Undefined: nothing says anything about it, it passes. */
  readonly tier: Tier | undefined;
  readonly why: Why;
  readonly rule: Rule | undefined;
  /** The meaning that the mount table gives the request. */
  readonly reading: Reading;
  /** Other meanings that it may have, where the table does not know which namespaces there are. */
  readonly otherReadings: readonly Reading[];
  /** Whether the answer may hold secret material. */
  readonly reveals: boolean;
}

interface Verdict {
  readonly tier: Tier | undefined;
  readonly why: Why;
  readonly rule: Rule | undefined;
}

const PASS: Verdict = { tier: undefined, why: 'pass', rule: undefined };

/** Classifies a request: the strictest of all the meanings that it may have (design.md §4). Pure. */
export function classify(policy: Policy, table: MountTable, request: VaultRequest): Classification {
  const { readings } = readingsOf(request, table);
  const [primary, ...otherReadings] = readings;
  if (request.page !== null) return { ...PASS, reading: primary, otherReadings, reveals: false };
  let verdict = PASS;
  let reveals = false;
  for (const reading of readings) {
    verdict = stricter(verdict, classifyReading(policy, reading));
    reveals ||= !reading.guessed && reading.system === null && reading.names.some((name) => (name.operations & REVEAL) !== 0);
  }
  return { ...verdict, reading: primary, otherReadings, reveals };
}

/** The stricter of two; of two that are alike the one that a rule explains. */
function stricter(a: Verdict, b: Verdict): Verdict {
  const more = (b.tier?.strictness ?? -1) - (a.tier?.strictness ?? -1);
  return more > 0 || (more === 0 && a.rule === undefined && b.rule !== undefined) ? b : a;
}

function ruleVerdict(rule: Rule): Verdict {
  return { tier: rule.tier, why: 'rule', rule };
}

function classifyReading(policy: Policy, reading: Reading): Verdict {
  const groups = policy.groups.filter((group) => coversNamespace(group, reading.namespace));
  if (reading.system !== null) return classifySystem(policy, reading, groups);
  const pathRule = strictestRule(groups, (group) => findPath(group, reading));
  let verdict = pathRule === undefined ? PASS : ruleVerdict(pathRule);
  for (const [i, name] of reading.names.entries()) {
    const rule = strictestRule(groups, (group) => findName(group, name.segments, name.operations));
    if (rule !== undefined) verdict = stricter(verdict, ruleVerdict(rule));
    else if (pathRule === undefined && (name.operations & REVEAL) !== 0) verdict = stricter(verdict, defaultVerdict(policy, reading, i));
  }
  if ((reading.operations & CONFIGURE) !== 0) verdict = stricter(verdict, configureVerdict(reading, groups));
  return verdict;
}

/** What holds for a secret that no rule names. */
function defaultVerdict(policy: Policy, reading: Reading, nameIndex: number): Verdict {
  if (reading.guessed) return PASS;
  if (reading.mount === undefined) return { tier: policy.unknownMount, why: 'unknown_mount', rule: undefined };
  // Of a known mount only the first name is real; the others may only add rules.
  return nameIndex === 0 ? { tier: policy.defaultTier, why: 'default_tier', rule: undefined } : PASS;
}

function classifySystem(policy: Policy, reading: Reading, groups: readonly RuleGroup[]): Verdict {
  const base: Verdict =
    reading.system === 'exit'
      ? { tier: policy.systemExits, why: 'system.exits', rule: undefined }
      : reading.system === 'admin'
        ? { tier: policy.systemAdmin, why: 'system.admin', rule: undefined }
        : PASS;
  const pathRule = strictestRule(groups, (group) => findPath(group, reading));
  const secretRule = strictestRule(groups, (group) => findName(group, reading.path, reading.operations));
  let verdict = base;
  if (pathRule !== undefined) {
    const mayLower = !reading.guessed && (reading.system !== 'exit' || pathRule.allowExit);
    verdict = mayLower ? ruleVerdict(pathRule) : stricter(base, ruleVerdict(pathRule));
  }
  return secretRule === undefined ? verdict : stricter(verdict, ruleVerdict(secretRule));
}

/** Who configures a mount in which something is gated can send its secrets elsewhere. */
function configureVerdict(reading: Reading, groups: readonly RuleGroup[]): Verdict {
  const depth = reading.namespace.length;
  const mountPath = reading.mount === undefined ? reading.path.slice(0, 1) : reading.mount.segments.slice(depth);
  const rule = strictestRule(groups, (group) => stricterRule(group.secret.strictestBelow(mountPath, false), group.path.strictestBelow(mountPath, false)));
  return rule !== undefined && isGated(rule.tier) ? { tier: rule.tier, why: 'configure', rule } : PASS;
}

function findPath(group: RuleGroup, reading: Reading): Rule | undefined {
  const exact = group.path.find(reading.path, reading.operations);
  return isListing(reading.operations) ? stricterRule(exact, group.path.strictestBelow(reading.path, true)) : exact;
}

function findName(group: RuleGroup, name: readonly string[], operations: number): Rule | undefined {
  if (!isListing(operations)) return group.secret.find(name, operations);
  return stricterRule(group.secret.find(name, operations), group.secret.strictestBelow(name, true));
}

function strictestRule(groups: readonly RuleGroup[], find: (group: RuleGroup) => Rule | undefined): Rule | undefined {
  let strictest: Rule | undefined;
  for (const group of groups) strictest = stricterRule(strictest, find(group));
  return strictest;
}

function stricterRule(a: Rule | undefined, b: Rule | undefined): Rule | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.strictness > a.strictness ? b : a;
}
