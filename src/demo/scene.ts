import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { generateKeyFile } from '../challenge/key-ring.ts';
import { loadSettings } from '../config/load.ts';
import type { Host } from '../host.ts';
import { generateSigningKey, parseSigningKey, type SigningKey, signStepUpToken } from '../identity/sign.ts';
import { type Served, serve } from '../main.ts';
import { openLog } from '../telemetry/log.ts';
import { type DevServer, startVault } from './dev-server.ts';

/** The demo's stage: a real server with secrets in it, an issuer, and the proxy in front. */
export interface Scene {
  readonly vault: DevServer;
  readonly served: Served;
  /** `http://127.0.0.1:port` of the proxy. */
  readonly address: string;
  readonly dir: string;
  /** Tokens of two pipeline jobs with the same rights. */
  readonly jobs: readonly [string, string];
  readonly sign: (nonce: string) => Promise<string>;
  /** The audit log's lines so far. */
  readonly audit: () => string[];
  readonly stop: () => Promise<void>;
}

/** The name of the demo's issuer, as its policy and its tokens have it. */
export const DEMO_ISSUER = 'https://issuer.demo.stepgate';
const ROOT_TOKEN = 'demo-root';

const POLICY = `version: 1
tiers:
  - name: open
  - name: critical
    step_up: {accept: [demo], max_age: 5m}
  - name: forbidden
    deny: "ask the security team"
default_tier: open
unknown_mount: critical
system: {admin: forbidden, exits: forbidden}
rules:
  - secret: secret/+/prod/*
    tier: critical
    reason: production credentials
proofs:
  demo: {kind: jwt, issuer: ${DEMO_ISSUER}, algs: [EdDSA], nonce_in: nonce, jwks_file: issuer.json.jwks.json}
`;

function configuration(vault: DevServer, port: number, redis: string | undefined): string {
  return `version: 1
public_url: http://127.0.0.1:${port}
listen:
  vault: {address: "127.0.0.1:${port}"}
upstream:
  nodes: ["${vault.url}"]
  mounts: {"secret/": kv-v2}
  namespaces: []
challenges: ${redis === undefined ? '{store: memory}' : `{store: redis, url: "${redis}"}`}
keys: keys.json
audit: {dir: audit}
log: {level: silent}
`;
}

/** Sets the stage. @throws when a part does not start */
export async function setScene(options: {
  readonly vaultProgram: string;
  readonly port: number;
  readonly redis: string | undefined;
  readonly host: Host;
}): Promise<Scene> {
  const { host, port } = options;
  const dir = mkdtempSync(join(tmpdir(), 'stepgate-demo-'));
  const vault = await startVault(options.vaultProgram, ROOT_TOKEN);
  try {
    const key = await writeFiles(dir, configuration(vault, port, options.redis), host);
    const jobs = await seed(vault);
    const loaded = loadSettings(join(dir, 'stepgate.yaml'), {});
    const served = await serve({ loaded, policyFile: join(dir, 'policy.yaml'), host, log: openLog('silent') });
    const address = `http://127.0.0.1:${served.port}`;
    return {
      vault,
      served,
      address,
      dir,
      jobs,
      sign: (nonce) =>
        signStepUpToken(key, {
          issuer: DEMO_ISSUER,
          audience: address,
          subject: 'alice',
          nonce,
          jti: host.random(16).toString('base64url'),
          nowMs: host.now(),
          lifetimeS: 120,
          acr: undefined,
          amr: ['hwk'],
          authTime: undefined,
        }),
      audit: () => readAudit(join(dir, 'audit')),
      stop: async () => {
        await served.close();
        await vault.stop();
        rmSync(dir, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await vault.stop();
    rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

async function writeFiles(dir: string, configuration: string, host: Host): Promise<SigningKey> {
  const { privateJwk, jwks } = await generateSigningKey('EdDSA');
  const text = JSON.stringify(privateJwk);
  mkdirSync(join(dir, 'audit'));
  writeFileSync(join(dir, 'issuer.json'), text, { mode: 0o600 });
  writeFileSync(join(dir, 'issuer.json.jwks.json'), JSON.stringify(jwks));
  writeFileSync(join(dir, 'keys.json'), generateKeyFile(host.now(), host.random), { mode: 0o600 });
  writeFileSync(join(dir, 'policy.yaml'), POLICY);
  writeFileSync(join(dir, 'stepgate.yaml'), configuration);
  return parseSigningKey(text);
}

/** Puts secrets into the server and makes a token for each of two jobs. */
async function seed(vault: DevServer): Promise<[string, string]> {
  await ask(vault, 'POST', 'secret/data/web/config', { data: { theme: 'dark' } });
  await ask(vault, 'POST', 'secret/data/payments/prod/db', { data: { password: 'correct horse battery staple' } });
  await ask(vault, 'PUT', 'sys/policies/acl/pipeline', { policy: 'path "secret/*" { capabilities = ["read", "list"] }' });
  const job = async (name: string): Promise<string> => {
    const answer = await ask(vault, 'POST', 'auth/token/create', { policies: ['pipeline'], display_name: name, ttl: '2h' });
    return (answer as { auth: { client_token: string } }).auth.client_token;
  };
  return [await job('job-a'), await job('job-b')];
}

async function ask(vault: DevServer, method: string, path: string, body: unknown): Promise<unknown> {
  const answer = await fetch(`${vault.url}/v1/${path}`, { method, headers: { 'X-Vault-Token': ROOT_TOKEN }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`the demo's server answered ${answer.status} to ${method} ${path}`);
  const text = await answer.text();
  return text === '' ? null : JSON.parse(text);
}

function readAudit(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .flatMap((name) => readFileSync(join(dir, name), 'utf8').trimEnd().split('\n'));
}
