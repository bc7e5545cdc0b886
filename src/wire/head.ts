import { WireError } from './error.ts';
import type { WireLimits } from './limits.ts';

/** One header field as it stood on the wire: the name in the sender's case, the value without the blanks around it (latin1). */
export type HeaderField = readonly [name: string, value: string];

/** How the body of a request is framed. */
export type Framing = { readonly kind: 'none' } | { readonly kind: 'length'; readonly bytes: number } | { readonly kind: 'chunked' };

/** A request head that was accepted: every field is the client's, none was changed. */
export interface RequestHead {
  readonly method: string;
  readonly target: string;
  readonly version: '1.0' | '1.1';
  readonly headers: readonly HeaderField[];
  readonly framing: Framing;
  readonly keepAlive: boolean;
  readonly expectContinue: boolean;
}

const CR = 13;
const LF = 10;
const TAB = 9;
const SPACE = 32;
const DELETE = 127;

// RFC 9110 §5.6.2: tchar
const TOKEN = new Uint8Array(256);
for (const c of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") TOKEN[c.charCodeAt(0)] = 1;

function isToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (TOKEN[text.charCodeAt(i)] !== 1) return false;
  return text.length > 0;
}

/**
 * Finds the end of a head as its bytes arrive. It refuses at the first byte that no head may hold, so the answer is the
 * same in whatever pieces the bytes come: bare CR or LF, control characters, a blank line before the request line, a
 * line that starts with a blank (obs-fold), a head or a request line beyond its limit.
 */
export class HeadScanner {
  readonly #limits: WireLimits;
  #seen = 0;
  #lineLength = 0;
  #firstLine = true;
  #afterCr = false;

  constructor(limits: WireLimits) {
    this.#limits = limits;
  }

  /** How many bytes of this head were looked at. */
  get seen(): number {
    return this.#seen;
  }

