import { readFileSync } from 'node:fs';

import { AuditLog } from './audit/log.ts';
import { KeyRing, parseKeyRing } from './challenge/key-ring.ts';
import { MemoryStore } from './challenge/memory.ts';
import { RedisConnection } from './challenge/redis/connection.ts';
import { RedisStore } from './challenge/redis/store.ts';
import { type ChallengeStore, defaultStoreTimes } from './challenge/store.ts';
import { isLoopback, type LoadedSettings } from './config/load.ts';
import { DocumentError } from './document.ts';
import { CodedError, codeOf } from './errors.ts';
import { Gate } from './gate/gate.ts';
import type { Host } from './host.ts';
import { OpsListener, type Readiness } from './ops/listener.ts';
import { PolicyWatch, type Reload } from './policy/watch.ts';
import { parseTrustedProxies } from './proxy/client-address.ts';
import { Pipeline } from './proxy/pipeline.ts';
import { wireErrorAnswer } from './proxy/refusals.ts';
import { createTokenHmac } from './proxy/token-hmac.ts';
import type { Log } from './telemetry/log.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { MountDirectory } from './upstream/mounts.ts';
import { UpstreamNodes } from './upstream/nodes.ts';
import { defaultWireLimits } from './wire/limits.ts';
import { type ListenerOptions, type TlsMaterial, WireListener } from './wire/listener.ts';

/** The version of the product, as its package says. */
export const VERSION: string = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;

/** A proxy that serves. */
export interface Served {
  /** The port of the vault listener. */
  readonly port: number;
  readonly opsPort: number | undefined;
  /** Loads policy and certificates anew, as SIGHUP does. */
  readonly reload: () => void;
  /** Takes nothing new, finishes what is under way within 30 s, and closes every part. */
  readonly close: () => Promise<void>;
}

/** What a proxy is built from: checked settings, the policy file, the machine, and the operational log. */
export interface ServeOptions {
  readonly loaded: LoadedSettings;
  readonly policyFile: string;
  readonly host: Host;
  readonly log: Log;
}

const DRAIN_MS = 30_000;
const LEASE_MARGIN_MS = 10_000;

/**
 * Builds every part once, in order of need, and wires them. What was opened is closed in reverse: the listeners drain
 * first, the audit log closes last, so that no answer outlives its entry.
 * @throws {DocumentError} naming file, line and key, when it cannot start with these settings
 */
export async function serve(options: ServeOptions): Promise<Served> {
  const { loaded, host, log } = options;
  const { settings } = loaded;
  await using opened = new AsyncDisposableStack();
  const metrics = createMetrics();
  const policy = opened.adopt(openPolicy(options, metrics), (watch) => watch.close());
  const keys = openKeys(loaded, host, log);
  const audit = opened.adopt(await openAudit(options, policy, metrics), (opening) => opening.close());
  const nodes = opened.adopt(openNodes(loaded, log, metrics), (opening) => opening.close());
  const mounts = opened.adopt(openMounts(loaded, nodes, log), (opening) => opening.close());
  const store = opened.adopt(await openStore(loaded, keys, host, log, metrics), (opening) => opening.close());
  await Promise.all([nodes.check(), mounts.start()]);
  if (!mounts.table().known) log.warn('no mounts are known: every secret that no rule names takes unknown_mount; set upstream.token_file or upstream.mounts');

  const { now, monotonicNs, random } = host;
  const trusted = parseTrustedProxies(settings.trusted_proxies);
  if (trusted === null) throw loaded.fault('trusted_proxies', 'expected addresses or CIDR ranges, such as 10.0.0.0/8');
  const gate = new Gate({ store, keys, audience: settings.public_url, ttlMs: settings.challenges.ttl, now, random });
  const tokenHmac = createTokenHmac(keys, now);
  const pipeline = new Pipeline({
    policy: () => policy.current(),
    mounts,
    gate,
    nodes,
    audit,
    metrics,
    trusted,
    tokenHmac,
    audience: settings.public_url,
    now,
    monotonicNs,
    random,
  });
  const listener = await openListener(loaded, pipeline, audit, metrics, host, log);
  opened.defer(() => listener.drain(DRAIN_MS));
  let draining = false;
  const readiness = (): Readiness => readinessOf({ draining, audit, store, nodes, mounts, policy });
  const ops = await openOps(loaded, readiness, metrics, listener);
  if (ops !== undefined) opened.adopt(ops, (opening) => opening.close());
  const parts = opened.move();
  log.info({ version: VERSION, port: listener.port, ops_port: ops?.port, policy_sha256: policy.current().sha256 }, 'serving');
  return {
    port: listener.port,
    opsPort: ops?.port,
    reload: () => {
      policy.reload();
      reloadTls(loaded, listener, log);
    },
    close: async () => {
      draining = true;
      await listener.drain(DRAIN_MS);
      await parts.disposeAsync();
    },
  };
}

