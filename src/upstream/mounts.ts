import { createRequire } from 'node:module';

import type NodeVault from 'node-vault';
import { z } from 'zod';

import { codeOf } from '../errors.ts';
import { MountTable, type MountType } from '../vault/mounts.ts';
import { call } from './call.ts';
import type { UpstreamNodes } from './nodes.ts';

/** Where mounts and namespaces are learnt from. */
export interface MountDirectoryOptions {
  readonly nodes: UpstreamNodes;
  /** Mounts that the configuration names: full path to type. They hold beside, and over, what the server says. */
  readonly configured: Readonly<Record<string, MountType>>;
  readonly namespaces: readonly string[] | undefined;
  /** Reads the read-only token anew at each refresh; undefined: nothing is asked. */
  readonly readToken: (() => string) | undefined;
  /** Called after a refresh with undefined, or with the stable code of its failure. */
  readonly onRefresh: (failure: string | undefined, mounts: number) => void;
}

const REFRESH_MS = 30_000;
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;
const MAX_NAMESPACES = 10_000;

const mount = z.object({ type: z.string().max(128), options: z.record(z.string(), z.string()).nullish() });
const mountsAnswer = z.object({ data: z.record(z.string().max(1024), z.unknown()) });
const listAnswer = z.object({ data: z.object({ keys: z.array(z.string().max(256)).max(MAX_NAMESPACES) }) });

/** What the server has mounted where, learnt with a read-only token every 30 s, or from the configuration alone. */
export class MountDirectory {
  readonly #options: MountDirectoryOptions;
  #table: MountTable;
  #timer: NodeJS.Timeout | undefined;
  #refreshing: Promise<void> | undefined;

  constructor(options: MountDirectoryOptions) {
    this.#options = options;
    this.#table = new MountTable(Object.entries(options.configured), options.namespaces);
  }

  /** The table as of the last refresh that succeeded. */
  table(): MountTable {
    return this.#table;
  }

  /** Refreshes once and from then on every 30 s. Does not throw: until it succeeds the configuration's mounts hold. */
  async start(): Promise<void> {
    if (this.#options.readToken === undefined) return;
    await this.refresh();
    this.#timer = setInterval(() => void this.refresh(), REFRESH_MS);
    this.#timer.unref();
  }

  /** Learns the mounts anew; shared by all who ask meanwhile. */
  refresh(): Promise<void> {
    if (this.#options.readToken === undefined) return Promise.resolve();
    this.#refreshing ??= this.#learn().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #learn(): Promise<void> {
    const { configured, namespaces, onRefresh, readToken } = this.#options;
    if (readToken === undefined) return;
    try {
      const token = readToken();
      const known = await this.#learnNamespaces(token);
      const mounts: [string, MountType][] = [];
      for (const namespace of known ?? ['']) mounts.push(...(await this.#learnMounts(token, namespace)));
      const all = known === undefined ? namespaces : [...new Set([...known, ...(namespaces ?? [])])];
      this.#table = new MountTable([...mounts, ...Object.entries(configured)], all);
      onRefresh(undefined, mounts.length);
    } catch (error) {
      onRefresh(codeOf(error), 0);
    }
  }

  async #learnMounts(token: string, namespace: string): Promise<[string, MountType][]> {
    const vault = this.#client(token, namespace);
    const secret = mountsAnswer.parse(await vault.read('sys/mounts')).data;
    const auth = await vault.read('sys/auth').then(
      (answer: unknown) => mountsAnswer.parse(answer).data,
      () => ({}),
    );
    const at = namespace === '' ? '' : `${namespace}/`;
    return [
      ...Object.entries(secret).flatMap(([path, value]) => typed(at, path, value)),
      ...Object.entries(auth).flatMap(([path, value]) => typed(`${at}auth/`, path, value)),
    ];
  }

  /** Every namespace below the root, the root first; undefined where the server has none, or does not tell. */
  async #learnNamespaces(token: string): Promise<string[] | undefined> {
    const found = [''];
    for (let i = 0; i < found.length && found.length < MAX_NAMESPACES; i++) {
      const parent = found[i] as string;
      let answer: unknown;
      try {
        answer = await this.#client(token, parent).list('sys/namespaces');
      } catch (error) {
        const status = (error as { response?: { statusCode?: number } }).response?.statusCode;
        const body = (error as { response?: { body?: { errors?: unknown[] } } }).response?.body;
        // OpenBao answers 404 with an empty list where there is no child.
        if (status === 404 && body?.errors?.length === 0) continue;
        if (parent === '') return undefined;
        throw error;
      }
      for (const key of listAnswer.parse(answer).data.keys) found.push(`${parent === '' ? '' : `${parent}/`}${key.replace(/\/$/, '')}`);
    }
    return found;
  }

  #client(token: string, namespace: string): NodeVault.client {
    return nodeVault({
      endpoint: ENDPOINT,
      token,
      // Its own transport follows redirects with the token and reads without limit; ours does neither.
      'request-promise': { defaults: () => (options: TransportRequest) => this.#transport(options, token, namespace) },
    });
  }

  async #transport(options: TransportRequest, token: string, namespace: string): Promise<unknown> {
    const target = options.uri.slice(ENDPOINT.length);
    const headers: [string, string][] = [
      ['X-Vault-Token', token],
      ['X-Vault-Request', 'true'],
    ];
    if (namespace !== '') headers.push(['X-Vault-Namespace', Buffer.from(namespace).toString('latin1')]);
    const { status, body } = await call(this.#options.nodes, { method: options.method, target, headers }, MAX_ANSWER_BYTES);
    return { statusCode: status, body: body.length === 0 ? undefined : JSON.parse(body.toString('utf8')), request: { path: target } };
  }
}

interface TransportRequest {
  readonly method: string;
  readonly uri: string;
}

const ENDPOINT = 'http://upstream';
const nodeVault = createRequire(import.meta.url)('node-vault') as (options: NodeVault.VaultOptions & { 'request-promise': unknown }) => NodeVault.client;

function typed(prefix: string, path: string, value: unknown): [string, MountType][] {
  const read = mount.safeParse(value);
  if (!read.success || !path.endsWith('/')) return [];
  const { type, options } = read.data;
  const isKv = type === 'kv' || type === 'generic';
  return [[prefix + path, isKv ? (options?.['version'] === '2' ? 'kv-v2' : 'kv-v1') : type.replace(/^ns_/, '')]];
}
