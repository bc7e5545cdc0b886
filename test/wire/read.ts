import { BodyReader } from '../../src/wire/body.ts';
import { WireError } from '../../src/wire/error.ts';
import { HeadScanner, parseHead, type RequestHead } from '../../src/wire/head.ts';
import { defaultWireLimits } from '../../src/wire/limits.ts';

/** What our own parser makes of bytes: the requests in them up to the first refusal, and whether the last is whole. */
export interface Read {
  readonly requests: readonly { readonly head: RequestHead; readonly body: string }[];
  readonly refused: WireError | undefined;
  readonly whole: boolean;
}

/** Runs the parser over bytes that come in pieces. */
export function readPieces(pieces: readonly Buffer[]): Read {
  const requests: { head: RequestHead; body: string }[] = [];
  let input = Buffer.alloc(0);
  let scanner = new HeadScanner(defaultWireLimits);
  let current: { head: RequestHead; reader: BodyReader; body: string } | undefined;
  try {
    for (const piece of pieces) {
      input = Buffer.concat([input, piece]);
      for (;;) {
        if (current === undefined) {
          const end = scanner.scan(input, scanner.seen);
          if (end === -1) break;
          const head = parseHead(input.subarray(0, end), defaultWireLimits);
          input = input.subarray(end);
          scanner = new HeadScanner(defaultWireLimits);
          current = { head, reader: new BodyReader(head.framing, defaultWireLimits), body: '' };
        }
        const { next, data } = current.reader.read(input, 0);
        input = input.subarray(next);
        current.body += Buffer.concat(data).toString('latin1');
        if (!current.reader.done) break;
        requests.push({ head: current.head, body: current.body });
        current = undefined;
        if (input.length === 0) break;
      }
    }
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return { requests, refused: error, whole: false };
  }
  return { requests, refused: undefined, whole: current === undefined && scanner.seen === 0 };
}
