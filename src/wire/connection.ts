import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { WireError } from './error.ts';
import { Exchange, type Peer, type WireRequest } from './exchange.ts';
import { type HeaderField, HeadScanner, parseHead, type RequestHead } from './head.ts';
import type { WireLimits } from './limits.ts';
import { WireResponse } from './response.ts';

/** Answers one request. What it throws ends the connection. */
export type WireHandler = (request: WireRequest, response: WireResponse) => Promise<void>;

/** The answer to bytes that never became a request. */
export type RenderRefusal = (error: WireError) => { readonly headers: readonly HeaderField[]; readonly body: Buffer };

/** How a connection is served: its limits, who answers, and who hears of refusals and of its end. */
export interface ConnectionOptions {
  readonly limits: WireLimits;
  readonly handler: WireHandler;
  readonly renderRefusal: RenderRefusal;
  readonly onRefused: (error: WireError, peer: Peer) => void;
  /** Milliseconds of a clock that never goes back. */
  readonly monotonicMs: () => number;
  readonly onClosed: () => void;
}

const EMPTY = Buffer.alloc(0);
const READ_AHEAD_BYTES = 64 * 1024;

/** One client's connection: requests one after the other, each answered before the next is looked at (RFC 9112 §9.3). */
export class Connection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #peer: Peer;
  #input: Buffer = EMPTY;
  #state: 'head' | 'exchange' | 'lingering' | 'closed' = 'head';
  #scanner: HeadScanner;
  #exchange: Exchange | undefined;
  #inputEnded = false;
  #draining = false;
  #inARow = 0;
  #waitingSince: number;
  #flushed = 0;
  #flushedAt: number;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#scanner = new HeadScanner(options.limits);
    this.#peer = peerOf(socket);
    this.#waitingSince = this.#flushedAt = options.monotonicMs();
    socket.on('data', (data: Buffer) => this.#received(data));
    socket.on('end', () => this.#ended());
    socket.on('error', () => {}); // 'close' follows, and says all that we need to know
    socket.on('close', () => this.#closed());
  }

  /** Takes no more requests: closes at once when idle, else after the answer under way. */
  drain(): void {
    this.#draining = true;
    if (this.#state === 'head' && this.#input.length === 0) this.#close();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Enforces the times of `WireLimits`; called about once a second. */
  sweep(now: number): void {
    const { limits } = this.#options;
    const flushed = this.#socket.bytesWritten - this.#socket.writableLength;
    if (this.#socket.writableLength === 0 || flushed !== this.#flushed) {
      this.#flushed = flushed;
      this.#flushedAt = now;
    } else if (now - this.#flushedAt > limits.writeStallMs) return this.destroy();
    const waited = now - this.#waitingSince;
    if (this.#state === 'lingering' && waited > limits.lingerMs) return this.destroy();
    if (this.#state === 'head') {
      if (this.#scanner.seen === 0 && this.#input.length === 0) {
        if (waited > limits.keepAliveMs) this.#close();
      } else if (waited > limits.headMs) this.#refuse(new WireError(408, 'head_timeout', 'the request head took too long'));
    }
    if (this.#state === 'exchange') this.#sweepExchange(now);
  }

  #sweepExchange(now: number): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    if (exchange.bodyStalled(now)) {
      const error = new WireError(408, 'body_timeout', 'the request body took too long');
      exchange.failBody(error);
      if (exchange.response.started) this.#socket.resetAndDestroy();
      else this.#refuse(error);
    } else if (exchange.leftHalfOpen(now)) this.destroy();
  }

  #received(data: Buffer): void {
    if (this.#state === 'lingering' || this.#state === 'closed') return;
    if (this.#state === 'head' && this.#input.length === 0 && this.#scanner.seen === 0) {
      this.#waitingSince = this.#options.monotonicMs();
      this.#inARow = 0;
    }
    this.#input = this.#input.length === 0 ? data : Buffer.concat([this.#input, data]);
    this.#advance();
  }

  #advance(): void {
    try {
      while (this.#state === 'head' && this.#input.length > 0) {
        const end = this.#scanner.scan(this.#input, this.#scanner.seen);
        if (end === -1) break;
        const head = parseHead(this.#input.subarray(0, end), this.#options.limits);
        this.#input = this.#input.subarray(end);
        this.#scanner = new HeadScanner(this.#options.limits);
        this.#start(head);
      }
      if (this.#state === 'exchange') this.#feed();
      // What is left of a head after the client's last byte never becomes a request.
      else if (this.#state === 'head' && this.#inputEnded) this.#close();
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#refuse(error);
    }
  }

  #start(head: RequestHead): void {
    this.#state = 'exchange';
    this.#inARow++;
    const exchange = new Exchange(head, {
      socket: this.#socket,
      peer: this.#peer,
      limits: this.#options.limits,
      now: this.#options.monotonicMs(),
      mayKeepAlive: () => head.keepAlive && !this.#draining && this.#inARow < this.#options.limits.pipelined,
      onFinished: (keepAlive) => this.#finished(keepAlive),
      onBodyWanted: () => this.#feed(),
    });
    this.#exchange = exchange;
    this.#feed();
    const { request, response } = exchange;
    // An answer that its handler left open would hold the connection for ever.
    this.#options.handler(request, response).then(
      () => response.abort(),
      () => response.abort(),
    );
  }

  /** Gives waiting bytes to the body of the request under way, as far as its reader takes them. */
  #feed(): void {
    const exchange = this.#exchange;
    if (exchange === undefined || this.#state !== 'exchange') return;
    if (!exchange.bodyDone && this.#input.length > 0 && exchange.wantsBody) {
      try {
        this.#input = this.#input.subarray(exchange.feed(this.#input, this.#options.monotonicMs()));
      } catch (error) {
        this.#input = EMPTY;
        exchange.failBody(error as WireError);
        if (!exchange.response.started) this.#refuse(error as WireError);
        return;
      }
    }
    if (this.#inputEnded && !exchange.bodyDone && this.#input.length === 0) this.#truncated(exchange);
    else if (this.#input.length > READ_AHEAD_BYTES) this.#socket.pause();
    else this.#socket.resume();
  }

  #truncated(exchange: Exchange): void {
    const error = new WireError(400, 'truncated', 'the connection ended inside the request body');
    exchange.failBody(error);
    if (!exchange.response.started) this.#refuse(error);
  }

  #finished(keepAlive: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    if (this.#state !== 'exchange' || exchange === undefined) return;
    exchange.abandon();
    if (!keepAlive || !exchange.bodyDone) return this.#close();
    this.#state = 'head';
    this.#waitingSince = this.#options.monotonicMs();
    this.#socket.resume();
    // From a fresh stack: ten glued requests must not nest ten answers deep.
    if (this.#input.length > 0 || this.#inputEnded) setImmediate(() => this.#advance());
  }

  #refuse(error: WireError): void {
    if (this.#state === 'closed' || this.#state === 'lingering') return;
    const { headers, body } = this.#options.renderRefusal(error);
    this.#options.onRefused(error, this.#peer);
    if (this.#exchange !== undefined && !this.#exchange.response.started) {
      this.#exchange.response.send(error.status, '', headers, body);
      return;
    }
    const response = new WireResponse(this.#socket, { method: 'GET', version: '1.1', mayKeepAlive: () => false, finished: () => {} });
    response.send(error.status, '', headers, body);
    this.#close();
  }

  /** Ends our side and drops what the client still sends for a while: a reset would take our answer from it (design.md §3). */
  #close(): void {
    this.#input = EMPTY;
    this.#state = 'lingering';
    this.#waitingSince = this.#options.monotonicMs();
    this.#socket.end();
    if (this.#inputEnded) this.#socket.destroySoon();
    else this.#socket.resume();
  }

  #ended(): void {
    this.#inputEnded = true;
    if (this.#state === 'lingering') this.#socket.destroySoon();
    else if (this.#state === 'head') this.#advance();
    else {
      this.#exchange?.inputEnded(this.#options.monotonicMs());
      this.#feed();
    }
  }

  #closed(): void {
    this.#state = 'closed';
    this.#input = EMPTY;
    this.#exchange?.gone();
    this.#exchange = undefined;
    this.#options.onClosed();
  }
}

function peerOf(socket: Socket): Peer {
  const secure = socket as Partial<TLSSocket>;
  const certificate = secure.encrypted === true && secure.authorized === true ? secure.getPeerCertificate?.().fingerprint256 : undefined;
  return { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0, certificate };
}
