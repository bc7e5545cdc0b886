import { isGated, type Policy, type Rule, type Tier } from './policy.ts';

/** What a new policy lets through more easily than the old one, a line each; empty when nothing. Compared rule by rule. */
export function loosenings(before: Policy, after: Policy): string[] {
  const found: string[] = [];
  const rank = (tier: Tier): number => after.tiers.find(({ name }) => name === tier.name)?.strictness ?? Number.POSITIVE_INFINITY;
  const lower = (what: string, old: Tier, now: Tier | undefined): void => {
    if (now === undefined ? isGated(old) : now.strictness < rank(old)) found.push(`${what}: ${old.name} -> ${now?.name ?? 'no rule'}`);
  };
  lower('default_tier', before.defaultTier, after.defaultTier);
  lower('unknown_mount', before.unknownMount, after.unknownMount);
  lower('system.admin', before.systemAdmin, after.systemAdmin);
  lower('system.exits', before.systemExits, after.systemExits);
  const rules = new Map(after.rules.map((rule) => [identityOf(rule), rule]));
  for (const rule of before.rules) {
    const successor = rules.get(identityOf(rule));
    lower(`${rule.kind} ${rule.pattern.source}`, rule.tier, successor?.tier);
    if (successor !== undefined && (rule.operations & ~successor.operations) !== 0 && isGated(rule.tier))
      found.push(`${rule.kind} ${rule.pattern.source}: fewer operations`);
  }
  for (const tier of before.tiers) {
    const now = after.tiers.find(({ name }) => name === tier.name);
    if (now !== undefined && isGated(tier) && !isGated(now)) found.push(`tier ${tier.name}: asks for nothing any more`);
  }
  return found;
}

function identityOf(rule: Rule): string {
  return `${rule.kind} ${rule.namespace} ${rule.pattern.source}`;
}
