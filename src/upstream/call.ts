import type { RawRequest } from '../vault/request.ts';
import { UpstreamError } from './error.ts';
import { forward, type RequestBody, type UpstreamHead } from './forward.ts';
import type { UpstreamNodes } from './nodes.ts';

/** A whole answer, in memory. */
export interface WholeAnswer extends UpstreamHead {
  readonly body: Buffer;
}

/** Sends a request of our own and reads its answer, at most `maxBytes` of it. @throws {UpstreamError} */
export function call(nodes: UpstreamNodes, request: RawRequest, maxBytes: number, body: RequestBody = { kind: 'none' }): Promise<WholeAnswer> {
  return new Promise((resolve, reject) => {
    let head: UpstreamHead | undefined;
    const chunks: Buffer[] = [];
    let size = 0;
    const forwarding = forward(nodes, request, body, {
      onHead: (received) => {
        head = received;
      },
      onData: (chunk) => {
        size += chunk.length;
        if (size > maxBytes) forwarding.abort(new UpstreamError('upstream_too_large', true));
        else chunks.push(chunk);
        return true;
      },
      onEnd: () => {
        if (head !== undefined) resolve({ ...head, body: Buffer.concat(chunks) });
      },
      onError: reject,
    });
  });
}