function openPolicy(options: ServeOptions, metrics: Metrics): PolicyWatch {
  const { log } = options;
  return new PolicyWatch({
    file: options.policyFile,
    onReload: (reload: Reload) => {
      metrics.policyReloads.inc({ result: reload.kind });
      if (reload.kind === 'loaded') {
        log.info({ policy_sha256: reload.policy.sha256 }, 'policy reloaded');
        if (reload.loosened.length > 0) log.warn({ loosened: reload.loosened.slice(0, 100) }, 'the new policy is less strict');
      } else if (reload.kind === 'refused')
        log.error({ findings: reload.error.findings.slice(0, 20) }, 'the changed policy was refused, the last good one stays in force');
    },
  });
}

function openKeys(loaded: LoadedSettings, host: Host, log: Log): KeyRing {
  const { keys } = loaded.settings;
  if (keys !== undefined) return asSetting(loaded, 'keys', () => parseKeyRing(readText(loaded, keys, 'keys')));
  log.warn('no key file: keys are made for this run only');
  return new KeyRing([{ id: 'run', notBeforeMs: 0, secret: host.random(32) }]);
}

async function openAudit(options: ServeOptions, policy: PolicyWatch, metrics: Metrics): Promise<AuditLog> {
  const { loaded, host, log } = options;
  const { now, monotonicNs, random } = host;
  metrics.up.set({ part: 'audit' }, 1);
  const opening = AuditLog.open({
    dir: loaded.resolve(loaded.settings.audit.dir),
    now,
    monotonicNs,
    random,
    start: { version: VERSION, policy_sha256: policy.current().sha256 },
    onStatus: (writable, reason) => {
      metrics.up.set({ part: 'audit' }, writable ? 1 : 0);
      if (writable) log.info('the audit log is written again');
      else log.error({ reason }, 'the audit log cannot be written');
    },
  });
  return asSetting(loaded, 'audit.dir', () => opening);
}

function openNodes(loaded: LoadedSettings, log: Log, metrics: Metrics): UpstreamNodes {
  const { upstream } = loaded.settings;
  return new UpstreamNodes({
    origins: upstream.nodes,
    ca: upstream.tls?.ca === undefined ? undefined : readBytes(loaded, upstream.tls.ca, 'upstream.tls.ca'),
    serverName: upstream.tls?.server_name,
    timeoutMs: upstream.timeout,
    connections: upstream.connections,
    onState: (origin, state) => {
      metrics.up.set({ part: `upstream ${origin}` }, state === 'active' || state === 'standby' ? 1 : 0);
      log.info({ origin, state }, 'upstream');
    },
  });
}

function openMounts(loaded: LoadedSettings, nodes: UpstreamNodes, log: Log): MountDirectory {
  const { token_file: tokenFile, mounts, namespaces } = loaded.settings.upstream;
  return new MountDirectory({
    nodes,
    configured: mounts,
    namespaces,
    readToken: tokenFile === undefined ? undefined : () => readText(loaded, tokenFile, 'upstream.token_file').trim(),
    onRefresh: (failure, count) => {
      if (failure === undefined) log.debug({ mounts: count }, 'mounts learnt');
      else log.warn({ reason: failure }, 'the mounts could not be learnt, those known stay in force');
    },
  });
}

async function openStore(loaded: LoadedSettings, keys: KeyRing, host: Host, log: Log, metrics: Metrics): Promise<ChallengeStore> {
  const { challenges, upstream } = loaded.settings;
  const { now, random } = host;
  const limits = { perBinding: challenges.limits.per_binding, perAddress: challenges.limits.per_address, total: challenges.limits.total };
  const times = { ...defaultStoreTimes, leaseMs: upstream.timeout + LEASE_MARGIN_MS };
  metrics.up.set({ part: 'challenges' }, 1);
  if (challenges.store === 'memory') {
    log.warn('challenges are kept in memory: one instance only, and a restart voids what is open');
    return new MemoryStore({ limits, times, now });
  }
  const connection = new RedisConnection({
    url: challenges.url ?? '',
    password: challenges.password,
    ca: challenges.tls === undefined ? undefined : readBytes(loaded, challenges.tls.ca, 'challenges.tls.ca'),
    now,
    random,
    onStatus: (usable, reason) => {
      metrics.up.set({ part: 'challenges' }, usable ? 1 : 0);
      if (usable && reason === 'ok') log.info('the challenge store can be used');
      else if (usable) log.warn({ reason }, 'the challenge store can be used');
      else log.error({ reason }, 'the challenge store cannot be used: gated requests are answered 503, all others are served');
    },
  });
  try {
    await asSetting(loaded, 'challenges.url', () => connection.start());
  } catch (error) {
    await connection.close();
    throw error;
  }
  return new RedisStore({ connection, keys, limits, times, now });
}

