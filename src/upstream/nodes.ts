import { Pool } from 'undici';

/** State of a node as `sys/health` tells it. */
export type NodeState = 'active' | 'standby' | 'sealed' | 'down' | 'unknown';

/** One Vault or OpenBao server. */
export interface UpstreamNode {
  /** `https://vault-0:8200` */
  readonly origin: string;
  readonly pool: Pool;
  state: NodeState;
}

/** The servers behind us, and how long is waited for them. */
export interface NodesOptions {
  readonly origins: readonly string[];
  /** PEM of the authority that signed the servers' certificates; the system's where it is left out. */
  readonly ca: Buffer | undefined;
  readonly serverName: string | undefined;
  /** Longest wait for the head of an answer, and for the next piece of its body, milliseconds. */
  readonly timeoutMs: number;
  readonly connections: number;
  readonly onState: (origin: string, state: NodeState) => void;
}

const HEALTH_MS = 5000;
const HEALTH_TIMEOUT_MS = 2000;
const PREFERENCE: readonly NodeState[] = ['active', 'unknown', 'standby', 'sealed', 'down'];
const MAX_HEAD_BYTES = 64 * 1024;

/** The configured servers, the healthiest first. Nothing is ever sent anywhere else. */
export class UpstreamNodes {
  readonly #nodes: readonly UpstreamNode[];
  readonly #options: NodesOptions;
  readonly #timer: NodeJS.Timeout;
  #checking: Promise<void> | undefined;

  constructor(options: NodesOptions) {
    this.#options = options;
    this.#nodes = options.origins.map((origin) => ({
      origin,
      state: 'unknown',
      pool: new Pool(origin, {
        connections: options.connections,
        pipelining: 1,
        headersTimeout: options.timeoutMs,
        bodyTimeout: options.timeoutMs,
        maxHeaderSize: MAX_HEAD_BYTES,
        keepAliveTimeout: 30_000,
        connect: {
          timeout: Math.min(5000, options.timeoutMs),
          ...(options.ca === undefined ? {} : { ca: options.ca }),
          ...(options.serverName === undefined ? {} : { servername: options.serverName }),
        },
      }),
    }));
    this.#timer = setInterval(() => void this.check(), HEALTH_MS);
    this.#timer.unref();
  }

  /** All nodes, the one to use first. */
  inOrder(): readonly UpstreamNode[] {
    if (this.#nodes.length === 1) return this.#nodes;
    return [...this.#nodes].sort((a, b) => PREFERENCE.indexOf(a.state) - PREFERENCE.indexOf(b.state));
  }

  /** States by origin, for readiness. */
  states(): Readonly<Record<string, NodeState>> {
    return Object.fromEntries(this.#nodes.map(({ origin, state }) => [origin, state]));
  }

  /** Asks every node for its health; shared by all who ask meanwhile. */
  check(): Promise<void> {
    this.#checking ??= Promise.all(this.#nodes.map((node) => this.#checkNode(node))).then(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#nodes.map(({ pool }) => pool.destroy()));
  }

  async #checkNode(node: UpstreamNode): Promise<void> {
    const state = await probe(node.pool);
    if (state === node.state) return;
    node.state = state;
    this.#options.onState(node.origin, state);
  }
}

async function probe(pool: Pool): Promise<NodeState> {
  try {
    const { statusCode, body } = await pool.request({
      method: 'GET',
      path: '/v1/sys/health',
      headersTimeout: HEALTH_TIMEOUT_MS,
      bodyTimeout: HEALTH_TIMEOUT_MS,
    });
    await body.dump({ limit: 64 * 1024 });
    if (statusCode === 200) return 'active';
    if (statusCode === 429 || statusCode === 472 || statusCode === 473) return 'standby';
    return statusCode === 503 || statusCode === 501 ? 'sealed' : 'unknown';
  } catch {
    return 'down';
  }
}
