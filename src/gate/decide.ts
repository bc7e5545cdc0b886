import type { Classification } from '../policy/classify.ts';
import type { StepUp, Tier } from '../policy/policy.ts';

/** What is to be done with a request, before anybody is asked anything. */
export type Decision =
  | { readonly kind: 'forward' }
  | { readonly kind: 'deny'; readonly tier: Tier; readonly reason: string }
  | { readonly kind: 'step_up'; readonly tier: Tier; readonly stepUp: StepUp };

/** Decides by the tier alone. Pure. */
export function decide(classification: Classification): Decision {
  const { tier } = classification;
  if (tier === undefined) return { kind: 'forward' };
  if (tier.deny !== undefined) return { kind: 'deny', tier, reason: tier.deny };
  if (tier.stepUp !== undefined) return { kind: 'step_up', tier, stepUp: tier.stepUp };
  return { kind: 'forward' };
}

/** Whether a request may go on when its audit entry cannot be written: the tier says, else reveals and gates may not. */
export function refusesWithoutAudit(classification: Classification): boolean {
  const { tier, reveals } = classification;
  const chosen = tier?.onAuditFailure;
  if (chosen !== undefined) return chosen === 'refuse';
  return reveals || tier?.stepUp !== undefined || tier?.deny !== undefined;
}
