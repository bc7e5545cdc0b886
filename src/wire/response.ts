import type { Socket } from 'node:net';

import type { HeaderField } from './head.ts';

const BODILESS_STATUS = new Set([204, 304]);

/** How the answer to one request is written. Everything is checked again here: no caller can split an answer. */
export class WireResponse {
  readonly #socket: Socket;
  readonly #method: string;
  readonly #version: '1.0' | '1.1';
  readonly #mayKeepAlive: () => boolean;
  readonly #finished: (keepAlive: boolean) => void;
  #state: 'new' | 'open' | 'ended' = 'new';
  #chunked = false;
  #hasBody = true;
  #keepAlive = false;
  #bodyBytes = 0;

  constructor(socket: Socket, options: { method: string; version: '1.0' | '1.1'; mayKeepAlive: () => boolean; finished: (keepAlive: boolean) => void }) {
    this.#socket = socket;
    this.#method = options.method;
    this.#version = options.version;
    this.#mayKeepAlive = options.mayKeepAlive;
    this.#finished = options.finished;
  }

  /** True once the status line was written: no other answer can be given then. */
  get started(): boolean {
    return this.#state !== 'new';
  }

  /** Body bytes handed to the socket so far. */
  get bodyBytes(): number {
    return this.#bodyBytes;
  }

  /**
   * Writes the status line and the fields; framing and connection fields are ours, so the caller leaves them out.
   * `length` is the number of body bytes, where it is known. A reason phrase that is not printable ASCII is left out.
   */
  writeHead(status: number, reason: string, headers: readonly HeaderField[], length: number | undefined): void {
    if (this.#state !== 'new') throw new Error('the head of this answer was written already');
    this.#hasBody = this.#method !== 'HEAD' && !BODILESS_STATUS.has(status);
    this.#keepAlive = this.#version === '1.1' && this.#mayKeepAlive();
    let head = `HTTP/1.1 ${status} ${/^[ -~]{0,900}$/.test(reason) ? reason : ''}\r\n`;
    for (const [name, value] of headers) head += `${name}: ${checkedValue(name, value)}\r\n`;
    if (this.#hasBody) {
      if (length !== undefined) head += `Content-Length: ${length}\r\n`;
      else if (this.#version === '1.1') {
        this.#chunked = true;
        head += 'Transfer-Encoding: chunked\r\n';
      } else this.#keepAlive = false;
    } else if (this.#method === 'HEAD' && length !== undefined) head += `Content-Length: ${length}\r\n`;
    if (!this.#keepAlive) head += 'Connection: close\r\n';
    this.#state = 'open';
    // The first piece of the body is mostly there already: one system call for both.
    this.#socket.cork();
    this.#socket.write(`${head}\r\n`, 'latin1');
    process.nextTick(() => this.#socket.uncork());
  }

  /** Writes a piece of the body; false when the client takes no more for now (wait for `onDrain`). */
  write(data: Buffer): boolean {
    if (this.#state !== 'open') throw new Error('this answer is not open');
    if (!this.#hasBody || data.length === 0) return true;
    this.#bodyBytes += data.length;
    if (!this.#chunked) return this.#socket.write(data);
    this.#socket.cork();
    this.#socket.write(`${data.length.toString(16)}\r\n`, 'latin1');
    this.#socket.write(data);
    const more = this.#socket.write('\r\n', 'latin1');
    this.#socket.uncork();
    return more;
  }

  /** Calls `resume` once, when the client has taken what was waiting. */
  onDrain(resume: () => void): void {
    this.#socket.once('drain', resume);
  }

  /** Ends a whole answer. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    if (this.#chunked) this.#socket.write('0\r\n\r\n', 'latin1');
    this.#finished(this.#keepAlive);
  }

  /** Gives a whole small answer at once. */
  send(status: number, reason: string, headers: readonly HeaderField[], body: Buffer): void {
    this.#socket.cork();
    this.writeHead(status, reason, headers, body.length);
    this.write(body);
    this.end();
    this.#socket.uncork();
  }

  /** Cuts the connection, so that what was sent cannot be taken for a whole answer. */
  abort(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#socket.resetAndDestroy();
  }
}

function checkedValue(name: string, value: string): string {
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name) || /[\r\n\0]/.test(value)) throw new Error('a header field of this answer is malformed');
  return value;
}
