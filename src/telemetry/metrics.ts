import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** The figures of a process, for `/metrics`. Labels are few and fixed: never a path, a token or an address. */
export interface Metrics {
  readonly registry: Registry;
  /** Requests by what was decided: forward, challenge, step_up, deny, refuse, unavailable. */
  readonly decisions: Counter<'decision' | 'tier'>;
  /** Answers by class of status. */
  readonly answers: Counter<'status'>;
  /** Refusals by stable code. */
  readonly refusals: Counter<'code'>;
  /** From the request's head to the end of its answer, seconds. */
  readonly duration: Histogram<'gated'>;
  /** Entries that are not on disk. */
  readonly auditFailures: Counter;
  /** 1 when the part can do its work. */
  readonly up: Gauge<'part'>;
  readonly connections: Gauge;
  readonly policyReloads: Counter<'result'>;
}

/** Makes the figures, in a registry of their own. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    decisions: new Counter({ name: 'stepgate_decisions_total', help: 'Requests by decision and tier', labelNames: ['decision', 'tier'], registers }),
    answers: new Counter({ name: 'stepgate_answers_total', help: 'Answers by class of status', labelNames: ['status'], registers }),
    refusals: new Counter({ name: 'stepgate_refusals_total', help: 'Refused requests by stable code', labelNames: ['code'], registers }),
    duration: new Histogram({
      name: 'stepgate_request_seconds',
      help: 'Time from the head of a request to the end of its answer',
      labelNames: ['gated'],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
      registers,
    }),
    auditFailures: new Counter({ name: 'stepgate_audit_failures_total', help: 'Audit entries that could not be written', registers }),
    up: new Gauge({ name: 'stepgate_up', help: 'Whether a part can do its work', labelNames: ['part'], registers }),
    connections: new Gauge({ name: 'stepgate_connections', help: 'Open client connections', registers }),
    policyReloads: new Counter({ name: 'stepgate_policy_reloads_total', help: 'Policy reloads by result', labelNames: ['result'], registers }),
  };
}
