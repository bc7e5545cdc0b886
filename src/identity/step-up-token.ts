import { createHash } from 'node:crypto';

import { compactVerify } from 'jose';

import { equalTexts } from '../constant-time.ts';
import { CodedError } from '../errors.ts';
import { readStrictJson } from './json.ts';
import type { Algorithm, Proof } from './proof.ts';

/** Why a step-up token is not believed; each check of security.md §1.3 has its own code. */
export type StepUpErrorCode =
  | 'step_up_too_large'
  | 'step_up_malformed'
  | 'step_up_json'
  | 'step_up_header'
  | 'step_up_typ'
  | 'step_up_issuer'
  | 'step_up_alg'
  | 'step_up_kid'
  | 'step_up_signature'
  | 'step_up_claims'
  | 'step_up_audience'
  | 'step_up_expired'
  | 'step_up_not_yet_valid'
  | 'step_up_lifetime'
  | 'step_up_too_old'
  | 'step_up_acr'
  | 'step_up_amr'
  | 'step_up_auth_time'
  | 'step_up_match'
  | 'step_up_nonce_missing'
  | 'step_up_binding'
  | 'step_up_details';

/** A step-up token that was refused. The message says what was expected, never what the token held. */
export class StepUpError extends CodedError<StepUpErrorCode> {
  constructor(code: StepUpErrorCode, message: string, cause?: unknown) {
    super(code, message, { cause });
  }
}

/** What a verified step-up token says. */
export interface StepUp {
  /** Name of the proof in the policy. */
  readonly proof: string;
  readonly issuer: string;
  readonly subject: string;
  readonly kid: string;
  readonly nonce: string;
  /** Hex SHA-256 of the token's `jti`. */
  readonly jtiSha256: string;
  readonly acr: string | undefined;
  readonly amr: readonly string[];
  /** Seconds since the authentication that it tells of. */
  readonly authAgeS: number;
  /** For `authorization_details`: the request digest that it names; checked by the gate against its own. */
  readonly digest: string | undefined;
}

/** What a step-up token is held against: whose tokens count, for whom, and how fresh. Times in milliseconds. */
export interface StepUpExpectation {
  /** By name: those that the tier accepts. */
  readonly proofs: ReadonlyMap<string, Proof>;
  /** Our public URL. */
  readonly audience: string;
  readonly maxAgeMs: number | undefined;
  readonly nowMs: number;
  /** The binding of the caller's token (base64url), for tokens that name it as `stepgate_tb`. */
  readonly binding: string;
}

/** `typ` of step-up tokens that are made for us (RFC 8725 §3.11). */
export const STEP_UP_TYP = 'stepgate-stepup+jwt';

const MAX_TOKEN_CHARS = 8192;
const MAX_DEPTH = 4;
const KID = /^[A-Za-z0-9._~=-]{1,128}$/;
const NONCE = /^[A-Za-z0-9_-]{43}$/;
/** Header parameters that would let a token bring its own key, or change how it is read. */
const FORBIDDEN_HEADER = ['jku', 'jwk', 'x5u', 'x5c', 'b64', 'crit', 'zip', 'enc'];
const OWN_SKEW_MS = 5_000;
const OWN_LIFETIME_MS = 300_000;

type Json = Readonly<Record<string, unknown>>;

/**
 * Verifies a step-up token: every check of security.md §1.3, the cheap ones first, none that costs network.
 * What the token holds is the sender's word until its signature is verified.
 * @throws {StepUpError}
 */
export async function verifyStepUpToken(token: string, expected: StepUpExpectation): Promise<StepUp> {
  const { header, payload } = parseToken(token);
  const candidates = [...expected.proofs].filter(([, proof]) => proof.issuer === payload['iss']);
  if (candidates.length === 0) throw new StepUpError('step_up_issuer', 'the token is from an issuer that this tier does not accept');
  let refusal: unknown;
  for (const [name, proof] of candidates) {
    try {
      return await verifyAgainst(token, header, payload, name, proof, expected);
    } catch (error) {
      if (!(error instanceof StepUpError)) throw error;
      refusal = error;
    }
  }
  throw refusal;
}

function parseToken(token: string): { header: Json; payload: Json } {
  if (token.length > MAX_TOKEN_CHARS) throw new StepUpError('step_up_too_large', `the token is longer than ${MAX_TOKEN_CHARS} characters`);
  const parts = token.split('.');
  if (parts.length !== 3 || !parts.every(isBase64url)) throw new StepUpError('step_up_malformed', 'expected a signed JWT: three base64url parts');
  const header = parseJson(parts[0] as string, 'header');
  for (const name of FORBIDDEN_HEADER) if (name in header) throw new StepUpError('step_up_header', `header parameter \`${name}\` is not allowed`);
  const { typ } = header;
  if (typ !== undefined && typ !== 'JWT' && typ !== STEP_UP_TYP) throw new StepUpError('step_up_typ', `expected typ JWT or ${STEP_UP_TYP}`);
  return { header, payload: parseJson(parts[1] as string, 'payload') };
}

