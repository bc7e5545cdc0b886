import type { Socket } from 'node:net';
import { Readable } from 'node:stream';

import { BodyReader } from './body.ts';
import type { WireError } from './error.ts';
import type { RequestHead } from './head.ts';
import type { WireLimits } from './limits.ts';
import { WireResponse } from './response.ts';

/** Who is at the other end of a connection. */
export interface Peer {
  readonly address: string;
  readonly port: number;
  /** SHA-256 fingerprint of the client's verified certificate, where it showed one. */
  readonly certificate: string | undefined;
}

/** One request as it came off the wire. */
export interface WireRequest {
  readonly head: RequestHead;
  /** The body's bytes; undefined where there is none. Errors with a `WireError` when it breaks the rules. */
  readonly body: Readable | undefined;
  readonly peer: Peer;
  /** Aborted when the client is gone before its answer was complete. */
  readonly signal: AbortSignal;
}

/** How an exchange is wired into its connection. */
export interface ExchangeOptions {
  readonly socket: Socket;
  readonly peer: Peer;
  readonly limits: WireLimits;
  readonly now: number;
  readonly mayKeepAlive: () => boolean;
  readonly onFinished: (keepAlive: boolean) => void;
  readonly onBodyWanted: () => void;
}

/** One request and its answer, on one connection. */
export class Exchange {
  readonly request: WireRequest;
  readonly response: WireResponse;
  readonly #options: ExchangeOptions;
  readonly #reader: BodyReader;
  readonly #body: Readable | undefined;
  readonly #abort = new AbortController();
  #wanted = false;
  #continued: boolean;
  #bodyAt: number;
  #endedAt: number | undefined;

  constructor(head: RequestHead, options: ExchangeOptions) {
    this.#options = options;
    this.#reader = new BodyReader(head.framing, options.limits);
    this.#bodyAt = options.now;
    this.#continued = !head.expectContinue;
    this.#body = head.framing.kind === 'none' ? undefined : new Readable({ read: () => this.#want() });
    this.#body?.on('error', () => {}); // its reader hears of it; where there is none, the answer says it
    if (this.#reader.done) this.#body?.push(null);
    this.request = { head, body: this.#body, peer: options.peer, signal: this.#abort.signal };
    this.response = new WireResponse(options.socket, {
      method: head.method,
      version: head.version,
      mayKeepAlive: () => this.bodyDone && options.mayKeepAlive(),
      finished: options.onFinished,
    });
  }

  get bodyDone(): boolean {
    return this.#reader.done;
  }

  get wantsBody(): boolean {
    return this.#wanted;
  }

  /** Passes body bytes on and returns how many were taken. @throws {WireError} */
  feed(input: Buffer, now: number): number {
    this.#bodyAt = now;
    this.#continued = true;
    const { next, data } = this.#reader.read(input, 0);
    for (const piece of data) this.#wanted = this.#body?.push(piece) ?? false;
    if (this.#reader.done) this.#body?.push(null);
    return next;
  }

  failBody(error: WireError): void {
    this.#body?.destroy(error);
    this.#abort.abort();
  }

  inputEnded(now: number): void {
    this.#endedAt = now;
  }

  /** True when the client was asked for more of the body and sent nothing for too long. */
  bodyStalled(now: number): boolean {
    return !this.bodyDone && this.#wanted && now - this.#bodyAt > this.#options.limits.bodyIdleMs;
  }

  /** True when the client closed its side a while ago and no answer has begun: it is taken to be gone. */
  leftHalfOpen(now: number): boolean {
    return this.#endedAt !== undefined && !this.response.started && now - this.#endedAt > this.#options.limits.halfOpenMs;
  }

  /** No answer will be read to its end any more. */
  gone(): void {
    this.#abort.abort();
    this.abandon();
  }

  /** The answer is given; what is left of the body is of no use. */
  abandon(): void {
    if (!this.bodyDone) this.#body?.destroy();
  }

  #want(): void {
    this.#wanted = true;
    if (!this.#continued && !this.response.started) {
      this.#continued = true;
      this.#options.socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1');
    }
    this.#options.onBodyWanted();
  }
}
