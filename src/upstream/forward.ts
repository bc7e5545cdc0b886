import type { Readable } from 'node:stream';

import type { Dispatcher } from 'undici';

import type { RawRequest } from '../vault/request.ts';
import type { HeaderField } from '../wire/head.ts';
import { UpstreamError, upstreamError } from './error.ts';
import type { UpstreamNode, UpstreamNodes } from './nodes.ts';

/** The head of an answer. `length`: body bytes, where the server said so. Hop-by-hop fields are gone. */
export interface UpstreamHead {
  readonly status: number;
  readonly reason: string;
  readonly headers: readonly HeaderField[];
  readonly length: number | undefined;
}

/** Who takes an answer. Exactly one of `onEnd` and `onError` is called, last. */
export interface AnswerSink {
  readonly onHead: (head: UpstreamHead) => void;
  /** False: no more for now, until `resume`. */
  readonly onData: (chunk: Buffer) => boolean;
  readonly onEnd: () => void;
  readonly onError: (error: UpstreamError) => void;
}

/** A request under way. */
export interface Forwarding {
  readonly pause: () => void;
  readonly resume: () => void;
  /** Ends it: the connection to the server is closed, `onError` follows. */
  readonly abort: (error: UpstreamError) => void;
}

/** A body to send: whole, or as it comes with its length (undefined: chunked). */
export type RequestBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'whole'; readonly bytes: Buffer }
  | { readonly kind: 'stream'; readonly stream: Readable; readonly length: number | undefined };

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'content-length',
]);

/**
 * Sends exactly this request to the best node and hands its answer on. A node that cannot be connected to is passed over
 * for the next; a standby's redirect is retried once on the active node when the body can be sent again. No `Location`
 * with a host is ever followed or passed on (design.md §2).
 */
export function forward(nodes: UpstreamNodes, request: RawRequest, body: RequestBody, sink: AnswerSink): Forwarding {
  return new Attempt(nodes, request, body, sink).start(nodes.inOrder());
}

class Attempt implements Forwarding {
  readonly #nodes: UpstreamNodes;
  readonly #request: RawRequest;
  readonly #body: RequestBody;
  readonly #sink: AnswerSink;
  #controller: Dispatcher.DispatchController | undefined;
  #sent = false;
  #state: 'asking' | 'answering' | 'redirecting' | 'ended' = 'asking';
  #redirected = false;
  #abortedBy: UpstreamError | undefined;

  constructor(nodes: UpstreamNodes, request: RawRequest, body: RequestBody, sink: AnswerSink) {
    this.#nodes = nodes;
    this.#request = request;
    this.#body = body;
    this.#sink = sink;
  }

  start(candidates: readonly UpstreamNode[]): this {
    this.#dispatch(candidates, 0);
    return this;
  }

  readonly pause = (): void => {
    this.#controller?.pause();
  };

  readonly resume = (): void => {
    this.#controller?.resume();
  };

  readonly abort = (error: UpstreamError): void => {
    if (this.#state === 'ended') return;
    this.#abortedBy = error;
    if (this.#controller === undefined) this.#fail(error);
    else this.#controller.abort(error);
  };

  #dispatch(candidates: readonly UpstreamNode[], index: number): void {
    const node = candidates[index];
    if (node === undefined) return this.#fail(new UpstreamError('upstream_unreachable', this.#sent));
    this.#controller = undefined;
    node.pool.dispatch(this.#options(), {
      onRequestStart: (controller) => {
        this.#controller = controller;
        if (this.#abortedBy !== undefined) controller.abort(this.#abortedBy);
        else this.#sent = true;
      },
      onRequestUpgrade: () => {
        throw new UpstreamError('upstream_protocol', true);
      },
      onResponseStart: (controller, status, _, reason) => this.#head(node, controller, status, reason ?? ''),
      onResponseData: (controller, chunk) => {
        if (this.#state === 'answering' && !this.#sink.onData(chunk)) controller.pause();
      },
      onResponseEnd: () => {
        if (this.#state !== 'answering') return;
        this.#state = 'ended';
        this.#sink.onEnd();
      },
      onResponseError: (_, error) => this.#error(candidates, index, error),
    });
  }

  #options(): Dispatcher.DispatchOptions {
    const headers = this.#request.headers.flat();
    const body = this.#body;
    if (body.kind === 'stream' && body.length !== undefined) headers.push('Content-Length', String(body.length));
    return {
      method: this.#request.method,
      path: this.#request.target,
      headers,
      body: body.kind === 'whole' ? body.bytes : body.kind === 'stream' ? body.stream : null,
      // Never sent twice by the client library: what may be repeated is decided here.
      idempotent: false,
    };
  }

  #head(node: UpstreamNode, controller: Dispatcher.DispatchController, status: number, reason: string): void {
    if (this.#state !== 'asking' || status < 200) return;
    const head = readHead(status, reason, controller.rawHeaders);
    const location = head.headers.find(([name]) => name.toLowerCase() === 'location')?.[1];
    if (location !== undefined && !/^\/(?![/\\])/.test(location)) {
      this.#state = 'redirecting';
      controller.abort(new UpstreamError('upstream_redirect', true));
      void this.#redirect(node, status);
      return;
    }
    this.#state = 'answering';
    this.#sink.onHead(head);
  }

  async #redirect(from: UpstreamNode, status: number): Promise<void> {
    const standby = status === 307 || status === 308;
    if (!standby) return this.#fail(new UpstreamError('upstream_redirect', false));
    if (this.#redirected || this.#body.kind === 'stream') return this.#fail(new UpstreamError('upstream_standby', false));
    this.#redirected = true;
    await this.#nodes.check();
    const active = this.#nodes.inOrder().filter((node) => node !== from && node.state === 'active');
    if (this.#abortedBy !== undefined) return this.#fail(this.#abortedBy);
    if (active.length === 0) return this.#fail(new UpstreamError('upstream_standby', false));
    this.#state = 'asking';
    this.#dispatch(active, 0);
  }

  #error(candidates: readonly UpstreamNode[], index: number, error: Error): void {
    if (this.#state === 'redirecting' || this.#state === 'ended') return;
    if (this.#abortedBy !== undefined) return this.#fail(this.#abortedBy);
    if (!this.#sent && this.#body.kind !== 'stream' && index + 1 < candidates.length) return this.#dispatch(candidates, index + 1);
    this.#fail(upstreamError(error, this.#sent));
  }

  #fail(error: UpstreamError): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#sink.onError(error);
  }
}

function readHead(status: number, reason: string, raw: Dispatcher.DispatchController['rawHeaders']): UpstreamHead {
  const headers: HeaderField[] = [];
  let length: number | undefined;
  if (Array.isArray(raw)) {
    for (let i = 0; i + 1 < raw.length; i += 2) {
      const name = String(raw[i]);
      const value = textOf(raw[i + 1] as Buffer | string);
      const lower = name.toLowerCase();
      if (lower === 'content-length' && /^\d{1,15}$/.test(value)) length = Number(value);
      if (!HOP_BY_HOP.has(lower)) headers.push([name, value]);
    }
  }
  return { status, reason, headers, length };
}

function textOf(value: Buffer | string): string {
  return typeof value === 'string' ? value : value.toString('latin1');
}
