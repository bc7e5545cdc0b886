import type { EntryValue } from '../audit/entry.ts';
import { StoreUnavailable } from '../challenge/store.ts';
import { challengeAnswer, denyAnswer, invalidTokenAnswer, refusalAnswer, refusalCode, tooManyAnswer, unavailableAnswer } from '../gate/answers.ts';
import { CarrierError, carriedToken } from '../gate/carrier.ts';
import type { Admission, GatedRequest, VerifiedRequest } from '../gate/gate.ts';
import { StepUpError } from '../identity/step-up-token.ts';
import type { Classification } from '../policy/classify.ts';
import type { StepUp, Tier } from '../policy/policy.ts';
import { UpstreamError } from '../upstream/error.ts';
import type { UpstreamHead } from '../upstream/forward.ts';
import { type Answer, errorAnswer } from '../vault/answer.ts';
import type { VaultRequest } from '../vault/request.ts';
import { holdBody, MAX_GATED_BODY_BYTES } from './body.ts';
import { type Collected, deliver, type Ending } from './delivery.ts';
import { decisionFields, digestFields, stepUpFields } from './entries.ts';
import type { Exchange } from './exchange.ts';
import { filteredBody } from './filter.ts';
import type { LivenessCheck } from './liveness.ts';
import { outgoing } from './outgoing.ts';
import type { PipelineParts } from './parts.ts';
import { auditErrorAnswer, bodyTooLargeAnswer, upstreamErrorAnswer } from './refusals.ts';

type Fields = { readonly [key: string]: EntryValue | undefined };

/** What became of the nonce of a delivery. */
type Spending = { state: 'reserved' | 'committed' | 'lost'; reason: string };

/** The way of a request that needs a step-up (design.md §6): who are you, challenge or token, log, reserve, forward, commit, log, bytes. */
export class GatedFlow {
  readonly #parts: PipelineParts;
  readonly #liveness: LivenessCheck;

  constructor(parts: PipelineParts, liveness: LivenessCheck) {
    this.#parts = parts;
    this.#liveness = liveness;
  }

