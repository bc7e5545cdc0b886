import { createRequire } from 'node:module';

import type NodeVault from 'node-vault';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { type DevServer, startVault } from '../../src/demo/dev-server.ts';
import { type Ended, runProgram } from '../support/command.ts';
import { ask, jsonOf } from '../support/raw.ts';
import { type PolicyData, type Stack, startStack } from '../support/stack.ts';

const ROOT = 'clients-root';
const policy: PolicyData = {
  version: 1,
  tiers: [{ name: 'open' }, { name: 'critical', step_up: { accept: ['ci'] } }],
  default_tier: 'open',
  unknown_mount: 'open',
  system: { admin: 'open', exits: 'open' },
  rules: [{ secret: 'secret/crit/*', tier: 'critical', operations: ['all'] }],
};

let vault: DevServer;
let stack: Stack;
let job = '';

beforeAll(async () => {
  vault = await startVault(inject('vaultProgram'), ROOT);
  const direct = (method: string, path: string, body: unknown) =>
    ask(Number(new URL(vault.url).port), method, `/v1/${path}`, [['X-Vault-Token', ROOT]], JSON.stringify(body));
  await direct('POST', 'secret/data/app/config', { data: { color: 'blue' } });
  await direct('POST', 'secret/data/crit/db', { data: { password: 'battery staple' } });
  await direct('POST', 'sys/auth/userpass', { type: 'userpass' });
  await direct('POST', 'auth/userpass/users/alice', { password: 'pw', policies: 'job' });
  await direct('PUT', 'sys/policies/acl/job', { policy: 'path "secret/*" { capabilities = ["create","read","update","delete","list","patch"] }' });
  job = (jsonOf(await direct('POST', 'auth/token/create', { policies: ['job'] })) as { auth: { client_token: string } }).auth.client_token;
  stack = await startStack({ upstream: vault.url, policy, rootToken: ROOT });
});

afterAll(async () => {
  await stack?.stop();
  await vault?.stop();
});

/** A step-up token for a request, as a helper in the job would get it. */
async function stepUpFor(method: string, target: string, body: string | null = null): Promise<string> {
  const challenge = jsonOf(await ask(stack.port, method, target, [['X-Vault-Token', job]], body)) as { step_up: { nonce: string } };
  return stack.sign(challenge.step_up.nonce);
}

