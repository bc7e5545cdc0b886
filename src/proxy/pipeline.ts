import { decide, refusesWithoutAudit } from '../gate/decide.ts';
import { type Classification, classify } from '../policy/classify.ts';
import type { Policy } from '../policy/policy.ts';
import { RequestError } from '../vault/error.ts';
import { parseRequest, type VaultRequest } from '../vault/request.ts';
import type { WireHandler } from '../wire/connection.ts';
import type { WireRequest } from '../wire/exchange.ts';
import type { WireResponse } from '../wire/response.ts';
import { streamedBody } from './body.ts';
import { clientAddress } from './client-address.ts';
import { deliver, type Ending } from './delivery.ts';
import { clientFields, decisionFields } from './entries.ts';
import { Exchange } from './exchange.ts';
import { GatedFlow } from './gated-flow.ts';
import { LivenessCheck } from './liveness.ts';
import { outgoing } from './outgoing.ts';
import type { PipelineParts } from './parts.ts';
import { auditErrorAnswer, requestErrorAnswer, upstreamErrorAnswer } from './refusals.ts';

/** The name under which Stepgate's own API lies, in every namespace. */
const OWN_MOUNT = 'stepgate';

/** The way of a request (design.md §2): parse, classify, decide, log, forward, log. */
export class Pipeline {
  readonly #parts: PipelineParts;
  readonly #gated: GatedFlow;
  /** Ids need to be unique, not secret: one draw of randomness for all. */
  readonly #idPrefix: string;
  #requests = 0;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#idPrefix = parts.random(9).toString('base64url');
    this.#gated = new GatedFlow(parts, new LivenessCheck(parts.nodes, parts.now));
  }

  readonly handle: WireHandler = async (wire, response) => {
    const policy = this.#parts.policy();
    const exchange = this.#begin(wire, response, policy);
    let request: VaultRequest;
    let classification: Classification;
    try {
      request = parseRequest(wire.head);
      classification = classify(policy, this.#parts.mounts.table(), request);
      refuseOwnMount(classification);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return this.#refuse(exchange, error);
    }
    exchange.mayGoUnlogged = !refusesWithoutAudit(classification);
    const decision = decide(classification);
    this.#parts.metrics.decisions.inc({ decision: decision.kind, tier: classification.tier?.name ?? 'pass' });
    switch (decision.kind) {
      case 'forward':
        return this.#forward(exchange, request, classification);
      case 'deny':
        return this.#gated.deny(exchange, request, classification, decision.tier, decision.reason);
      case 'step_up':
        return this.#gated.run(exchange, request, classification, decision.tier, decision.stepUp);
    }
  };

  #begin(wire: WireRequest, response: WireResponse, policy: Policy): Exchange {
    const { trusted, audit, metrics, monotonicNs } = this.#parts;
    const client = { peer: wire.peer, address: clientAddress(wire.peer.address, wire.head.headers, trusted) };
    return new Exchange({
      id: `${this.#idPrefix}.${(++this.#requests).toString(36)}`,
      wire,
      response,
      client,
      policySha256: policy.sha256,
      audit,
      metrics,
      monotonicNs,
    });
  }

  #refuse(exchange: Exchange, error: RequestError): void {
    this.#parts.metrics.refusals.inc({ code: error.code });
    const fields = { client: clientFields(exchange.client), policy_sha256: exchange.policySha256, decision: 'refuse', reason_code: error.code };
    void exchange.record('decision', fields, true);
    const answer = requestErrorAnswer(error, this.#parts.now());
    exchange.answer(answer);
    exchange.outcome('refused', answer.status);
  }

  async #forward(exchange: Exchange, request: VaultRequest, classification: Classification): Promise<void> {
    const recorded = await exchange.record('decision', { ...this.#fields(exchange, request, classification), decision: 'forward' });
    if (!recorded) {
      exchange.answer(auditErrorAnswer(this.#parts.now()));
      return;
    }
    const ending = await deliver({
      nodes: this.#parts.nodes,
      request: outgoing(request, exchange.id),
      body: streamedBody(exchange.wire),
      from: exchange.wire,
      to: exchange.response,
    });
    if (ending.kind !== 'collected') this.#end(exchange, ending);
    if (ending.kind === 'delivered' && ending.status < 300 && changesMounts(classification, request)) void this.#parts.mounts.refresh();
  }

  #end(exchange: Exchange, ending: Ending): void {
    if (ending.kind === 'delivered') return exchange.outcome('delivered', ending.status);
    const result = ending.error.code === 'client_gone' ? 'client_aborted' : 'upstream_error';
    if (ending.kind === 'broken') return exchange.outcome(result, ending.status, { reason_code: ending.error.code });
    const answer = upstreamErrorAnswer(ending.error, this.#parts.now());
    if (ending.error.code !== 'client_gone') exchange.answer(answer);
    exchange.outcome(result, answer.status, { reason_code: ending.error.code });
  }

  #fields(exchange: Exchange, request: VaultRequest, classification: Classification) {
    return decisionFields(exchange.client, request, classification, this.#parts.tokenHmac, exchange.policySha256);
  }
}

function refuseOwnMount(classification: Classification): void {
  if (classification.reading.path[0] === OWN_MOUNT) {
    throw new RequestError(404, 'not_found', `${OWN_MOUNT}/ is Stepgate's own API, which is not available in this version`);
  }
}

/** Writes after which the mount table is out of date. */
function changesMounts(classification: Classification, request: VaultRequest): boolean {
  const [first, second] = classification.reading.path;
  return (
    first === 'sys' &&
    (second === 'mounts' || second === 'auth' || second === 'remount' || second === 'namespaces') &&
    request.operation !== 'read' &&
    request.operation !== 'list'
  );
}
