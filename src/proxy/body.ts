import type { RequestBody } from '../upstream/forward.ts';
import type { WireRequest } from '../wire/exchange.ts';

/** The most that the body of a gated request may have, bytes: its hash is part of what is approved. */
export const MAX_GATED_BODY_BYTES = 1024 * 1024;
/** The most that such bodies may have together. */
const MAX_TOTAL_BYTES = 256 * 1024 * 1024;

let heldBytes = 0;

/** A body as it comes, for a request that is forwarded without looking at it. */
export function streamedBody(wire: WireRequest): RequestBody {
  const { framing } = wire.head;
  if (wire.body === undefined || (framing.kind === 'length' && framing.bytes === 0)) return { kind: 'none' };
  return { kind: 'stream', stream: wire.body, length: framing.kind === 'length' ? framing.bytes : undefined };
}

/** A whole body in memory, until `done` is called. */
export interface HeldBody {
  readonly bytes: Buffer | undefined;
  readonly done: () => void;
}

/** Reads a body that must be known before a decision; `too_large` beyond the limits, `broken` when it does not arrive whole. */
export async function holdBody(wire: WireRequest): Promise<HeldBody | 'too_large' | 'broken'> {
  const { framing } = wire.head;
  if (wire.body === undefined) return { bytes: undefined, done: () => {} };
  if (framing.kind === 'length' && framing.bytes > MAX_GATED_BODY_BYTES) return 'too_large';
  const chunks: Buffer[] = [];
  let size = 0;
  const giveBack = (): void => {
    heldBytes -= size;
    size = 0;
  };
  try {
    for await (const chunk of wire.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      heldBytes += chunk.length;
      if (size > MAX_GATED_BODY_BYTES || heldBytes > MAX_TOTAL_BYTES) {
        giveBack();
        return 'too_large';
      }
      chunks.push(chunk);
    }
  } catch {
    giveBack();
    return 'broken';
  }
  const bytes = Buffer.concat(chunks);
  return { bytes: bytes.length === 0 ? undefined : bytes, done: giveBack };
}