describe('the bao command line', () => {
  const bao = (address: string, args: readonly string[], environment: Record<string, string> = {}): Promise<Ended> =>
    runProgram(inject('vaultProgram'), args, {
      PATH: process.env['PATH'] ?? '',
      HOME: stack.dir,
      BAO_ADDR: address,
      VAULT_ADDR: address,
      BAO_TOKEN: job,
      VAULT_TOKEN: job,
      ...environment,
    });
  /** Tables without what differs from run to run. */
  const shape = ({ code, stdout, stderr }: Ended, address: string) =>
    [
      code,
      `${stdout}${stderr}`
        .replaceAll(address, 'ADDR')
        .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
        .replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
        .replace(/(?:hv[sb]|s)\.[\w.-]{10,}/g, 'TOKEN')
        .replace(/\b[A-Za-z0-9]{22,28}\b/g, 'ID')
        .replace(
          /(?:^|\n)(creation_time|expire_time|issue_time|ttl|token_duration|wrapping_token_creation_time|version|creation_ttl|token_accessor|accessor|created_time|updated_time|current_version|oldest_version) +.*/g,
          '\n$1',
        )
        .replace(/\d+h\d+m\d+s|767h\S*/g, 'TTL')
        .replace(/ +|=+|-+/g, ' '),
    ] as const;

  test.for([
    ['kv get', ['kv', 'get', 'secret/app/config']],
    ['kv get -field', ['kv', 'get', '-field=color', 'secret/app/config']],
    ['kv get of what is not there', ['kv', 'get', 'secret/app/none']],
    ['kv put', ['kv', 'put', '-cas=0', 'secret/app/config', 'a=b']],
    ['kv list', ['kv', 'list', 'secret/app']],
    ['kv metadata get', ['kv', 'metadata', 'get', '-field=max_versions', 'secret/app/config']],
    ['kv delete', ['kv', 'delete', 'secret/app/never']],
    ['read', ['read', 'secret/data/app/config']],
    ['write', ['write', 'secret/data/app/config', '@/dev/null']],
    ['list', ['list', 'secret/metadata/app']],
    ['login', ['login', '-no-store', '-method=userpass', 'username=alice', 'password=pw']],
    ['login with a wrong password', ['login', '-no-store', '-method=userpass', 'username=alice', 'password=no']],
    ['token lookup', ['token', 'lookup']],
    ['status', ['status', '-format=json']],
  ] as const)('%s is the same as without Stepgate', async ([, args]) => {
    const [through, without] = [await bao(stack.url, args), await bao(vault.url, args)];
    expect(shape(through, stack.url)).toEqual(shape(without, vault.url));
  });

  test('unwraps through Stepgate what it wrapped through Stepgate', async () => {
    const wrapped = await bao(stack.url, ['read', '-wrap-ttl=60s', '-field=wrapping_token', 'secret/data/app/config']);
    const unwrapped = await bao(stack.url, ['unwrap', '-format=json', wrapped.stdout.trim()]);
    expect(unwrapped.stdout).toContain('blue');
  });

  test('shows the whole refusal of a critical secret, and reads it with a step-up by header or variable', async () => {
    const refused = await bao(stack.url, ['kv', 'get', 'secret/crit/db']);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/step-up required: secret\/data\/crit\/db is critical[\s\S]*X-Step-Up-Token/);
    const byHeader = await bao(stack.url, [
      'kv',
      'get',
      '-field=password',
      `-header=X-Step-Up-Token=${await stepUpFor('GET', '/v1/secret/data/crit/db')}`,
      'secret/crit/db',
    ]);
    expect([byHeader.code, byHeader.stdout.trim()]).toEqual([0, 'battery staple']);
    const byVariable = await bao(stack.url, ['kv', 'get', '-field=password', 'secret/crit/db'], {
      BAO_MFA: `stepgate:${await stepUpFor('GET', '/v1/secret/data/crit/db')}`,
      VAULT_MFA: '',
    });
    expect([byVariable.code, byVariable.stdout.trim()]).toEqual([0, 'battery staple']);
  });

  test.for([
    ['list', 'LIST', '/v1/secret/metadata/crit', ['kv', 'list', 'secret/crit'], 'db'],
    ['metadata', 'GET', '/v1/secret/metadata/crit/db', ['kv', 'metadata', 'get', 'secret/crit/db'], 'max_versions'],
    ['an old version', 'GET', '/v1/secret/data/crit/db?version=1', ['kv', 'get', '-version=1', 'secret/crit/db'], 'battery staple'],
    ['a write', 'PUT', '/v1/secret/data/crit/new', ['kv', 'put', 'secret/crit/new', 'a=b'], 'created_time'],
    ['a delete', 'DELETE', '/v1/secret/data/crit/new', ['kv', 'delete', 'secret/crit/new'], 'Success'],
  ] as const)('passes %s with a step-up', async ([, method, target, args, shows]) => {
    expect((await bao(stack.url, args)).code).toBe(2);
    const body = method === 'PUT' ? '{"data":{"a":"b"},"options":{}}' : null;
    const [command = '', sub = '', ...rest] = args;
    const words = command === 'kv' && sub === 'metadata' ? [command, sub, rest[0] ?? ''] : [command, sub];
    const passed = await bao(stack.url, [...words, `-header=X-Step-Up-Token=${await stepUpFor(method, target, body)}`, ...args.slice(words.length)]);
    expect(`${passed.stdout}${passed.stderr}`).toContain(shows);
    expect(passed.code).toBe(0);
  });
});

