import { z } from 'zod';

import { parseDuration, parseSize } from '../units.ts';

const duration = z
  .string({ error: 'expected a duration such as 30s or 10m' })
  .transform((text, context) => unit(parseDuration(text), 'expected a duration such as 30s or 10m', context));
const size = z.string({ error: 'expected a size such as 32MiB' }).transform((text, context) => unit(parseSize(text), 'expected a size such as 32MiB', context));
const file = z.string({ error: 'expected a path' }).min(1, 'expected a path');
const count = z.number({ error: 'expected a number' }).int('expected a whole number').min(1, 'expected at least 1');

function unit(value: number | null, message: string, context: z.RefinementCtx): number {
  if (value !== null && value > 0) return value;
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
}

/** `host:port`, `[v6]:port`. */
const address = z.string({ error: 'expected an address such as 127.0.0.1:8300' }).transform((text, context) => {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    context.addIssue({ code: 'custom', message: 'expected an address such as 127.0.0.1:8300 or [::]:8300' });
    return z.NEVER;
  }
  return { host: match[1] ?? match[2] ?? '', port };
});

/** An origin: scheme, host and port, no path. The slash that people add at the end is taken away. */
const origin = z.string({ error: 'expected a URL such as https://vault.example.com' }).transform((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '' || url.hash !== '' || url.username !== '') {
    context.addIssue({ code: 'custom', message: 'expected an http or https URL without path, such as https://vault.example.com' });
    return z.NEVER;
  }
  return url.origin;
});

const tls = z.strictObject({ cert: file, key: file, client_ca: file.exactOptional() });

/** The server's own configuration: how this instance runs (design.md §9). Durations in ms and sizes in bytes when read. */
export const settingsSchema = z.strictObject({
  version: z.literal(1, { error: 'expected 1' }),
  public_url: origin,
  listen: z.strictObject({
    vault: z.strictObject({ address, tls: tls.exactOptional(), insecure: z.boolean({ error: 'expected true or false' }).exactOptional() }),
    ops: z.strictObject({ address }).exactOptional(),
  }),
  upstream: z.strictObject({
    nodes: z.array(origin, { error: 'expected a list of URLs' }).min(1, 'expected at least one node').max(32),
    tls: z.strictObject({ ca: file.exactOptional(), server_name: z.string().exactOptional() }).exactOptional(),
    token_file: file.exactOptional(),
    mounts: z
      .record(
        z.string(),
        z.string({ error: 'expected a mount type such as kv-v2' }).regex(/^[a-z][a-z0-9_-]{0,63}$/, 'expected a mount type such as kv-v2, kv-v1 or pki'),
      )
      .default({}),
    namespaces: z.array(z.string({ error: 'expected a namespace' }), { error: 'expected a list of namespaces' }).exactOptional(),
    timeout: duration.default(60_000),
    connections: count.default(4096),
  }),
  challenges: z
    .strictObject({
      store: z.enum(['redis', 'memory'], { error: 'expected redis or memory' }),
      url: z
        .string({ error: 'expected a redis:// or rediss:// URL' })
        .regex(/^rediss?:\/\//, 'expected a redis:// or rediss:// URL')
        .exactOptional(),
      password: z.string().min(1).exactOptional(),
      tls: z.strictObject({ ca: file }).exactOptional(),
      ttl: duration.refine((ms) => ms <= 86_400_000, 'expected at most 24h').default(600_000),
      limits: z
        .strictObject({ per_binding: count.default(5), per_address: count.default(50), total: count.default(100_000) })
        .default({ per_binding: 5, per_address: 50, total: 100_000 }),
    })
    .refine((value) => value.store === 'memory' || value.url !== undefined, { message: 'the store redis needs a url', path: ['url'] })
    .refine((value) => value.store === 'redis' || value.url === undefined, { message: 'the store memory has no url', path: ['url'] }),
  keys: file.exactOptional(),
  audit: z.strictObject({ dir: file, fsync: z.literal('group', { error: 'expected group' }).default('group') }),
  trusted_proxies: z.array(z.string({ error: 'expected an address or CIDR range' })).default([]),
  limits: z
    .strictObject({ connections: count.default(4096), connections_per_address: count.exactOptional(), body: size.default(32 * 1024 * 1024) })
    .default({ connections: 4096, body: 32 * 1024 * 1024 }),
  log: z
    .strictObject({ level: z.enum(['debug', 'info', 'warn', 'error', 'silent'], { error: 'expected debug, info, warn, error or silent' }).default('info') })
    .default({ level: 'info' }),
});

/** The configuration as it is used. */
export type Settings = z.output<typeof settingsSchema>;

/** Keys of features that are not built yet, refused by name. */
export const LATER_SETTINGS_KEYS: ReadonlySet<string> = new Set([
  'web',
  'hold',
  'challenge_status',
  'notify',
  'notifications',
  'approvals',
  'approvers',
  'exchange',
  'tracing',
  'proxy_protocol',
  'basic_carrier',
  'sentinels',
  'cluster',
  'reserved_mount',
  'witness',
  'checkpoints',
  'identity',
  'issuers',
  'ui',
]);
