import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { stringify } from 'yaml';

import { generateKeyFile } from '../../src/challenge/key-ring.ts';
import { loadSettings } from '../../src/config/load.ts';
import { freePort } from '../../src/demo/dev-server.ts';
import { type Host, systemHost } from '../../src/host.ts';
import { generateSigningKey, parseSigningKey, signStepUpToken } from '../../src/identity/sign.ts';
import { type Served, serve } from '../../src/main.ts';
import { openLog } from '../../src/telemetry/log.ts';

export const ISSUER = 'https://issuer.test';

/** A policy as plain data; `proofs` with the test issuer is added. */
export type PolicyData = Readonly<Record<string, unknown>>;

/** Everything open: what a transparent proxy would do. */
export const OPEN_POLICY: PolicyData = {
  version: 1,
  tiers: [{ name: 'open' }],
  default_tier: 'open',
  unknown_mount: 'open',
  system: { admin: 'open', exits: 'open' },
};

/** One tier that asks for a step-up, over `secret/crit/*`; all else open. */
export const GATED_POLICY: PolicyData = {
  version: 1,
  tiers: [{ name: 'open' }, { name: 'critical', step_up: { accept: ['ci'] } }],
  default_tier: 'open',
  unknown_mount: 'critical',
  system: { admin: 'open', exits: 'critical' },
  rules: [{ secret: 'secret/crit/*', tier: 'critical' }],
};

/** A proxy under test, with an issuer whose tokens it believes. */
export interface Stack {
  readonly served: Served;
  readonly url: string;
  readonly port: number;
  readonly dir: string;
  readonly policyFile: string;
  readonly auditDir: string;
  readonly sign: (nonce: string, change?: Partial<Parameters<typeof signStepUpToken>[1]>) => Promise<string>;
  readonly audit: () => Record<string, unknown>[];
  readonly stop: () => Promise<void>;
}

export interface StackOptions {
  readonly upstream: string | readonly string[];
  readonly policy?: PolicyData;
  /** Laid over the configuration, top-level keys. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly mounts?: Readonly<Record<string, string>>;
  readonly rootToken?: string;
  readonly redis?: string;
  readonly host?: Host;
  /** Of another instance: the same keys, issuer and public URL. */
  readonly like?: Stack;
}

/** Starts Stepgate in this process, in front of a real server. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const dir = mkdtempSync(join(tmpdir(), 'stepgate-test-'));
  const host = options.host ?? systemHost;
  const port = await freePort();
  const from = options.like?.dir;
  const issuer = from === undefined ? JSON.stringify((await makeIssuer(dir)).privateJwk) : readFileSync(join(from, 'issuer.json'), 'utf8');
  if (from !== undefined) writeFileSync(join(dir, 'issuer.jwks.json'), readFileSync(join(from, 'issuer.jwks.json')));
  writeFileSync(join(dir, 'issuer.json'), issuer);
  writeFileSync(join(dir, 'keys.json'), from === undefined ? generateKeyFile(host.now() - 60_000, host.random) : readFileSync(join(from, 'keys.json'), 'utf8'));
  if (options.rootToken !== undefined) writeFileSync(join(dir, 'token'), options.rootToken);
  const publicUrl = options.like?.url ?? `http://127.0.0.1:${port}`;
  const policyFile = join(dir, 'policy.yaml');
  writeFileSync(policyFile, policyText(options.policy ?? OPEN_POLICY));
  const settings = {
    version: 1,
    public_url: publicUrl,
    listen: { vault: { address: `127.0.0.1:${port}` }, ops: { address: '127.0.0.1:0' } },
    upstream: { nodes: [options.upstream].flat(), mounts: options.mounts ?? {}, ...(options.rootToken === undefined ? {} : { token_file: 'token' }) },
    challenges: options.redis === undefined ? { store: 'memory' } : { store: 'redis', url: options.redis },
    keys: 'keys.json',
    audit: { dir: 'audit' },
    log: { level: 'silent' },
    ...options.settings,
  };
  writeFileSync(join(dir, 'stepgate.yaml'), stringify(settings));
  const served = await serve({ loaded: loadSettings(join(dir, 'stepgate.yaml'), {}), policyFile, host, log: openLog('silent') });
  const key = parseSigningKey(issuer);
  const auditDir = join(dir, 'audit');
  return {
    served,
    url: `http://127.0.0.1:${port}`,
    port,
    dir,
    policyFile,
    auditDir,
    sign: (nonce, change = {}) =>
      signStepUpToken(key, {
        issuer: ISSUER,
        audience: publicUrl,
        subject: 'alice',
        nonce,
        jti: host.random(16).toString('base64url'),
        nowMs: host.now(),
        lifetimeS: 120,
        acr: undefined,
        amr: [],
        authTime: undefined,
        ...change,
      }),
    audit: () => readAudit(auditDir),
    stop: async () => {
      await served.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The text of a policy file with the test issuer in it. */
export function policyText(policy: PolicyData): string {
  const proofs = { ci: { kind: 'jwt', issuer: ISSUER, algs: ['EdDSA'], nonce_in: 'nonce', jwks_file: 'issuer.jwks.json' } };
  return stringify({ ...policy, proofs: { ...proofs, ...(policy['proofs'] as object | undefined) } });
}

async function makeIssuer(dir: string) {
  const made = await generateSigningKey('EdDSA');
  writeFileSync(join(dir, 'issuer.jwks.json'), JSON.stringify(made.jwks));
  return made;
}

/** Every entry of an audit directory, in order. */
export function readAudit(dir: string): Record<string, unknown>[] {
  return (
    readdirSync(dir)
      .filter((name) => name.endsWith('.jsonl'))
      .sort()
      .map((name) => readFileSync(join(dir, name), 'utf8'))
      // A line that is being written just now has no end yet.
      .flatMap((text) => text.slice(0, text.lastIndexOf('\n') + 1).split('\n'))
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  );
}