describe('hvac', () => {
  const python = (script: string, ...args: string[]): Promise<Ended> =>
    runProgram(
      'python3',
      ['-c', `import hvac, sys\nc = hvac.Client(url=sys.argv[1], token=sys.argv[2])\nkv = c.secrets.kv.v2\n${script}`, stack.url, job, ...args],
      { PATH: process.env['PATH'] ?? '', HOME: stack.dir, PYTHONPATH: inject('hvac') },
    );

  test.for([
    ['reads', "print(kv.read_secret_version(path='app/config', raise_on_deleted_version=True)['data']['data'])", "{'color': 'blue'}"],
    ['lists', "print(kv.list_secrets(path='app')['data']['keys'])", "['config'"],
    ['writes', "print(kv.create_or_update_secret(path='app/hvac', secret={'a': 'b'})['data']['version'])", '1'],
    ['patches', "print(kv.patch(path='app/hvac', secret={'c': 'd'})['data']['version'])", '2'],
    ['reads metadata', "print(kv.read_secret_metadata(path='app/hvac')['data']['current_version'])", '2'],
    ['deletes', "print(kv.delete_metadata_and_all_versions(path='app/hvac').status_code)", '204'],
    ['logs in', "print(c.auth.userpass.login(username='alice', password='pw')['auth']['policies'])", "'job'"],
    ['looks its token up', "print(c.lookup_token()['data']['policies'], c.is_authenticated())", 'True'],
    [
      'is told of a missing secret',
      "try:\n  kv.read_secret_version(path='app/none', raise_on_deleted_version=True)\nexcept hvac.exceptions.InvalidPath:\n  print('InvalidPath')",
      'InvalidPath',
    ],
    [
      'wraps and unwraps',
      "t = c.adapter.get('/v1/secret/data/app/config', wrap_ttl='60s')['wrap_info']['token']\nprint(c.sys.unwrap(t)['data']['data'])",
      'blue',
    ],
  ] as const)('%s', async ([, script, shows]) => {
    const { stdout, stderr } = await python(script);
    expect(`${stdout}${stderr}`).toContain(shows);
  });

  test('raises Unauthorized with our text, and reads and lists with a step-up', async () => {
    const refused = await python("kv.read_secret_version(path='crit/db', raise_on_deleted_version=True)");
    expect(refused.stderr).toMatch(/hvac\.exceptions\.Unauthorized: step-up required/);
    const withHeader = (script: string, token: string) => python(`c.session.headers['X-Step-Up-Token'] = sys.argv[3]\n${script}`, token);
    const read = await withHeader(
      "print(kv.read_secret_version(path='crit/db', raise_on_deleted_version=True)['data']['data'])",
      await stepUpFor('GET', '/v1/secret/data/crit/db'),
    );
    expect(read.stdout).toContain('battery staple');
    const listed = await withHeader("print(kv.list_secrets(path='crit')['data']['keys'])", await stepUpFor('LIST', '/v1/secret/metadata/crit'));
    expect(listed.stdout).toContain('db');
  });
});

describe('node-vault', () => {
  const client = (options: object = {}): NodeVault.client =>
    (createRequire(import.meta.url)('node-vault') as (options: object) => NodeVault.client)({ endpoint: stack.url, token: job, ...options });

  test('reads, lists, writes, deletes, logs in, looks up and wraps', async () => {
    const vaultClient = client();
    expect((await vaultClient.read('secret/data/app/config')).data.data).toEqual({ color: 'blue' });
    expect((await vaultClient.list('secret/metadata/app')).data.keys).toContain('config');
    await vaultClient.write('secret/data/app/node', { data: { a: 'b' } });
    await vaultClient.delete('secret/metadata/app/node');
    expect((await vaultClient.tokenLookupSelf()).data.policies).toContain('job');
    expect((await client().userpassLogin({ username: 'alice', password: 'pw' })).auth.policies).toContain('job');
    const wrapped = (await client({ requestOptions: { headers: { 'X-Vault-Wrap-TTL': '60s' } } }).read('secret/data/app/config')) as {
      wrap_info: { token: string };
    };
    expect((await vaultClient.unwrap({ token: wrapped.wrap_info.token })).data.data).toEqual({ color: 'blue' });
    await expect(vaultClient.read('secret/data/app/none')).rejects.toThrow('Status 404');
  });

  test('throws with our text, and reads and lists with a step-up', async () => {
    await expect(client().read('secret/data/crit/db')).rejects.toThrow(/step-up required/);
    const withToken = async (method: string, target: string) => client({ requestOptions: { headers: { 'X-Step-Up-Token': await stepUpFor(method, target) } } });
    expect((await (await withToken('GET', '/v1/secret/data/crit/db')).read('secret/data/crit/db')).data.data).toEqual({ password: 'battery staple' });
    expect((await (await withToken('LIST', '/v1/secret/metadata/crit')).list('secret/metadata/crit')).data.keys).toContain('db');
  });
});
