import { UpstreamError } from '../upstream/error.ts';
import { type Forwarding, forward, type RequestBody, type UpstreamHead } from '../upstream/forward.ts';
import type { UpstreamNodes } from '../upstream/nodes.ts';
import type { RawRequest } from '../vault/request.ts';
import type { WireRequest } from '../wire/exchange.ts';
import type { WireResponse } from '../wire/response.ts';

/** How an answer ended. */
export type Ending =
  | { readonly kind: 'delivered'; readonly status: number; readonly bytes: number }
  /** Nothing was written: another answer can still be given. */
  | { readonly kind: 'failed'; readonly error: UpstreamError }
  /** The client has part of an answer, and its connection was cut so that it knows. */
  | { readonly kind: 'broken'; readonly status: number; readonly bytes: number; readonly error: UpstreamError };

/** Says, when the head of an answer has come, what is to be done with it. */
export type Release = (head: UpstreamHead) => Promise<'pass' | 'collect' | 'drop'>;

/** A small answer that was collected instead of passed on. */
export interface Collected {
  readonly kind: 'collected';
  readonly head: UpstreamHead;
  /** Undefined when it was too large to be collected; the rest was not read. */
  readonly body: Buffer | undefined;
}

const MAX_COLLECTED_BYTES = 16 * 1024;

/** One request to deliver: what is sent where, whose it is, and who gets the answer. */
export interface Delivery {
  readonly nodes: UpstreamNodes;
  readonly request: RawRequest;
  readonly body: RequestBody;
  readonly from: WireRequest;
  readonly to: WireResponse;
  /** Asked before the first byte of an answer goes to the client; undefined: pass everything. */
  readonly release?: Release;
}

/**
 * Forwards a request and writes its answer, with back-pressure both ways. A client that goes away cancels the request; an
 * upstream that breaks off cuts the client's connection, so that a short answer never looks whole.
 */
export function deliver(delivery: Delivery): Promise<Ending | Collected> {
  return new Promise((resolve) => new Deliverer(delivery, resolve).start());
}

class Deliverer {
  readonly #delivery: Delivery;
  readonly #resolve: (ending: Ending | Collected) => void;
  #forwarding: Forwarding | undefined;
  #head: UpstreamHead | undefined;
  #mode: 'waiting' | 'passing' | 'collecting' | 'dropping' | 'done' = 'waiting';
  #ended = false;
  #held: Buffer[] = [];
  #heldBytes = 0;
  readonly #onGone = (): void => this.#forwarding?.abort(new UpstreamError('client_gone', true));

  constructor(delivery: Delivery, resolve: (ending: Ending | Collected) => void) {
    this.#delivery = delivery;
    this.#resolve = resolve;
  }

  start(): void {
    const { nodes, request, body, from } = this.#delivery;
    if (from.signal.aborted) return this.#done({ kind: 'failed', error: new UpstreamError('client_gone', false) });
    from.signal.addEventListener('abort', this.#onGone, { once: true });
    this.#forwarding = forward(nodes, request, body, {
      onHead: (head) => this.#onHead(head),
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => this.#onEnd(),
      onError: (error) => this.#onError(error),
    });
  }

  #onHead(head: UpstreamHead): void {
    this.#head = head;
    const { release } = this.#delivery;
    if (release === undefined) return this.#pass(head);
    this.#forwarding?.pause();
    release(head).then(
      (verdict) => this.#released(head, verdict),
      () => this.#released(head, 'drop'),
    );
  }

  #released(head: UpstreamHead, verdict: 'pass' | 'collect' | 'drop'): void {
    if (this.#mode !== 'waiting') return;
    if (verdict === 'pass') this.#pass(head);
    else if (verdict === 'collect') this.#mode = 'collecting';
    else {
      this.#mode = 'dropping';
      this.#forwarding?.abort(new UpstreamError('upstream_broke_off', true));
      return this.#done({ kind: 'failed', error: new UpstreamError('upstream_broke_off', true) });
    }
    const held = this.#held;
    this.#held = [];
    for (const chunk of held) this.#onData(chunk);
    if (this.#ended) this.#onEnd();
    else this.#forwarding?.resume();
  }

  #pass(head: UpstreamHead): void {
    this.#mode = 'passing';
    try {
      this.#delivery.to.writeHead(head.status, head.reason, head.headers, head.length);
    } catch (cause) {
      const error = new UpstreamError('upstream_protocol', true, cause);
      this.#forwarding?.abort(error);
      this.#done({ kind: 'failed', error });
    }
  }

  #onData(chunk: Buffer): boolean {
    switch (this.#mode) {
      case 'waiting':
        this.#held.push(chunk);
        return false;
      case 'passing': {
        const { to } = this.#delivery;
        const more = to.write(chunk);
        if (!more) to.onDrain(() => this.#forwarding?.resume());
        return more;
      }
      case 'collecting':
        this.#heldBytes += chunk.length;
        this.#held.push(chunk);
        if (this.#heldBytes > MAX_COLLECTED_BYTES) this.#collected(undefined);
        return true;
      case 'dropping':
      case 'done':
        return true;
    }
  }

  #onEnd(): void {
    const head = this.#head;
    if (head === undefined) return;
    if (this.#mode === 'waiting') {
      this.#ended = true;
      return;
    }
    if (this.#mode === 'passing') {
      this.#delivery.to.end();
      this.#done({ kind: 'delivered', status: head.status, bytes: this.#delivery.to.bodyBytes });
    } else if (this.#mode === 'collecting') this.#collected(Buffer.concat(this.#held));
  }

  #collected(body: Buffer | undefined): void {
    const head = this.#head;
    if (head === undefined) return;
    this.#done({ kind: 'collected', head, body });
    if (body === undefined) this.#forwarding?.abort(new UpstreamError('upstream_too_large', true));
  }

  #onError(error: UpstreamError): void {
    if (this.#mode === 'done') return;
    const { to } = this.#delivery;
    if (!to.started || this.#head === undefined) return this.#done({ kind: 'failed', error });
    to.abort();
    this.#done({ kind: 'broken', status: this.#head.status, bytes: to.bodyBytes, error });
  }

  #done(ending: Ending | Collected): void {
    if (this.#mode === 'done') return;
    this.#mode = 'done';
    this.#delivery.from.signal.removeEventListener('abort', this.#onGone);
    this.#resolve(ending);
  }
}
