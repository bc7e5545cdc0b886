import { createServer, type Server, type ServerResponse } from 'node:http';

/** One part's state, for `/readyz`. */
export interface Readiness {
  /** Whether ordinary traffic can be served. */
  readonly ready: boolean;
  /** Whether gated traffic can be served too. */
  readonly critical: boolean;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Where health and figures are served, and who tells them. */
export interface OpsOptions {
  readonly host: string;
  readonly port: number;
  readonly readiness: () => Readiness;
  /** The figures in Prometheus' text format. */
  readonly metrics: () => Promise<string>;
}

/** Health and figures, on a listener of their own that no client of the vault can reach. */
export class OpsListener {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Binds the address. @throws the system's error when it cannot be bound */
  static async open(options: OpsOptions): Promise<OpsListener> {
    const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 8192 }, (request, response) => {
      const url = new URL(request.url ?? '/', 'http://ops');
      if (request.method !== 'GET' && request.method !== 'HEAD') return send(response, 405, { errors: ['only GET is supported'] });
      if (url.pathname === '/healthz') return send(response, 200, { status: 'ok' });
      if (url.pathname === '/readyz') return sendReadiness(response, options.readiness(), url.searchParams.get('tier') === 'critical');
      if (url.pathname === '/metrics') return void sendMetrics(response, options.metrics);
      send(response, 404, { errors: ['expected /healthz, /readyz or /metrics'] });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port, options.host, () => resolve());
    });
    return new OpsListener(server);
  }

  /** The port that was bound. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function sendReadiness(response: ServerResponse, readiness: Readiness, strict: boolean): void {
  const ready = strict ? readiness.ready && readiness.critical : readiness.ready;
  send(response, ready ? 200 : 503, { ready, critical: readiness.critical, ...readiness.detail });
}

async function sendMetrics(response: ServerResponse, metrics: () => Promise<string>): Promise<void> {
  const text = await metrics();
  response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8', 'cache-control': 'no-store' }).end(text);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(`${JSON.stringify(body)}\n`);
}
