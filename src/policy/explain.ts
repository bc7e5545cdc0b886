import { RequestError } from '../vault/error.ts';
import type { MountTable } from '../vault/mounts.ts';
import { parseRequest, type VaultRequest } from '../vault/request.ts';
import { type Classification, classify, type Why } from './classify.ts';
import type { Policy } from './policy.ts';

/** A request as people write it. */
export interface Question {
  readonly method: string;
  readonly path: string;
  readonly namespace: string | undefined;
}

/** Why a request gets its tier, for people (`lines`) and programs. */
export interface Explanation {
  readonly tier: string | null;
  readonly outcome: 'forward' | 'step_up' | 'deny' | 'refuse';
  readonly why: Why | 'refused';
  readonly rule: {
    readonly pattern: string;
    readonly kind: string;
    readonly line: number;
    readonly owner: string | null;
    readonly reason: string | null;
  } | null;
  readonly namespace: string;
  readonly mount: string | null;
  readonly operation: string | null;
  readonly lines: readonly string[];
}

const WHY: Readonly<Record<Why, string>> = {
  rule: 'a rule names it',
  default_tier: 'no rule names it: default_tier',
  unknown_mount: 'its mount is not known: unknown_mount (name it under upstream.mounts, or give upstream.token_file)',
  'system.admin': 'it administers the server: system.admin',
  'system.exits': 'secrets can leave the server this way: system.exits',
  configure: 'it configures a mount in which a rule names a gated tier',
  pass: 'nothing names it, and it reveals nothing',
};

/** Explains a request without sending it anywhere. Pure. */
export function explain(policy: Policy, table: MountTable, question: Question): Explanation {
  const target = question.path.startsWith('/') ? question.path : question.path.startsWith('v1/') ? `/${question.path}` : `/v1/${question.path}`;
  let request: VaultRequest;
  try {
    request = parseRequest({
      method: question.method,
      target: encodePath(target),
      headers: question.namespace === undefined ? [] : [['X-Vault-Namespace', Buffer.from(question.namespace).toString('latin1')]],
    });
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    return {
      tier: null,
      outcome: 'refuse',
      why: 'refused',
      rule: null,
      namespace: '',
      mount: null,
      operation: null,
      lines: [`${question.method} ${target}`, `refused with ${error.status} (${error.code}): ${error.message || 'not served'}`],
    };
  }
  return describe(request, classify(policy, table, request), `${question.method} ${target}`);
}

/** People write blanks and other letters as they are; what is percent-encoded already stays so. */
function encodePath(target: string): string {
  return target.replace(/[^!-~]+/gu, (text) => encodeURIComponent(text));
}

function describe(request: VaultRequest, classification: Classification, asked: string): Explanation {
  const { tier, rule, why, reading } = classification;
  const outcome = tier?.deny !== undefined ? 'deny' : tier?.stepUp !== undefined ? 'step_up' : 'forward';
  const namespace = reading.namespace.join('/');
  const lines = [
    asked,
    `tier:      ${tier?.name ?? 'none'} (${outcome === 'forward' ? 'forwarded' : outcome === 'deny' ? `denied: ${tier?.deny ?? ''}` : `step-up by ${[...(tier?.stepUp?.proofs.keys() ?? [])].join(' or ')}`})`,
    `why:       ${WHY[why]}`,
    ...(rule === undefined
      ? []
      : [
          `rule:      ${rule.kind}: ${rule.pattern.source}${rule.namespace === '' ? '' : ` (namespace ${rule.namespace})`}, line ${rule.line}${rule.reason === undefined ? '' : `: ${rule.reason}`}${rule.owner === undefined ? '' : ` (owner ${rule.owner})`}`,
        ]),
    `namespace: ${namespace === '' ? 'root' : namespace}`,
    `mount:     ${reading.mount === undefined ? 'not known' : `${reading.mount.path}/ (${reading.mount.type})`}`,
    `operation: ${request.operation}`,
  ];
  return {
    tier: tier?.name ?? null,
    outcome,
    why,
    rule:
      rule === undefined ? null : { pattern: rule.pattern.source, kind: rule.kind, line: rule.line, owner: rule.owner ?? null, reason: rule.reason ?? null },
    namespace,
    mount: reading.mount?.path ?? null,
    operation: request.operation,
    lines,
  };
}
