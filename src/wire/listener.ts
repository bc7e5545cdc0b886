import { constants } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type SecureContextOptions, type Server as TlsServer } from 'node:tls';

import { Connection, type ConnectionOptions } from './connection.ts';

/** Certificate, key and, where clients must show a certificate, the authority that signs theirs: PEM. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly clientCa: Buffer | undefined;
}

/** What a listener needs to know; the rest it passes to its connections. */
export interface ListenerOptions extends Omit<ConnectionOptions, 'onClosed'> {
  readonly host: string;
  readonly port: number;
  readonly tls: TlsMaterial | undefined;
  /** Called with the stable code of a failure that the listener survives (EMFILE on accept, a failed handshake). */
  readonly onTrouble: (code: string) => void;
}

const SWEEP_MS = 250;

/** The front of the proxy: accepts connections within the limits, over TLS or plain. */
export class WireListener {
  readonly #options: ListenerOptions;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  readonly #perAddress = new Map<string, number>();
  readonly #sweep: NodeJS.Timeout;
  #idle: (() => void) | undefined;

  private constructor(options: ListenerOptions) {
    this.#options = options;
    this.#server = options.tls === undefined ? createServer({ allowHalfOpen: true, noDelay: true }) : createSecure(options.tls, options);
    this.#server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => this.#accept(socket));
    // Counts connections that are still shaking hands too; those beyond it are dropped by the system call's own answer.
    this.#server.maxConnections = options.limits.connections;
    this.#server.on('drop', () => options.onTrouble('too_many_connections'));
    this.#server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: Socket) => {
      options.onTrouble(error.code ?? 'tls');
      socket.destroy();
    });
    this.#sweep = setInterval(() => {
      const now = options.monotonicMs();
      for (const connection of this.#connections) connection.sweep(now);
    }, SWEEP_MS);
    this.#sweep.unref();
  }

  /** Binds the address. @throws the system's error when it cannot be bound */
  static async open(options: ListenerOptions): Promise<WireListener> {
    const listener = new WireListener(options);
    await new Promise<void>((resolve, reject) => {
      listener.#server.once('error', reject);
      listener.#server.listen({ host: options.host, port: options.port, backlog: 1024 }, () => {
        listener.#server.off('error', reject);
        // From here on an error is one failed accept (EMFILE): the listener goes on.
        listener.#server.on('error', (error: NodeJS.ErrnoException) => options.onTrouble(error.code ?? 'accept'));
        resolve();
      });
    });
    return listener;
  }

  /** The port that was bound. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Takes a new certificate for the connections to come. */
  reload(tls: TlsMaterial): void {
    if (this.#options.tls !== undefined) (this.#server as TlsServer).setSecureContext(secureContext(tls));
  }

  /** Stops accepting and waits until every answer under way is given, at most `timeoutMs`; then cuts what is left. */
  async drain(timeoutMs: number): Promise<void> {
    this.#server.close();
    const idle = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    for (const connection of this.#connections) connection.drain();
    if (this.#connections.size > 0) {
      const timer = setTimeout(() => {
        for (const connection of this.#connections) connection.destroy();
      }, timeoutMs);
      await idle;
      clearTimeout(timer);
    }
    clearInterval(this.#sweep);
  }

  #accept(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const fromThere = this.#perAddress.get(address) ?? 0;
    if (fromThere >= this.#options.limits.connectionsPerAddress) {
      this.#options.onTrouble('too_many_connections');
      socket.destroy();
      return;
    }
    this.#perAddress.set(address, fromThere + 1);
    const connection = new Connection(socket, { ...this.#options, onClosed: () => this.#closed(connection, address) });
    this.#connections.add(connection);
  }

  #closed(connection: Connection, address: string): void {
    this.#connections.delete(connection);
    const left = (this.#perAddress.get(address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(address);
    else this.#perAddress.set(address, left);
    if (this.#connections.size === 0) this.#idle?.();
  }
}

function createSecure(tls: TlsMaterial, options: ListenerOptions): TlsServer {
  return createTlsServer({
    ...secureContext(tls),
    allowHalfOpen: true,
    noDelay: true,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: options.limits.handshakeMs,
    requestCert: tls.clientCa !== undefined,
    rejectUnauthorized: tls.clientCa !== undefined,
  });
}

function secureContext(tls: TlsMaterial): SecureContextOptions {
  return {
    cert: tls.cert,
    key: tls.key,
    ...(tls.clientCa === undefined ? {} : { ca: tls.clientCa }),
    minVersion: 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  };
}