/** Strictly: no padding, no other alphabet, no bits that decoders would drop (RFC 7515 §2). */
function isBase64url(part: string): boolean {
  return /^[A-Za-z0-9_-]+$/.test(part) && Buffer.from(part, 'base64url').toString('base64url') === part;
}

function parseJson(part: string, what: string): Json {
  const bytes = Buffer.from(part, 'base64url');
  const text = bytes.toString('utf8');
  const read = readStrictJson(text, MAX_DEPTH);
  if ('fault' in read) {
    const why =
      read.fault === 'duplicate_member' ? 'a member is there twice' : read.fault === 'too_deep' ? `it is nested deeper than ${MAX_DEPTH}` : 'it is not JSON';
    throw new StepUpError('step_up_json', `the token's ${what} cannot be read: ${why}`);
  }
  if (typeof read.value !== 'object' || read.value === null || Array.isArray(read.value))
    throw new StepUpError('step_up_json', `the token's ${what} is not an object`);
  return read.value as Json;
}

async function verifyAgainst(token: string, header: Json, payload: Json, name: string, proof: Proof, expected: StepUpExpectation): Promise<StepUp> {
  if (proof.typ !== undefined && header['typ'] !== proof.typ) throw new StepUpError('step_up_typ', `expected typ ${proof.typ}`);
  const kid = await verifySignature(token, header, proof);
  const nonce = checkAudience(payload, proof, expected.audience);
  const own = header['typ'] === STEP_UP_TYP;
  const issuedAtMs = checkTimes(payload, proof, expected.nowMs, own);
  const authAgeS = checkAuthentication(payload, proof, expected, issuedAtMs, own);
  checkBinding(payload, expected.binding);
  const digest = readDigest(payload, expected.audience);
  for (const [claim, allowed] of Object.entries(proof.match)) {
    const value = payload[claim];
    if (!Object.hasOwn(payload, claim) || typeof value === 'object' || !allowed.includes(String(value)))
      throw new StepUpError('step_up_match', `claim \`${claim}\` is not one that the policy accepts`);
  }
  const { sub, jti } = payload;
  if (typeof sub !== 'string' || sub === '' || sub.length > 512) throw new StepUpError('step_up_claims', 'expected a `sub` of at most 512 characters');
  if (typeof jti !== 'string' || jti === '' || jti.length > 64) throw new StepUpError('step_up_claims', 'expected a `jti` of at most 64 characters');
  return {
    proof: name,
    issuer: proof.issuer,
    subject: sub,
    kid,
    nonce,
    jtiSha256: createHash('sha256').update(jti).digest('hex'),
    acr: typeof payload['acr'] === 'string' ? payload['acr'] : undefined,
    amr: Array.isArray(payload['amr']) ? payload['amr'].filter((value) => typeof value === 'string') : [],
    authAgeS,
    digest,
  };
}

async function verifySignature(token: string, header: Json, proof: Proof): Promise<string> {
  const alg = proof.algorithms.find((algorithm: Algorithm) => algorithm === header['alg']);
  if (alg === undefined) throw new StepUpError('step_up_alg', `expected alg ${proof.algorithms.join(' or ')}`);
  const { kid } = header;
  if (typeof kid !== 'string' || !KID.test(kid)) throw new StepUpError('step_up_kid', 'expected a `kid` of at most 128 letters, digits and ._~=-');
  const key = proof.keys.get(kid);
  if (key === undefined) throw new StepUpError('step_up_kid', "the token's `kid` is none of the issuer's keys");
  if (!key.algorithms.includes(alg)) throw new StepUpError('step_up_alg', "the token's alg does not fit its key");
  try {
    await compactVerify(token, key.key, { algorithms: [alg] });
  } catch (cause) {
    throw new StepUpError('step_up_signature', "the token's signature is not valid", cause);
  }
  return kid;
}

/** Checks `aud` (one text, RFC 8725 §3.9) and takes the nonce from where this issuer puts it. */
function checkAudience(payload: Json, proof: Proof, url: string): string {
  const { aud } = payload;
  const audience = Array.isArray(aud) && aud.length === 1 ? aud[0] : aud;
  if (typeof audience !== 'string') throw new StepUpError('step_up_audience', 'expected one audience');
  if (proof.nonceIn === 'nonce') {
    if (audience !== (proof.audience ?? url)) throw new StepUpError('step_up_audience', `expected the audience ${proof.audience ?? url}`);
    return checkNonce(payload['nonce'], '`nonce`');
  }
  const prefix = [`${proof.audience ?? url}/c/`, 'stepgate:'].find((start) => audience.startsWith(start));
  if (prefix === undefined) throw new StepUpError('step_up_audience', `expected the audience ${proof.audience ?? url}/c/<nonce>`);
  return checkNonce(audience.slice(prefix.length), 'the nonce in `aud`');
}

