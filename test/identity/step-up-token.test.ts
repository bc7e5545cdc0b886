import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';

import { SignJWT } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';

import { parseJwks } from '../../src/identity/jwks.ts';
import type { Proof } from '../../src/identity/proof.ts';
import { generateSigningKey, parseSigningKey } from '../../src/identity/sign.ts';
import { type StepUpExpectation, verifyStepUpToken } from '../../src/identity/step-up-token.ts';

const NOW = 1_800_000_000;
const NONCE = 'n'.repeat(43);
const URL = 'https://vault.example.com';
const ISSUER = 'https://issuer.test';

let key: KeyObject;
let kid: string;
let proof: Proof;
const other = generateKeyPairSync('ed25519').privateKey;

beforeAll(async () => {
  const made = await generateSigningKey('EdDSA');
  ({ key, kid } = parseSigningKey(JSON.stringify(made.privateJwk)));
  proof = {
    issuer: ISSUER,
    algorithms: ['EdDSA'],
    nonceIn: 'nonce',
    audience: undefined,
    acr: undefined,
    amr: undefined,
    match: {},
    typ: undefined,
    maxLifetimeMs: 900_000,
    clockSkewMs: 30_000,
    keys: parseJwks(JSON.stringify(made.jwks)),
  };
});

interface Change {
  readonly header?: Readonly<Record<string, unknown>>;
  readonly payload?: Readonly<Record<string, unknown>>;
  readonly key?: KeyObject;
}

const without = (value: Readonly<Record<string, unknown>>) => Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined));

async function token({ header, payload, key: signer }: Change = {}): Promise<string> {
  const claims = without({ iss: ISSUER, aud: URL, sub: 'alice', jti: 'j1', nonce: NONCE, iat: NOW, exp: NOW + 200, ...payload });
  return new SignJWT(claims).setProtectedHeader(without({ alg: 'EdDSA', kid, typ: 'JWT', ...header }) as { alg: string }).sign(signer ?? key);
}

/** Signs bytes that no honest library would make. */
function rawToken(header: string, payload: string): string {
  const encode = (text: string) => Buffer.from(text).toString('base64url');
  return `${encode(header)}.${encode(payload)}.${encode('x'.repeat(64))}`;
}

const expectation = (change: Partial<StepUpExpectation> = {}, proofChange: Partial<Proof> = {}): StepUpExpectation => ({
  proofs: new Map([['ci', { ...proof, ...proofChange }]]),
  audience: URL,
  maxAgeMs: undefined,
  nowMs: NOW * 1000 + 1000,
  binding: 'binding',
  ...change,
});
const codeOf = (text: string, expected = expectation()) =>
  verifyStepUpToken(text, expected).then(
    () => 'accepted',
    (error: { code: string }) => error.code,
  );