  async run(exchange: Exchange, request: VaultRequest, classification: Classification, tier: Tier, stepUp: StepUp): Promise<void> {
    const fields = this.#fields(exchange, request, classification);
    if (!(await this.#admitsCaller(exchange, request, classification, fields))) return;
    const body = await holdBody(exchange.wire);
    if (body === 'broken') return;
    if (body === 'too_large') return this.#finish(exchange, fields, 'deny', 'body_too_large', bodyTooLargeAnswer(MAX_GATED_BODY_BYTES, this.#parts.now()));
    try {
      const gated: GatedRequest = {
        request,
        classification,
        tier,
        stepUp,
        token: request.token?.value ?? '',
        body: body.bytes,
        address: exchange.client.address,
      };
      const token = carriedToken(request.controls);
      if (token === undefined) await this.#challenge(exchange, fields, gated);
      else await this.#redeem(exchange, fields, gated, token);
    } catch (error) {
      await this.#failed(exchange, fields, error);
    } finally {
      body.done();
    }
  }

  /** Who has nothing to do with the path is not told that it is denied; all others are told by the tier's own text. */
  async deny(exchange: Exchange, request: VaultRequest, classification: Classification, tier: Tier, reason: string): Promise<void> {
    const fields = this.#fields(exchange, request, classification);
    if (!(await this.#admitsCaller(exchange, request, classification, fields))) return;
    await this.#finish(exchange, fields, 'deny', 'policy_deny', denyAnswer(tier, reason, this.#parts.now()));
  }

  /** Whether the caller has anything to do with the path; else the server's own refusal is passed on, and nothing is told. */
  async #admitsCaller(exchange: Exchange, request: VaultRequest, classification: Classification, fields: Fields): Promise<boolean> {
    try {
      const caller = request.token === undefined ? '' : this.#parts.tokenHmac(request.token.value);
      const liveness = await this.#liveness.check([classification.reading, ...classification.otherReadings], request.token, caller);
      if (liveness.alive && request.token !== undefined) return true;
      const answer = liveness.alive ? errorAnswer(403, ['permission denied'], { now: this.#parts.now() }) : liveness.answer;
      await this.#finish(exchange, fields, 'deny', 'not_authorized', answer);
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      await this.#finish(exchange, fields, 'deny', error.code, upstreamErrorAnswer(error, this.#parts.now()));
    }
    return false;
  }

  async #challenge(exchange: Exchange, fields: Fields, gated: GatedRequest): Promise<void> {
    const { audience, gate, now } = this.#parts;
    const issued = await gate.challenge(gated);
    if (issued === undefined) return this.#finish(exchange, fields, 'challenge', 'too_many_challenges', tooManyAnswer(now()));
    const { challenge, input, isNew } = issued;
    const shown = {
      challenge_id: challenge.challengeId,
      fingerprint: challenge.fingerprint,
      digest: challenge.digest,
      input: digestFields(input),
      expires_at: new Date(challenge.expiresAtMs).toISOString(),
      new: isNew,
    };
    await this.#finish(
      exchange,
      { ...fields, challenge: shown },
      'challenge',
      'step_up_required',
      challengeAnswer(issued, gated.tier, gated.stepUp, audience, now()),
    );
  }

  async #redeem(exchange: Exchange, fields: Fields, gated: GatedRequest, token: string): Promise<void> {
    const { gate, now } = this.#parts;
    const verified = await gate.verify(gated, token);
    const shown = {
      ...(stepUpFields(verified.stepUp) as object),
      nonce_hash: verified.nonceHash,
      fingerprint: verified.fingerprint,
      input: digestFields(verified.input),
    };
    const recorded = await exchange.record('decision', { ...fields, decision: 'step_up', reason_code: 'step_up_verified', step_up: shown });
    if (!recorded) return this.#answerUnrecorded(exchange);
    const admission = await gate.reserve(gated, verified);
    if (typeof admission === 'string') {
      const code = refusalCode(admission);
      this.#parts.metrics.refusals.inc({ code });
      await exchange.record('release', { commit: 'refused', reason_code: code, nonce_hash: verified.nonceHash });
      const answer = refusalAnswer(admission, now());
      exchange.answer(answer);
      return exchange.outcome('refused', answer.status, { gated: true, reason_code: code });
    }
    await this.#forward(exchange, gated, verified, admission);
  }

  async #forward(exchange: Exchange, gated: GatedRequest, verified: VerifiedRequest, admission: Admission): Promise<void> {
    const { request, body } = gated;
    const spending: Spending = { state: 'reserved', reason: '' };
    const about = { challenge_id: admission.challengeId, digest: admission.digest, nonce_hash: verified.nonceHash, attempt: admission.attempt };
    const ending = await deliver({
      nodes: this.#parts.nodes,
      request: outgoing(request, exchange.id),
      body: body === undefined ? { kind: 'none' } : { kind: 'whole', bytes: body },
      from: exchange.wire,
      to: exchange.response,
      release: (head) => this.#release(exchange, admission, about, spending, head),
    });
    if (spending.state === 'reserved') await this.#settle(exchange, gated, admission, about, ending);
    this.#end(exchange, ending, spending);
  }

  /** The head of the answer is here: a success is spent and logged before its first byte, anything else is looked at first. */
  async #release(exchange: Exchange, admission: Admission, about: Fields, spending: Spending, head: UpstreamHead): Promise<'pass' | 'collect' | 'drop'> {
    if (head.status >= 300) return 'collect';
    if (exchange.wire.signal.aborted) return 'drop';
    let committed: string;
    try {
      committed = await this.#parts.gate.commit(admission);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      committed = 'unknown';
    }
    spending.state = committed === 'done' ? 'committed' : 'lost';
    spending.reason = committed;
    const recorded = await exchange.record('release', {
      ...about,
      commit: committed === 'done' ? 'ok' : 'failed',
      reason_code: committed,
      upstream_status: head.status,
    });
    if (committed === 'done' && !recorded) spending.reason = 'audit_failed';
    return committed === 'done' && recorded ? 'pass' : 'drop';
  }