async function openListener(loaded: LoadedSettings, pipeline: Pipeline, audit: AuditLog, metrics: Metrics, host: Host, log: Log): Promise<WireListener> {
  const { listen, limits } = loaded.settings;
  const { vault } = listen;
  if (vault.tls === undefined && !isLoopback(vault.address.host)) log.warn('the vault listener has no TLS: tokens and secrets cross the network in the clear');
  const options: ListenerOptions = {
    host: vault.address.host,
    port: vault.address.port,
    tls: readTls(loaded),
    limits: {
      ...defaultWireLimits,
      connections: limits.connections,
      connectionsPerAddress: limits.connections_per_address ?? limits.connections,
      bodyBytes: limits.body,
    },
    handler: pipeline.handle,
    renderRefusal: (error) => wireErrorAnswer(error, host.now()),
    onRefused: (error, peer) => {
      metrics.refusals.inc({ code: error.code });
      audit
        .append({ type: 'decision', client: { ip: peer.address, port: peer.port }, decision: 'refuse', reason_code: error.code, status: error.status }, true)
        .catch(() => metrics.auditFailures.inc());
    },
    onTrouble: (code) => log.warn({ reason: code }, 'a connection was not taken'),
    monotonicMs: () => Number(host.monotonicNs() / 1_000_000n),
  };
  return asSetting(loaded, 'listen.vault.address', () => WireListener.open(options));
}

async function openOps(loaded: LoadedSettings, readiness: () => Readiness, metrics: Metrics, listener: WireListener): Promise<OpsListener | undefined> {
  const { ops } = loaded.settings.listen;
  if (ops === undefined) return undefined;
  const options = {
    host: ops.address.host,
    port: ops.address.port,
    readiness,
    metrics: () => {
      metrics.connections.set(listener.connections);
      return metrics.registry.metrics();
    },
  };
  return asSetting(loaded, 'listen.ops.address', () => OpsListener.open(options));
}

function readinessOf(parts: {
  draining: boolean;
  audit: AuditLog;
  store: ChallengeStore;
  nodes: UpstreamNodes;
  mounts: MountDirectory;
  policy: PolicyWatch;
}): Readiness {
  const audit = parts.audit.status();
  const store = parts.store.status();
  return {
    ready: !parts.draining,
    critical: audit.writable && store.usable,
    detail: {
      ...(parts.draining ? { draining: true } : {}),
      audit: audit.reason,
      challenges: store.reason,
      upstream: parts.nodes.states(),
      mounts_known: parts.mounts.table().known,
      policy_sha256: parts.policy.current().sha256,
    },
  };
}

function reloadTls(loaded: LoadedSettings, listener: WireListener, log: Log): void {
  try {
    const tls = readTls(loaded);
    if (tls === undefined) return;
    listener.reload(tls);
    log.info('certificates reloaded');
  } catch (error) {
    log.error({ reason: codeOf(error) }, 'the changed certificates were refused, the last good ones stay in use');
  }
}

function readTls(loaded: LoadedSettings): TlsMaterial | undefined {
  const { tls } = loaded.settings.listen.vault;
  if (tls === undefined) return undefined;
  return {
    cert: readBytes(loaded, tls.cert, 'listen.vault.tls.cert'),
    key: readBytes(loaded, tls.key, 'listen.vault.tls.key'),
    clientCa: tls.client_ca === undefined ? undefined : readBytes(loaded, tls.client_ca, 'listen.vault.tls.client_ca'),
  };
}

function readBytes(loaded: LoadedSettings, path: string, key: string): Buffer {
  try {
    return readFileSync(loaded.resolve(path));
  } catch (error) {
    throw loaded.fault(key, `the file ${path} cannot be read (${codeOf(error)})`);
  }
}

function readText(loaded: LoadedSettings, path: string, key: string): string {
  return readBytes(loaded, path, key).toString('utf8');
}

/** Runs what needs a setting; what goes wrong is told with the setting's place in the file. */
function asSetting<T>(loaded: LoadedSettings, key: string, work: () => T): T {
  const explain = (error: unknown): never => {
    if (error instanceof DocumentError) throw error;
    if (error instanceof CodedError) throw loaded.fault(key, error.message);
    const code = codeOf(error);
    throw code === 'unknown' ? error : loaded.fault(key, `cannot be used (${code})`);
  };
  try {
    const result = work();
    return result instanceof Promise ? (result.catch(explain) as T) : result;
  } catch (error) {
    return explain(error);
  }
}