describe('verifyStepUpToken', () => {
  test('accepts a token that is in order and says what it holds', async () => {
    expect(await verifyStepUpToken(await token({ payload: { auth_time: NOW - 10, acr: 'phr', amr: ['hwk'] } }), expectation())).toMatchObject({
      proof: 'ci',
      issuer: ISSUER,
      subject: 'alice',
      nonce: NONCE,
      kid,
      acr: 'phr',
      amr: ['hwk'],
      authAgeS: 11,
    });
    expect(await codeOf(await token({ payload: { aud: [URL] } }))).toBe('accepted');
    expect(await codeOf(await token({ header: { typ: undefined } }))).toBe('accepted');
    expect(await codeOf(await token({ header: { typ: 'stepgate-stepup+jwt' } }))).toBe('accepted');
  });

  test.for([
    ['ES256', () => generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ['RS256', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
    ['PS256', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
    ['EdDSA', () => generateKeyPairSync('ed25519')],
  ] as const)('accepts %s, and refuses it where the proof does not list it', async ([alg, generate]) => {
    const pair = generate();
    const keys = parseJwks(JSON.stringify({ keys: [{ ...pair.publicKey.export({ format: 'jwk' }), kid: 'k' }] }));
    const signed = await token({ header: { alg, kid: 'k' }, key: pair.privateKey });
    expect(await codeOf(signed, expectation({}, { algorithms: [alg], keys }))).toBe('accepted');
    const others = (['ES256', 'RS256', 'PS256', 'EdDSA'] as const).filter((other) => other !== alg);
    expect(await codeOf(signed, expectation({}, { algorithms: others, keys }))).toBe('step_up_alg');
  });

  test('takes the nonce out of aud where the issuer can put it nowhere else', async () => {
    const inAud = expectation({}, { nonceIn: 'aud' });
    expect(await codeOf(await token({ payload: { aud: `${URL}/c/${NONCE}`, nonce: undefined } }), inAud)).toBe('accepted');
    expect(await codeOf(await token({ payload: { aud: `https://evil/c/${NONCE}`, nonce: undefined } }), inAud)).toBe('step_up_audience');
    expect(await codeOf(await token({ payload: { aud: URL } }), inAud)).toBe('step_up_audience');
    expect(await codeOf(await token({ payload: { aud: `${URL}/c/short`, nonce: undefined } }), inAud)).toBe('step_up_nonce_missing');
  });

  const DETAIL = { type: 'stepgate_secret_access', req: 'dg', locations: [URL] };
  test.for<[string, Change, string]>([
    ['another typ', { header: { typ: 'at+jwt' } }, 'step_up_typ'],
    ['jku', { header: { jku: 'https://evil' } }, 'step_up_header'],
    ['jwk', { header: { jwk: {} } }, 'step_up_header'],
    ['x5u', { header: { x5u: 'https://evil' } }, 'step_up_header'],
    ['x5c', { header: { x5c: [] } }, 'step_up_header'],
    ['another issuer', { payload: { iss: 'https://evil' } }, 'step_up_issuer'],
    ['an issuer with a slash more', { payload: { iss: `${ISSUER}/` } }, 'step_up_issuer'],
    ['no kid', { header: { kid: undefined } }, 'step_up_kid'],
    ['an unknown kid', { header: { kid: 'other' } }, 'step_up_kid'],
    ['a kid that is a path', { header: { kid: '../../etc/passwd' } }, 'step_up_kid'],
    ['another key', { key: other }, 'step_up_signature'],
    ['another audience', { payload: { aud: 'https://other.example.com' } }, 'step_up_audience'],
    ['two audiences', { payload: { aud: [URL, 'https://evil'] } }, 'step_up_audience'],
    ['no audience', { payload: { aud: undefined } }, 'step_up_audience'],
    ['no nonce', { payload: { nonce: undefined } }, 'step_up_nonce_missing'],
    ['a nonce that is a number', { payload: { nonce: 7 } }, 'step_up_nonce_missing'],
    ['an expired one', { payload: { iat: NOW - 300, exp: NOW - 60 } }, 'step_up_expired'],
    ['one of the future', { payload: { iat: NOW + 100, exp: NOW + 200 } }, 'step_up_not_yet_valid'],
    ['an nbf of the future', { payload: { nbf: NOW + 100 } }, 'step_up_not_yet_valid'],
    ['one that lives too long', { payload: { exp: NOW + 1000 } }, 'step_up_lifetime'],
    ['exp before iat', { payload: { iat: NOW + 20, exp: NOW + 10 } }, 'step_up_lifetime'],
    ['one of ours that lives over 300 s', { header: { typ: 'stepgate-stepup+jwt' }, payload: { exp: NOW + 301 } }, 'step_up_lifetime'],
    ['no exp', { payload: { exp: undefined } }, 'step_up_claims'],
    ['an exp that is a text', { payload: { exp: '9999999999' } }, 'step_up_claims'],
    ['half seconds', { payload: { iat: NOW + 0.5 } }, 'step_up_claims'],
    ['no sub', { payload: { sub: undefined } }, 'step_up_claims'],
    ['no jti', { payload: { jti: undefined } }, 'step_up_claims'],
    ['a long jti', { payload: { jti: 'x'.repeat(65) } }, 'step_up_claims'],
    ['auth_time after iat', { payload: { auth_time: NOW + 100 } }, 'step_up_auth_time'],
    ['a token that is tied to a key', { payload: { cnf: { jkt: 'x' } } }, 'step_up_binding'],
    ["another caller's binding", { payload: { stepgate_tb: 'other' } }, 'step_up_binding'],
    ['details of another type', { payload: { authorization_details: [{ type: 'payment', req: 'x' }] } }, 'step_up_details'],
    ['details with an unknown field', { payload: { authorization_details: [{ ...DETAIL, more: 1 }] } }, 'step_up_details'],
    ['two details', { payload: { authorization_details: [DETAIL, DETAIL] } }, 'step_up_details'],
    ['details for another place', { payload: { authorization_details: [{ ...DETAIL, locations: ['https://evil'] }] } }, 'step_up_details'],
  ])('refuses %s with %s', async ([, change, code]) => {
    expect(await codeOf(await token(change))).toBe(code);
  });

  test.for<[string, string, string]>([
    ['a huge token', 'x'.repeat(9000), 'step_up_too_large'],
    ['two parts', 'a.b', 'step_up_malformed'],
    ['five parts (JWE)', 'a.b.c.d.e', 'step_up_malformed'],
    ['padding', 'YQ==.YQ.YQ', 'step_up_malformed'],
    ['bits that decoders drop', 'YR.YQ.YQ', 'step_up_malformed'],
    ['no JSON', rawToken('{', '{}'), 'step_up_json'],
    ['an array', rawToken('[]', '{}'), 'step_up_json'],
    ['a member twice', rawToken('{"alg":"EdDSA"}', `{"iss":"evil","iss":"${ISSUER}"}`), 'step_up_json'],
    ['a member twice, escaped', rawToken('{"alg":"EdDSA"}', `{"iss":"evil","\\u0069ss":"${ISSUER}"}`), 'step_up_json'],
    ['deep nesting', rawToken('{}', '{"a":[[[[1]]]]}'), 'step_up_json'],
    ['alg none', rawToken(`{"alg":"none","kid":"k"}`, `{"iss":"${ISSUER}"}`), 'step_up_alg'],
    ['alg HS256', rawToken(`{"alg":"HS256","kid":"k"}`, `{"iss":"${ISSUER}"}`), 'step_up_alg'],
    ['alg of another key', rawToken(`{"alg":"ES256","kid":"k"}`, `{"iss":"${ISSUER}"}`), 'step_up_alg'],
    ['crit', rawToken(`{"alg":"EdDSA","crit":["b64"]}`, '{}'), 'step_up_header'],
    ['b64', rawToken(`{"alg":"EdDSA","b64":false}`, '{}'), 'step_up_header'],
  ])('refuses %s with %s', async ([, text, code]) => {
    expect(await codeOf(text)).toBe(code);
  });

  test('refuses HMAC with the public key as the secret', async () => {
    const header = Buffer.from(JSON.stringify({ alg: 'HS256', kid })).toString('base64url');
    const payload = (await token()).split('.')[1] ?? '';
    const secret = [...proof.keys.values()][0]?.key.export({ type: 'spki', format: 'pem' }) ?? '';
    const signature = createHmac('sha256', secret).update(`${header}.${payload}`).digest('base64url');
    expect(await codeOf(`${header}.${payload}.${signature}`)).toBe('step_up_alg');
  });

  test('refuses a token of which one bit of any part was changed', async () => {
    const good = await token();
    for (const at of [3, good.indexOf('.') + 5, good.length - 5]) {
      const changed = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
      expect(await codeOf(changed)).not.toBe('accepted');
    }
  });

  test('holds acr, amr, max_age, match and a narrowed typ', async () => {
    const human = { acr: ['phr'], amr: ['hwk'] };
    const good = { acr: 'phr', amr: ['hwk', 'pin'], auth_time: NOW };
    expect(await codeOf(await token({ payload: good }), expectation({}, human))).toBe('accepted');
    expect(await codeOf(await token({ payload: { ...good, acr: 'pwd' } }), expectation({}, human))).toBe('step_up_acr');
    expect(await codeOf(await token({ payload: { ...good, amr: ['pwd'] } }), expectation({}, human))).toBe('step_up_amr');
    expect(await codeOf(await token({ payload: { ...good, auth_time: undefined } }), expectation({}, human))).toBe('step_up_auth_time');
    expect(await codeOf(await token({ payload: { ...good, auth_time: NOW - 400 } }), expectation({ maxAgeMs: 300_000 }, human))).toBe('step_up_auth_time');
    const match = { match: { environment: ['production', 'staging'] } };
    expect(await codeOf(await token({ payload: { environment: 'staging' } }), expectation({}, match))).toBe('accepted');
    expect(await codeOf(await token({ payload: { environment: 'dev' } }), expectation({}, match))).toBe('step_up_match');
    expect(await codeOf(await token(), expectation({}, match))).toBe('step_up_match');
    expect(await codeOf(await token({ payload: { toString: 'x' } }), expectation({}, { match: { valueOf: ['function valueOf() { [native code] }'] } }))).toBe(
      'step_up_match',
    );
    expect(await codeOf(await token(), expectation({}, { typ: 'stepgate-stepup+jwt' }))).toBe('step_up_typ');
  });
});

describe('parseJwks', () => {
  test.for([
    ['{}', /JSON Web Key Set/],
    ['{"keys":[]}', /JSON Web Key Set/],
    ['{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}', /private or symmetric/],
    ['{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA","d":"AAAA"}]}', /private or symmetric/],
    ['{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}', /kid/],
    ['{"keys":[{"kty":"EC","crv":"secp256k1","kid":"a"}]}', /no signature key/],
  ] as const)('refuses %s', ([text, message]) => {
    expect(() => parseJwks(text)).toThrow(message);
  });

  test('refuses short RSA keys', () => {
    const jwk = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
    expect(() => parseJwks(JSON.stringify({ keys: [{ ...jwk, kid: 'a' }] }))).toThrow(/2048/);
  });
});
