import { createHash } from 'node:crypto';

import { call, type WholeAnswer } from '../upstream/call.ts';
import type { UpstreamNodes } from '../upstream/nodes.ts';
import { serialiseApiPath } from '../vault/path.ts';
import type { Reading } from '../vault/readings.ts';
import type { CallerToken } from '../vault/request.ts';

/** Whether a caller is somebody who may see a path at all; what the server said where not. */
export type Liveness = { readonly alive: true } | { readonly alive: false; readonly answer: WholeAnswer };

const ALIVE_MS = 60_000;
const REFUSED_MS = 5000;
const MAX_CACHED = 10_000;
/** Meanings beyond the first that are asked about: each is a request to the server. */
const MAX_OTHERS = 3;
const MAX_ANSWER_BYTES = 64 * 1024;
/** Longest refusal that is remembered, bytes: strangers make as many as they like. */
const MAX_REMEMBERED_BYTES = 2048;

/**
 * Asks the server, with the caller's own token, whether the caller has anything to do with a path, before anything about
 * the path is told or stored (design.md §6). The endpoint is the one that the KV client asks; it costs no use of a token.
 */
export class LivenessCheck {
  readonly #nodes: UpstreamNodes;
  readonly #now: () => number;
  readonly #cache = new Map<string, { readonly untilMs: number; readonly liveness: Liveness }>();

  constructor(nodes: UpstreamNodes, now: () => number) {
    this.#nodes = nodes;
    this.#now = now;
  }

  /**
   * Whether the caller may see the path by any of its meanings, the likeliest first; the first one's refusal where not.
   * `caller` is a hash of the token, for the cache. @throws {UpstreamError}
   */
  async check(readings: readonly [Reading, ...Reading[]], token: CallerToken | undefined, caller: string): Promise<Liveness> {
    const [first, ...others] = readings;
    const liveness = await this.#checkReading(first, token, caller);
    if (liveness.alive || token === undefined) return liveness;
    for (const other of others.slice(0, MAX_OTHERS)) {
      const otherwise = await this.#checkReading(other, token, caller);
      if (otherwise.alive) return otherwise;
    }
    return liveness;
  }

  async #checkReading(reading: Reading, token: CallerToken | undefined, caller: string): Promise<Liveness> {
    const namespace = reading.namespace.join('/');
    const path = serialiseApiPath({ segments: ['sys', 'internal', 'ui', 'mounts', ...reading.path], trailing: false });
    const key = createHash('sha256').update(`${caller} ${namespace} ${path}`).digest('base64url');
    const cached = this.#cache.get(key);
    if (cached !== undefined && this.#now() < cached.untilMs) return cached.liveness;
    const headers: [string, string][] = [];
    if (namespace !== '') headers.push(['X-Vault-Namespace', Buffer.from(namespace).toString('latin1')]);
    if (token !== undefined) headers.push(['X-Vault-Token', token.value]);
    const answer = await call(this.#nodes, { method: 'GET', target: path, headers }, MAX_ANSWER_BYTES);
    const liveness: Liveness = answer.status === 200 ? { alive: true } : { alive: false, answer };
    if (answer.status === 200 || (answer.status === 403 && answer.body.length <= MAX_REMEMBERED_BYTES))
      this.#remember(key, liveness, liveness.alive ? ALIVE_MS : REFUSED_MS);
    return liveness;
  }

  #remember(key: string, liveness: Liveness, forMs: number): void {
    if (this.#cache.size >= MAX_CACHED) {
      const oldest = this.#cache.keys().next();
      if (!oldest.done) this.#cache.delete(oldest.value);
    }
    this.#cache.delete(key);
    this.#cache.set(key, { untilMs: this.#now() + forMs, liveness });
  }
}