  /**
   * Looks at `bytes` from `start`; returns the offset just behind the head, or -1 when it goes on.
   * @throws {WireError} 400, 414 or 431
   */
  scan(bytes: Uint8Array, start: number): number {
    for (let i = start; i < bytes.length; i++) {
      const byte = bytes[i] as number;
      if (++this.#seen > this.#limits.headBytes) throw new WireError(431, 'head_too_large', 'request header fields too large');
      if (this.#afterCr) {
        if (byte !== LF) throw this.#malformed('a carriage return without a line feed');
        this.#afterCr = false;
        if (this.#lineLength === 0) {
          if (this.#firstLine) throw this.#malformed('a blank line before the request line');
          return i + 1;
        }
        this.#lineLength = 0;
        this.#firstLine = false;
        continue;
      }
      if (byte === CR) {
        this.#afterCr = true;
        continue;
      }
      if ((byte < SPACE && byte !== TAB) || byte === DELETE)
        throw this.#malformed(byte === LF ? 'a line feed without a carriage return' : 'a control character');
      if (this.#lineLength === 0 && (byte === SPACE || byte === TAB)) throw this.#malformed('a line that starts with a blank');
      this.#lineLength++;
      // The longest method and version add less than 64 bytes to the target.
      if (this.#firstLine && this.#lineLength > this.#limits.targetBytes + 64) throw tooLong(this.#limits);
    }
    return -1;
  }

  #malformed(what: string): WireError {
    return this.#firstLine
      ? new WireError(400, 'bad_request_line', `malformed request line: ${what}`)
      : new WireError(400, 'bad_header', `malformed header: ${what}`);
  }
}

function tooLong(limits: WireLimits): WireError {
  return new WireError(414, 'target_too_long', `request target is longer than ${limits.targetBytes} bytes`);
}

/**
 * Reads a complete head (as `HeadScanner` ended it), strictly: semantics.md §2A and §10, RFC 9112.
 * @throws {WireError} for anything that two parsers could read differently
 */
export function parseHead(bytes: Uint8Array, limits: WireLimits): RequestHead {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength - 4).toString('latin1');
  const firstEnd = text.indexOf('\r\n');
  const line = firstEnd === -1 ? text : text.slice(0, firstEnd);
  const { method, target, version } = parseRequestLine(line, limits);
  const headers = firstEnd === -1 ? [] : parseFields(text, firstEnd + 2, limits);
  return { method, target, version, headers, ...readFraming(method, version, headers, limits) };
}

function parseRequestLine(line: string, limits: WireLimits): { method: string; target: string; version: '1.0' | '1.1' } {
  const first = line.indexOf(' ');
  const last = line.lastIndexOf(' ');
  if (first <= 0 || last === first) throw new WireError(400, 'bad_request_line', 'malformed request line');
  const method = line.slice(0, first);
  const target = line.slice(first + 1, last);
  const protocol = line.slice(last + 1);
  if (!isToken(method) || method.length > 32 || target.length === 0) throw new WireError(400, 'bad_request_line', 'malformed request line');
  if (target.length > limits.targetBytes) throw tooLong(limits);
  for (let i = 0; i < target.length; i++) {
    const code = target.charCodeAt(i);
    if (code <= SPACE || code >= DELETE)
      throw new WireError(400, 'bad_request_line', 'malformed request target: only printable ASCII without blanks is allowed, percent-encode the rest');
  }
  if (protocol === 'HTTP/1.1') return { method, target, version: '1.1' };
  if (protocol === 'HTTP/1.0') return { method, target, version: '1.0' };
  if (/^HTTP\/\d\.\d$/.test(protocol)) throw new WireError(505, 'http_version', 'unsupported HTTP version: use HTTP/1.1');
  throw new WireError(400, 'bad_request_line', 'malformed request line');
}

function parseFields(text: string, start: number, limits: WireLimits): HeaderField[] {
  const fields: HeaderField[] = [];
  for (let at = start; at < text.length; ) {
    let end = text.indexOf('\r\n', at);
    if (end === -1) end = text.length;
    if (fields.length === limits.headFields) throw new WireError(431, 'head_too_large', `more than ${limits.headFields} header fields`);
    fields.push(parseField(text.slice(at, end)));
    at = end + 2;
  }
  return fields;
}

/** `Name: value` with nothing but a token before the colon (RFC 9112 §5.1). @throws {WireError} */
export function parseField(line: string): HeaderField {
  const colon = line.indexOf(':');
  const name = line.slice(0, Math.max(colon, 0));
  if (!isToken(name)) throw new WireError(400, 'bad_header', 'malformed header field');
  let from = colon + 1;
  let to = line.length;
  while (from < to && isBlank(line.charCodeAt(from))) from++;
  while (to > from && isBlank(line.charCodeAt(to - 1))) to--;
  return [name, line.slice(from, to)];
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

const BODILESS = new Set(['GET', 'HEAD', 'LIST', 'SCAN', 'DELETE', 'OPTIONS', 'HELP', 'TRACE', 'CONNECT']);
const SMUGGLED = /^(?:x[-_](?:vault|bao|step|stepgate)|authorization$|content[-_]|transfer[-_]|host$|expect$|upgrade$|trailer$|date$)/;

function readFraming(
  method: string,
  version: '1.0' | '1.1',
  headers: readonly HeaderField[],
  limits: WireLimits,
): Pick<RequestHead, 'framing' | 'keepAlive' | 'expectContinue'> {
  let host: string | undefined;
  let length: string | undefined;
  let encoding: string | undefined;
  let expect: string | undefined;
  let close = version === '1.0';
  for (const [name, value] of headers) {
    switch (name.toLowerCase()) {
      case 'host':
        if (host !== undefined) throw new WireError(400, 'bad_host', 'more than one Host header');
        host = value;
        break;
      case 'content-length':
        if (length !== undefined) throw new WireError(400, 'bad_framing', 'more than one Content-Length header');
        length = value;
        break;
      case 'transfer-encoding':
        if (encoding !== undefined) throw new WireError(400, 'bad_framing', 'more than one Transfer-Encoding header');
        encoding = value;
        break;
      case 'expect':
        if (expect !== undefined) throw new WireError(400, 'bad_header', 'more than one Expect header');
        expect = value;
        break;
      case 'connection':
        if (readConnection(value)) close = true;
        break;
      case 'upgrade':
        throw new WireError(400, 'upgrade_refused', 'Upgrade is not supported');
      default:
        break;
    }
  }
  if (version === '1.1' ? !host : host === '') throw new WireError(400, 'bad_host', 'missing or empty Host header');
  if (host !== undefined && !/^[A-Za-z0-9._~!$&'()*+,;=:[\]%-]*$/.test(host)) throw new WireError(400, 'bad_host', 'malformed Host header');
  const framing = framingOf(version, length, encoding, limits);
  if (framing.kind === 'chunked' || (framing.kind === 'length' && framing.bytes > 0)) {
    if (BODILESS.has(method)) throw new WireError(400, 'body_not_allowed', `a ${method} request cannot have a body`);
  }
  if (expect !== undefined && expect.toLowerCase() !== '100-continue')
    throw new WireError(417, 'expectation_failed', 'unknown expectation: only 100-continue is supported');
  return { framing, keepAlive: !close, expectContinue: expect !== undefined && version === '1.1' && framing.kind !== 'none' };
}

/** Reads `Connection`; true when it asks to close. A field that it names must not be one that we or the server act on (semantics.md §2A). */
function readConnection(value: string): boolean {
  let close = false;
  for (const part of value.split(',')) {
    const option = part.trim().toLowerCase();
    if (option === '') continue;
    if (!isToken(option)) throw new WireError(400, 'bad_header', 'malformed Connection header');
    if (option === 'close') close = true;
    if (option === 'upgrade') throw new WireError(400, 'upgrade_refused', 'Upgrade is not supported');
    if (SMUGGLED.test(option)) throw new WireError(400, 'bad_header', 'Connection names a header that must not be dropped on the way');
  }
  return close;
}

function framingOf(version: '1.0' | '1.1', length: string | undefined, encoding: string | undefined, limits: WireLimits): Framing {
  if (encoding !== undefined) {
    if (length !== undefined) throw new WireError(400, 'bad_framing', 'both Content-Length and Transfer-Encoding');
    if (version === '1.0') throw new WireError(400, 'bad_framing', 'Transfer-Encoding in an HTTP/1.0 request');
    if (encoding.toLowerCase() !== 'chunked') throw new WireError(501, 'transfer_encoding', 'unsupported transfer encoding: only chunked is supported');
    return { kind: 'chunked' };
  }
  if (length === undefined) return { kind: 'none' };
  if (!/^(?:0|[1-9]\d{0,14})$/.test(length)) throw new WireError(400, 'bad_framing', 'malformed Content-Length header');
  const bytes = Number(length);
  if (bytes > limits.bodyBytes) throw bodyTooLarge(limits);
  return { kind: 'length', bytes };
}

/** The refusal of a body beyond `limits.bodyBytes`. */
export function bodyTooLarge(limits: WireLimits): WireError {
  return new WireError(413, 'body_too_large', `request body is larger than ${limits.bodyBytes} bytes`);
}