function checkNonce(nonce: unknown, where: string): string {
  if (typeof nonce !== 'string' || !NONCE.test(nonce))
    throw new StepUpError('step_up_nonce_missing', `expected ${where} to be the nonce of a challenge: 43 characters, base64url`);
  return nonce;
}

/** Checks `exp`, `iat` and `nbf` and returns `iat` in milliseconds. */
function checkTimes(payload: Json, proof: Proof, nowMs: number, own: boolean): number {
  const skew = own ? Math.min(OWN_SKEW_MS, proof.clockSkewMs) : proof.clockSkewMs;
  const lifetime = own ? Math.min(OWN_LIFETIME_MS, proof.maxLifetimeMs) : proof.maxLifetimeMs;
  const exp = numericDate(payload, 'exp');
  const iat = numericDate(payload, 'iat');
  if (nowMs > exp + skew) throw new StepUpError('step_up_expired', 'the token has expired: get a fresh one');
  if (iat > nowMs + skew) throw new StepUpError('step_up_not_yet_valid', 'the token is from the future: check the clocks');
  if ('nbf' in payload && numericDate(payload, 'nbf') > nowMs + skew)
    throw new StepUpError('step_up_not_yet_valid', 'the token is not valid yet: check the clocks');
  if (exp <= iat || exp - iat > lifetime) throw new StepUpError('step_up_lifetime', `expected a token that lives at most ${lifetime / 1000} s`);
  if (nowMs - iat > lifetime + skew) throw new StepUpError('step_up_too_old', 'the token is too old: get a fresh one');
  return iat;
}

function numericDate(payload: Json, name: string): number {
  const value = payload[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > 1e11)
    throw new StepUpError('step_up_claims', `expected \`${name}\` in whole seconds`);
  return value * 1000;
}

/** Checks `acr`, `amr` and how fresh the authentication is (RFC 9470 §3); returns its age in seconds. */
function checkAuthentication(payload: Json, proof: Proof, expected: StepUpExpectation, issuedAtMs: number, own: boolean): number {
  const { acr, amr } = payload;
  if (proof.acr !== undefined && (typeof acr !== 'string' || !proof.acr.includes(acr)))
    throw new StepUpError('step_up_acr', `expected acr ${proof.acr.join(' or ')}`);
  if (proof.amr?.some((method) => !Array.isArray(amr) || !amr.includes(method)))
    throw new StepUpError('step_up_amr', `expected amr with ${proof.amr.join(', ')}`);
  const skew = own ? Math.min(OWN_SKEW_MS, proof.clockSkewMs) : proof.clockSkewMs;
  // Where a person must have authenticated, the token says when; a CI system's token is its own authentication.
  const human = proof.acr !== undefined || proof.amr !== undefined;
  if (human && !('auth_time' in payload)) throw new StepUpError('step_up_auth_time', 'expected `auth_time`');
  const at = 'auth_time' in payload ? numericDate(payload, 'auth_time') : issuedAtMs;
  if (at > issuedAtMs + skew) throw new StepUpError('step_up_auth_time', '`auth_time` is after `iat`');
  const age = expected.nowMs - at;
  if (expected.maxAgeMs !== undefined && age > expected.maxAgeMs + skew)
    throw new StepUpError('step_up_auth_time', `expected an authentication of the last ${expected.maxAgeMs / 1000} s: sign in again`);
  return Math.max(0, Math.round(age / 1000));
}

function checkBinding(payload: Json, binding: string): void {
  // A token that its issuer tied to a key or certificate must not be taken without proof of that (RFC 7800 §3).
  if ('cnf' in payload) throw new StepUpError('step_up_binding', 'sender-constrained tokens (`cnf`) are not available in this version');
  if (!('stepgate_tb' in payload)) return;
  const claimed = payload['stepgate_tb'];
  if (typeof claimed !== 'string' || !equalTexts(claimed, binding)) throw new StepUpError('step_up_binding', 'the token is bound to another caller');
}

const DETAIL_FIELDS = new Set(['type', 'locations', 'actions', 'identifier', 'datatypes', 'req']);

/** `authorization_details` (RFC 9396): where it stands it must be one object of our type, with nothing that we do not know. */
function readDigest(payload: Json, audience: string): string | undefined {
  if (!('authorization_details' in payload)) return undefined;
  const details = payload['authorization_details'];
  const detail: unknown = Array.isArray(details) && details.length === 1 ? details[0] : undefined;
  if (typeof detail !== 'object' || detail === null || !Object.keys(detail).every((key) => DETAIL_FIELDS.has(key)))
    throw new StepUpError('step_up_details', 'expected one authorization detail of type stepgate_secret_access');
  const { type, req, locations } = detail as Json;
  if (type !== 'stepgate_secret_access' || typeof req !== 'string')
    throw new StepUpError('step_up_details', 'expected one authorization detail of type stepgate_secret_access, with req');
  if (locations !== undefined && !(Array.isArray(locations) && locations.length === 1 && locations[0] === audience))
    throw new StepUpError('step_up_details', `expected the location ${audience}`);
  return req;
}
