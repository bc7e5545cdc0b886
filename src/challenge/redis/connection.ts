import { readFileSync } from 'node:fs';

import { Redis } from 'ioredis';

import { CodedError } from '../../errors.ts';
import { StoreUnavailable } from '../store.ts';

/** Something about this Redis that will not pass by itself: exit code 78 at start. */
export class RedisUnfit extends CodedError<'redis_unfit'> {}

/** How a Redis is reached, and who hears whether it can be used. */
export interface RedisOptions {
  /** `redis://` or `rediss://`, with user and database. */
  readonly url: string;
  readonly password: string | undefined;
  /** PEM of the authority that signed the server's certificate, where it is not a public one. */
  readonly ca: Buffer | undefined;
  readonly now: () => number;
  readonly random: (bytes: number) => Buffer;
  /** Called when the store becomes usable or stops being so. */
  readonly onStatus: (usable: boolean, reason: string) => void;
}

const COMMAND_MS = 250;
const CONNECT_MS = 1000;
const CHECK_MS = 30_000;
const CHECK_UNUSABLE_MS = 1000;
/** Beyond the first it is told, beyond the second nothing gated is served. */
const WARN_SKEW_MS = 2000;
const MAX_SKEW_MS = 5000;
const MAX_MEMORY_SHARE = 0.9;

const SCRIPTS = { find: 1, open: 1, reserve: 2, commit: 2, release: 1, cap: 1 } as const;
type ScriptName = keyof typeof SCRIPTS;

/** One connection to Redis with the scripts, and a watch over whether that Redis may be trusted with nonces (security.md §2.4). */
export class RedisConnection {
  readonly #redis: Redis;
  readonly #options: RedisOptions;
  #usable = false;
  #reason = 'not connected yet';
  #fence = '';
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #closed = false;

  constructor(options: RedisOptions) {
    this.#options = options;
    this.#redis = new Redis(options.url, {
      lazyConnect: true,
      commandTimeout: COMMAND_MS,
      connectTimeout: CONNECT_MS,
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      enableReadyCheck: true,
      disableClientInfo: true,
      retryStrategy: (times) => Math.min(1000, 50 * times) + (options.random(1)[0] ?? 0) / 4,
      ...(options.password === undefined ? {} : { password: options.password }),
      ...(options.ca === undefined ? {} : { tls: { ca: options.ca } }),
    });
    this.#redis.on('error', () => {}); // the status says it
    this.#redis.on('ready', () => void this.check());
    this.#redis.on('close', () => this.#set(false, 'not connected'));
    const prelude = script('prelude');
    for (const [name, keys] of Object.entries(SCRIPTS)) this.#redis.defineCommand(`stepgate_${name}`, { numberOfKeys: keys, lua: prelude + script(name) });
  }

  /** Connects and checks once. A Redis that is away is no error; @throws {RedisUnfit} for one that must never be used. */
  async start(): Promise<void> {
    try {
      await this.#redis.connect();
    } catch {
      // It goes on trying; until then gated requests are answered 503.
    }
    await this.check();
    this.#schedule();
    if (this.#reason.startsWith(UNFIT)) throw new RedisUnfit('redis_unfit', this.#reason);
  }

  status(): { usable: boolean; reason: string } {
    return { usable: this.#usable, reason: this.#reason };
  }

  /** `run_id:master_replid` of the Redis as of the last check. */
  get fence(): string {
    return this.#fence;
  }

  /** Looks at the server anew; shared by all who ask meanwhile. */
  check(): Promise<void> {
    this.#checking ??= this.#look().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  /** Runs a script. @throws {StoreUnavailable} also when it is not known whether it ran */
  async run(name: ScriptName, ...args: string[]): Promise<unknown> {
    if (!this.#usable) throw new StoreUnavailable(this.#reason);
    const command = (this.#redis as unknown as Readonly<Record<string, (...args: string[]) => Promise<unknown>>>)[`stepgate_${name}`];
    try {
      return await command?.apply(this.#redis, args);
    } catch (cause) {
      void this.check();
      throw new StoreUnavailable('the command failed', cause);
    }
  }

  /** Takes a request out of counts; nobody waits for it. */
  forget(keys: readonly string[], member: string): void {
    for (const key of keys) this.#redis.zrem(key, member).catch(() => {});
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#redis.disconnect();
  }

  async #look(): Promise<void> {
    try {
      const [server, replication, memory, persistence, time] = await Promise.all([
        this.#redis.info('server'),
        this.#redis.info('replication'),
        this.#redis.info('memory'),
        this.#redis.info('persistence'),
        this.#redis.time(),
      ]);
      const skewMs = this.#skewOf(time);
      const skew = `its clock is ${Math.round(skewMs / 1000)} s off ours`;
      const trouble = troubleOf({ server, replication, memory, persistence }) ?? (skewMs > MAX_SKEW_MS ? skew : null);
      this.#fence = `${field(server, 'run_id')}:${field(replication, 'master_replid')}`;
      this.#set(trouble === null, trouble ?? (skewMs > WARN_SKEW_MS ? skew : 'ok'));
    } catch {
      this.#set(false, this.#redis.status === 'ready' ? 'does not answer' : 'not connected');
    }
  }

  #skewOf(time: readonly (string | number)[]): number {
    return Math.abs(Number(time[0]) * 1000 + Number(time[1]) / 1000 - this.#options.now());
  }

  #set(usable: boolean, reason: string): void {
    if (this.#closed || (usable === this.#usable && reason === this.#reason)) return;
    this.#usable = usable;
    this.#reason = reason;
    this.#options.onStatus(usable, reason);
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.check().finally(() => this.#schedule()), this.#usable ? CHECK_MS : CHECK_UNUSABLE_MS);
    this.#timer.unref();
  }
}

const UNFIT = 'unfit: ';

interface Info {
  readonly server: string;
  readonly replication: string;
  readonly memory: string;
  readonly persistence: string;
}

function troubleOf(info: Info): string | null {
  const [major = 0, minor = 0] = field(info.server, 'redis_version').split('.').map(Number);
  if (major < 6 || (major === 6 && minor < 2)) return `${UNFIT}Redis 6.2 or newer (or Valkey) is needed`;
  if (!/^[0-9a-f]{40}$/.test(field(info.server, 'run_id')) || !/^[0-9a-f]{40}$/.test(field(info.replication, 'master_replid')))
    return `${UNFIT}it has no run_id and master_replid to tell one server from another`;
  if (field(info.memory, 'maxmemory_policy') !== 'noeviction') return `${UNFIT}set maxmemory-policy to noeviction: an evicted nonce could be used twice`;
  if (field(info.replication, 'role') !== 'master') return 'it is a replica';
  if (field(info.persistence, 'loading') === '1') return 'it is still loading';
  const max = Number(field(info.memory, 'maxmemory'));
  if (max > 0 && Number(field(info.memory, 'used_memory')) > MAX_MEMORY_SHARE * max) return 'its memory is nearly full';
  return null;
}

function field(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
}

function script(name: string): string {
  return `${readFileSync(new URL(`./${name}.lua`, import.meta.url), 'utf8')}\n`;
}
