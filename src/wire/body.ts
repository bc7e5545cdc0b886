import { WireError } from './error.ts';
import { bodyTooLarge, type Framing, parseField } from './head.ts';
import type { WireLimits } from './limits.ts';

const CR = 13;
const LF = 10;
const MAX_SIZE_DIGITS = 8;
const MAX_EXTENSION_BYTES = 256;
// RFC 9112 §7.1.1, without the blanks that it forbids to send
const EXTENSION = /^(?:;[!#$%&'*+\-.^_`|~\w]+(?:=(?:[!#$%&'*+\-.^_`|~\w]+|"[ !#-[\]-~]*"))?)+$/;

type State = 'size' | 'extension' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'trailer' | 'trailer-lf' | 'done';

/** What a piece of input held: where the reader stopped, and the body bytes on the way (views into the input). */
export interface BodyPiece {
  readonly next: number;
  readonly data: readonly Buffer[];
}

/**
 * Takes the body of one request out of the bytes of a connection, in whatever pieces they come: by length, or chunked
 * (RFC 9112 §7.1) with sizes of at most 8 hex digits without zeros in front, extensions of at most 256 bytes, and
 * trailers that are checked and dropped.
 */
export class BodyReader {
  readonly #limits: WireLimits;
  readonly #chunked: boolean;
  #state: State;
  #left: number;
  #total = 0;
  #digits = '';
  #extension = '';
  #trailer = '';
  #trailerBytes = 0;
  #trailerFields = 0;

  constructor(framing: Framing, limits: WireLimits) {
    this.#limits = limits;
    this.#chunked = framing.kind === 'chunked';
    this.#left = framing.kind === 'length' ? framing.bytes : 0;
    this.#state = this.#chunked ? 'size' : this.#left > 0 ? 'data' : 'done';
  }

  /** True when the last byte of the body, trailers included, was read. */
  get done(): boolean {
    return this.#state === 'done';
  }

  /** Reads `bytes` from `start` up to the end of the body. @throws {WireError} 400 or 413 */
  read(bytes: Buffer, start: number): BodyPiece {
    const data: Buffer[] = [];
    let at = start;
    while (at < bytes.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const end = Math.min(bytes.length, at + this.#left);
        data.push(bytes.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#state = this.#chunked ? 'data-cr' : 'done';
      } else {
        this.#step(bytes[at] as number);
        at++;
      }
    }
    return { next: at, data };
  }

  #step(byte: number): void {
    switch (this.#state) {
      case 'size':
        return this.#size(byte);
      case 'extension':
        if (byte !== CR) {
          if (this.#extension.length === MAX_EXTENSION_BYTES) throw badChunk('chunk extension too long');
          this.#extension += String.fromCharCode(byte);
          return;
        }
        if (!EXTENSION.test(this.#extension)) throw badChunk('malformed chunk extension');
        this.#state = 'size-lf';
        return;
      case 'size-lf':
        if (byte !== LF) throw badChunk('a carriage return without a line feed');
        return this.#startChunk();
      case 'data-cr':
        if (byte !== CR) throw badChunk('chunk data longer than its size');
        this.#state = 'data-lf';
        return;
      case 'data-lf':
        if (byte !== LF) throw badChunk('a carriage return without a line feed');
        this.#state = 'size';
        return;
      case 'trailer':
        return this.#trailerByte(byte);
      case 'trailer-lf':
        if (byte !== LF) throw badChunk('a carriage return without a line feed');
        return this.#endTrailer();
      case 'data':
      case 'done':
        return;
    }
  }

  #size(byte: number): void {
    if (isHexDigit(byte)) {
      if (this.#digits === '0') throw badChunk('a chunk size with a zero in front');
      if (this.#digits.length === MAX_SIZE_DIGITS) throw badChunk('chunk size too large');
      this.#digits += String.fromCharCode(byte);
    } else if (this.#digits === '') {
      throw badChunk('a chunk without a size');
    } else if (byte === CR) {
      this.#state = 'size-lf';
    } else if (byte === 0x3b) {
      this.#extension = ';';
      this.#state = 'extension';
    } else {
      throw badChunk('malformed chunk size');
    }
  }

  #startChunk(): void {
    const size = Number.parseInt(this.#digits, 16);
    this.#digits = '';
    this.#total += size;
    if (this.#total > this.#limits.bodyBytes) throw bodyTooLarge(this.#limits);
    this.#left = size;
    this.#state = size === 0 ? 'trailer' : 'data';
  }

  #trailerByte(byte: number): void {
    if (byte === CR) {
      this.#state = 'trailer-lf';
      return;
    }
    if ((byte < 32 && byte !== 9) || byte === 127) throw badChunk('a control character in a trailer');
    if (this.#trailer === '' && (byte === 32 || byte === 9)) throw badChunk('a trailer that starts with a blank');
    if (++this.#trailerBytes > this.#limits.headBytes) throw new WireError(431, 'head_too_large', 'trailers too large');
    this.#trailer += String.fromCharCode(byte);
  }

  #endTrailer(): void {
    if (this.#trailer === '') {
      this.#state = 'done';
      return;
    }
    parseField(this.#trailer);
    if (++this.#trailerFields > this.#limits.headFields) throw new WireError(431, 'head_too_large', 'too many trailers');
    this.#trailer = '';
    this.#state = 'trailer';
  }
}

function isHexDigit(byte: number): boolean {
  return (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 70) || (byte >= 97 && byte <= 102);
}

function badChunk(what: string): WireError {
  return new WireError(400, 'bad_chunk', `malformed chunked body: ${what}`);
}