  /** Nothing was delivered: the nonce goes back, unless a write may have taken effect. */
  async #settle(exchange: Exchange, gated: GatedRequest, admission: Admission, about: Fields, ending: Ending | Collected): Promise<void> {
    const inDoubt = ending.kind === 'failed' && ending.error.sent && !['read', 'list', 'scan', 'help', 'head'].includes(gated.request.operation);
    const done = inDoubt ? await this.#parts.gate.commit(admission).catch(() => 'failed') : await this.#parts.gate.release(admission);
    const status = ending.kind === 'collected' ? ending.head.status : null;
    const reason = ending.kind === 'failed' || ending.kind === 'broken' ? ending.error.code : 'upstream_refused';
    await exchange.record('release', { ...about, commit: inDoubt ? 'spent_in_doubt' : 'released', store: done, reason_code: reason, upstream_status: status });
  }

  #end(exchange: Exchange, ending: Ending | Collected, spending: Spending): void {
    const now = this.#parts.now();
    switch (ending.kind) {
      case 'delivered':
        return exchange.outcome('delivered', ending.status, { gated: true });
      case 'collected': {
        const { status, reason, headers } = ending.head;
        const body = filteredBody(status, ending.body);
        exchange.answer({ status: body.status, reason, headers, body: body.bytes });
        return exchange.outcome('upstream_refused', body.status, { gated: true });
      }
      case 'broken':
        return exchange.outcome(ending.error.code === 'client_gone' ? 'client_aborted' : 'upstream_error', ending.status, {
          gated: true,
          reason_code: ending.error.code,
        });
      case 'failed': {
        if (ending.error.code === 'client_gone') return exchange.outcome('client_aborted', 499, { gated: true });
        const answer = spending.state === 'reserved' ? upstreamErrorAnswer(ending.error, now) : spendingAnswer(spending, now);
        exchange.answer(answer);
        return exchange.outcome(spending.state === 'reserved' ? 'upstream_error' : 'refused', answer.status, {
          gated: true,
          reason_code: spending.reason || ending.error.code,
        });
      }
    }
  }

  async #failed(exchange: Exchange, fields: Fields, error: unknown): Promise<void> {
    const now = this.#parts.now();
    if (error instanceof StepUpError || error instanceof CarrierError) {
      const answer = error instanceof StepUpError ? invalidTokenAnswer(error.code, error.message, now) : errorAnswer(400, [error.message], { now });
      this.#parts.metrics.refusals.inc({ code: error.code });
      return this.#finish(exchange, fields, 'deny', error.code, answer);
    }
    if (error instanceof StoreUnavailable) return this.#finish(exchange, fields, 'deny', error.code, unavailableAnswer(error.message, error.code, now));
    throw error;
  }

  /** Logs a decision that ends the request here, then answers; without the log there is no such answer. */
  async #finish(exchange: Exchange, fields: Fields, decision: string, reason: string, answer: Answer): Promise<void> {
    const recorded = await exchange.record('decision', { ...fields, decision, reason_code: reason });
    if (!recorded) return this.#answerUnrecorded(exchange);
    exchange.answer(answer);
    exchange.outcome('refused', answer.status, { gated: true, reason_code: reason });
  }

  #answerUnrecorded(exchange: Exchange): void {
    exchange.answer(auditErrorAnswer(this.#parts.now()));
  }

  #fields(exchange: Exchange, request: VaultRequest, classification: Classification): Fields {
    return decisionFields(exchange.client, request, classification, this.#parts.tokenHmac, exchange.policySha256);
  }
}

/** The answer was there, but its nonce could not be spent, or that could not be logged. */
function spendingAnswer(spending: Spending, now: number): Answer {
  if (spending.reason === 'audit_failed') return auditErrorAnswer(now);
  return unavailableAnswer('the use of the step-up could not be recorded, get a fresh one', `commit_${spending.reason}`, now);
}
