import type { EntryBody, EntryValue } from '../audit/entry.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Answer } from '../vault/answer.ts';
import type { WireRequest } from '../wire/exchange.ts';
import type { WireResponse } from '../wire/response.ts';
import { type ClientFacts, entry } from './entries.ts';

/** What the stages of one request share: its id, its ends, and the log. */
export class Exchange {
  readonly id: string;
  readonly wire: WireRequest;
  readonly response: WireResponse;
  readonly client: ClientFacts;
  /** Of the policy that this request is decided under. */
  readonly policySha256: string;
  /** Whether this request is served also when it cannot be logged (`on_audit_failure`); until it is classified it is not. */
  mayGoUnlogged = false;
  readonly #audit: AuditLog;
  readonly #metrics: Metrics;
  readonly #monotonicNs: () => bigint;
  readonly #startedNs: bigint;

  constructor(parts: {
    id: string;
    wire: WireRequest;
    response: WireResponse;
    client: ClientFacts;
    policySha256: string;
    audit: AuditLog;
    metrics: Metrics;
    monotonicNs: () => bigint;
  }) {
    this.id = parts.id;
    this.wire = parts.wire;
    this.response = parts.response;
    this.client = parts.client;
    this.policySha256 = parts.policySha256;
    this.#audit = parts.audit;
    this.#metrics = parts.metrics;
    this.#monotonicNs = parts.monotonicNs;
    this.#startedNs = parts.monotonicNs();
  }

  /** Writes an entry; resolves to whether the request may go on: the entry is on disk, or need not be. `unimportant`: see `AuditLog.append`. */
  async record(type: EntryBody['type'], fields: { readonly [key: string]: EntryValue | undefined }, unimportant = false): Promise<boolean> {
    try {
      await this.#audit.append(entry(type, this.id, fields), unimportant);
      return true;
    } catch {
      this.#metrics.auditFailures.inc();
      return this.mayGoUnlogged;
    }
  }

  /** Gives an answer of our own, unless the wire gave one already. */
  answer(answer: Answer): void {
    if (!this.response.started) this.response.send(answer.status, answer.reason, answer.headers, answer.body);
  }

  /** Notes how it ended; nobody waits for it. */
  outcome(result: string, status: number, fields: { readonly [key: string]: EntryValue | undefined } = {}): void {
    const durationNs = Number(this.#monotonicNs() - this.#startedNs);
    void this.record('outcome', { result, status, bytes: this.response.bodyBytes, duration_ms: Math.round(durationNs / 1e4) / 100, ...fields });
    this.#metrics.answers.inc({ status: `${Math.floor(status / 100)}xx` });
    this.#metrics.duration.observe({ gated: fields['gated'] === true ? 'yes' : 'no' }, durationNs / 1e9);
  }
}
