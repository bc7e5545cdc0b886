import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { freePort } from '../../src/demo/dev-server.ts';
import { type CannedUpstream, startCannedUpstream } from '../support/canned-upstream.ts';
import { run, runProgram, start, startProgram } from '../support/command.ts';
import { ask, requestBytes } from '../support/raw.ts';

let dir: string;
let upstream: CannedUpstream;
const config = () => join(dir, 'stepgate.yaml');
const policy = () => join(dir, 'policy.yaml');

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'stepgate-cli-'));
  cpSync('config/stepgate.yaml', config());
  cpSync('config/policy.yaml', policy());
  await run(['keys', 'generate', '--out', join(dir, 'keys.json')]);
  await run(['keys', 'generate', '--issuer', '--out', join(dir, 'issuer.json')]);
  upstream = await startCannedUpstream();
});
afterAll(async () => {
  await upstream?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe('keys generate', () => {
  test('writes keys that only their owner reads, and never over others', async () => {
    const file = join(dir, 'new-keys.json');
    expect((await run(['keys', 'generate', '--out', file])).code).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const before = readFileSync(file, 'utf8');
    const again = await run(['keys', 'generate', '--out', file]);
    expect(again.code).toBe(1);
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect((await run(['keys', 'generate', '--issuer', '--out', join(dir, 'new-issuer.json')])).code).toBe(0);
    expect(readFileSync(join(dir, 'new-issuer.json.jwks.json'), 'utf8')).not.toContain('"d"');
  });
});

describe('policy explain', () => {
  const explain = (...args: string[]) => run(['policy', 'explain', '--policy', policy(), ...args]);
  test.for([
    [['GET', 'secret/data/payments/prod/db', '--mount', 'secret/=kv-v2'], 'tier:      critical (step-up by local)'],
    [['GET', '/v1/secret/data/web', '--mount', 'secret/=kv-v2'], 'why:       no rule names it: default_tier'],
    [['GET', 'secret/data/web'], 'unknown_mount'],
    [['GET', 'sys/raw/x'], 'tier:      forbidden'],
    [['GET', 'secret/data/x', '--namespace', 'ns1'], 'namespace: ns1'],
    [['GET', 'secret/../x'], 'refused with 400 (relative_path)'],
  ] as const)('%j says %s', async ([args, text]) => {
    const { code, stdout } = await explain(...args);
    expect(code).toBe(0);
    expect(stdout).toContain(text);
  });

  test('prints JSON for programs', async () => {
    const { stdout } = await explain('GET', 'secret/data/payments/prod/db', '--mount', 'secret/=kv-v2', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ tier: 'critical', outcome: 'step_up', why: 'rule', rule: { pattern: 'secret/+/prod/*' }, mount: 'secret' });
  });
});

describe('usage', () => {
  test.for([[['nonsense']], [['serve', '--nope']], [['token']], [['policy', 'explain', 'GET']]] as const)('%j ends with 64', async ([args]) => {
    const { code, stderr } = await run(args);
    expect(code).toBe(64);
    expect(stderr).not.toBe('');
  });

  test.for([
    [['--help']],
    [['serve', '--help']],
    [['demo', '--help']],
    [['token', '--help']],
    [['keys', 'generate', '--help']],
    [['policy', 'explain', '--help']],
  ] as const)('%j shows examples', async ([args]) => {
    const { code, stdout } = await run(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples?:/);
  });
});

describe('serve refuses a configuration with exit code 78 and says where', () => {
  const broken = async (change: (text: string) => string, environment: Record<string, string> = {}) => {
    const file = join(dir, 'broken.yaml');
    writeFileSync(file, change(readFileSync(config(), 'utf8')));
    return run(['serve', '--config', file, '--policy', policy()], environment);
  };
  test.for<[string, (text: string) => string, RegExp]>([
    ['an unknown key', (text) => `${text}\nnonsense: 1\n`, /broken\.yaml:\d+:1: nonsense: unknown key `nonsense`/],
    [
      'a feature that is not built',
      (text) => text.replace('  ops:', '  web: {address: "127.0.0.1:1"}\n  ops:'),
      /broken\.yaml:\d+:3: listen\.web: `web` is not available in this version/,
    ],
    ['a bad duration', (text) => text.replace('ttl: 10m', 'ttl: soon'), /challenges\.ttl: expected a duration/],
    ['a missing key', (text) => text.replace(/^public_url.*$/m, ''), /public_url/],
    ['an open address without TLS', (text) => text.replace('127.0.0.1:8300\n', '0.0.0.0:8300\n'), /listen\.vault\.address: expected tls, or insecure: true/],
    [
      'a URL with a path',
      (text) => text.replace('http://127.0.0.1:8200', 'http://127.0.0.1:8200/v1'),
      /upstream\.nodes\.0: expected an http or https URL without path/,
    ],
    ['Redis without a URL', (text) => text.replace('store: memory', 'store: redis'), /challenges\.url: the store redis needs a url/],
    [
      'a missing key file',
      (text) => text.replace('keys: keys.json', 'keys: nowhere.json'),
      /broken\.yaml:\d+:7: keys: the file nowhere\.json cannot be read \(ENOENT\)/,
    ],
    [
      'a bad trusted proxy',
      (text) => text.replace('trusted_proxies: []', 'trusted_proxies: [nowhere]'),
      /broken\.yaml:\d+:18: trusted_proxies: expected addresses or CIDR ranges/,
    ],
    ['a secret file that is not there', (text) => text.replace('fsync: group', `fsync: "\${file:nowhere}"`), /the file nowhere cannot be read/],
    ['broken YAML', () => 'a: [', /not valid YAML/],
  ])('%s', async ([, change, message]) => {
    const { code, stderr } = await broken(change);
    expect(stderr).toMatch(message);
    expect(code).toBe(78);
  });

  test('a port that is taken', async () => {
    const { code, stderr } = await broken((text) =>
      text.replace('127.0.0.1:8300\n', `${new URL(upstream.url).host}\n`).replace('dir: ../audit', 'dir: taken-audit'),
    );
    expect(stderr).toMatch(/broken\.yaml:\d+:14: listen\.vault\.address: cannot be used \(EADDRINUSE\)/);
    expect(code).toBe(78);
  });

  test('a variable that is no key', async () => {
    const { code, stderr } = await broken((text) => text, { STEPGATE_NONSENSE: '1' });
    expect([code, stderr]).toEqual([78, 'stepgate: environment: STEPGATE_NONSENSE: is no key of the configuration\n']);
  });

  test('a policy that contradicts itself', async () => {
    const file = join(dir, 'bad-policy.yaml');
    writeFileSync(file, readFileSync(policy(), 'utf8').replace('default_tier: open', 'default_tier: nope'));
    const { code, stderr } = await run(['serve', '--config', config(), '--policy', file]);
    expect(stderr).toMatch(/bad-policy\.yaml:\d+:15: default_tier: unknown tier `nope`/);
    expect(code).toBe(78);
  });
});

describe('serve', () => {
  async function serving(environment: Record<string, string> = {}) {
    const [port, ops] = [await freePort(), await freePort()];
    const child = start(['serve', '--config', config(), '--policy', policy()], {
      STEPGATE_LISTEN_VAULT_ADDRESS: `127.0.0.1:${port}`,
      STEPGATE_LISTEN_OPS_ADDRESS: `127.0.0.1:${ops}`,
      STEPGATE_UPSTREAM_NODES: upstream.url,
      STEPGATE_AUDIT_DIR: join(dir, `audit-${port}`),
      ...environment,
    });
    let log = '';
    await new Promise<void>((resolve, reject) => {
      child.process.stderr?.on('data', (data: Buffer) => {
        log += data.toString();
        if (log.includes('"msg":"serving"')) resolve();
      });
      child.process.on('exit', () => reject(new Error(log)));
    });
    return { port, ops, child, log: () => log };
  }

  test('takes its keys from variables, answers health and figures, and ends with 0 on SIGTERM', async () => {
    const { port, ops, child } = await serving();
    expect((await ask(port, 'GET', '/v1/secret/data/x', [['X-Vault-Token', 't']]))?.status).toBe(200);
    expect(await (await fetch(`http://127.0.0.1:${ops}/healthz`)).json()).toEqual({ status: 'ok' });
    expect(await (await fetch(`http://127.0.0.1:${ops}/readyz`)).json()).toMatchObject({ ready: true, critical: true, audit: 'ok' });
    expect(await (await fetch(`http://127.0.0.1:${ops}/metrics`)).text()).toMatch(/stepgate_decisions_total\{decision="forward",tier="open"\} 1/);
    child.process.kill('SIGTERM');
    expect((await child.ended).code).toBe(0);
  });

  test('on SIGTERM finishes what is under way and takes nothing new', async () => {
    const { port, child } = await serving();
    const arrived = Promise.withResolvers<() => void>();
    upstream.answer = (_, response) => arrived.resolve(() => response.writeHead(200).end('{"late":true}'));
    const socket = connect(port, '127.0.0.1');
    socket.write(requestBytes('GET', '/v1/secret/data/x', [['X-Vault-Token', 't']]));
    const finish = await arrived.promise;
    child.process.kill('SIGTERM');
    for (let refused = false; !refused; ) {
      const probe = connect(port, '127.0.0.1');
      refused = await Promise.race([once(probe, 'connect').then(() => false), once(probe, 'error').then(() => true)]).catch(() => true);
      probe.destroy();
    }
    finish();
    let text = '';
    socket.on('data', (data: Buffer) => {
      text += data.toString();
    });
    await once(socket, 'end');
    expect(text).toContain('{"late":true}');
    expect((await child.ended).code).toBe(0);
    upstream.answer = (_, response) => void response.writeHead(200).end('{}');
  });

  test('reloads a changed policy, whole or not at all', async () => {
    const { port, child, log } = await serving();
    const read = () => ask(port, 'GET', '/v1/secret/data/web', [['X-Vault-Token', 't']]);
    const good = readFileSync(policy(), 'utf8');
    const settled = async (text: string) => {
      while (!log().includes(text)) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    expect((await read())?.status).toBe(200);
    writeFileSync(policy(), good.replace('default_tier: open', 'default_tier: nope'));
    child.process.kill('SIGHUP');
    await settled('the changed policy was refused');
    expect((await read())?.status).toBe(200);
    writeFileSync(policy(), good.replace('default_tier: open', 'default_tier: forbidden'));
    child.process.kill('SIGHUP');
    await settled('policy reloaded');
    expect((await read())?.status).toBe(403);
    writeFileSync(policy(), good);
    // No signal: the change is seen by itself, and that it loosens is said.
    await settled('the new policy is less strict');
    expect((await read())?.status).toBe(200);
    child.process.kill('SIGTERM');
    expect((await child.ended).code).toBe(0);
  });

  test('says that a second process has the audit directory', async () => {
    const shared = join(dir, 'audit-shared');
    const { child } = await serving({ STEPGATE_AUDIT_DIR: shared });
    const second = await run(['serve', '--config', config(), '--policy', policy()], {
      STEPGATE_AUDIT_DIR: shared,
      STEPGATE_LISTEN_VAULT_ADDRESS: '127.0.0.1:0',
      STEPGATE_UPSTREAM_NODES: upstream.url,
    });
    expect(second.code).toBe(78);
    expect(second.stderr).toMatch(/stepgate\.yaml:\d+:\d+: audit\.dir: .*in use by another process/);
    child.process.kill('SIGTERM');
    await child.ended;
  });
});

describe('the npm script', () => {
  test('hands signals on: SIGTERM to npm drains and ends with 0', async () => {
    const [port, ops] = [await freePort(), await freePort()];
    const child = startProgram('npm', ['run', '--silent', 'stepgate', '--', 'serve', '--config', config(), '--policy', policy()], {
      PATH: process.env['PATH'] ?? '',
      HOME: process.env['HOME'] ?? dir,
      STEPGATE_LISTEN_VAULT_ADDRESS: `127.0.0.1:${port}`,
      STEPGATE_LISTEN_OPS_ADDRESS: `127.0.0.1:${ops}`,
      STEPGATE_UPSTREAM_NODES: upstream.url,
      STEPGATE_AUDIT_DIR: join(dir, 'audit-npm'),
    });
    while ((await ask(port, 'GET', '/v1/secret/data/x', [['X-Vault-Token', 't']]))?.status !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
    child.process.kill('SIGTERM');
    expect((await child.ended).code).toBe(0);
    expect(await ask(port, 'GET', '/v1/x')).toBeUndefined();
  });
});

describe('the package', () => {
  test('is built with its scripts, and runs', async () => {
    const built = await runProgram('npm', ['run', '--silent', 'build'], { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? dir });
    expect(built.stderr).toBe('');
    expect(built.code).toBe(0);
    const { stdout, code } = await runProgram(process.execPath, ['dist/cli/stepgate.js', 'policy', 'explain', 'GET', 'sys/raw/x', '--policy', policy()], {});
    expect([code, stdout]).toEqual([0, expect.stringContaining('forbidden')]);
    expect(readdirSync('dist/challenge/redis').filter((name) => name.endsWith('.lua'))).toHaveLength(7);
  });
});
