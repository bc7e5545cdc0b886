import type { ReserveRefusal } from '../challenge/store.ts';
import type { StepUp, Tier } from '../policy/policy.ts';
import { type Answer, errorAnswer } from '../vault/answer.ts';
import { serialiseApiPath } from '../vault/path.ts';
import type { IssuedChallenge } from './gate.ts';

/** Where a step-up token is not believed or its nonce cannot be used: the code that clients and the log see, and what to do. */
const REFUSALS: Readonly<Record<ReserveRefusal | 'digest', readonly [code: string, text: string]>> = {
  unknown: ['step_up_nonce_unknown', 'its nonce was not issued for this request by this caller, or has expired'],
  epoch: ['step_up_nonce_void', 'its nonce became void when the challenge store was restarted or failed over'],
  digest: ['step_up_digest', 'what this request requires has changed since the challenge'],
  expired: ['step_up_nonce_expired', 'the challenge has expired'],
  spent: ['step_up_nonce_spent', 'its nonce was used already'],
  inflight: ['step_up_nonce_inflight', 'its nonce is being used by another request'],
  indoubt: ['step_up_nonce_spent', 'its nonce was used, and how that ended is not known'],
  attempts: ['step_up_nonce_attempts', 'its nonce was tried too often'],
  mac: ['step_up_nonce_forged', 'the record of its nonce was tampered with'],
};

/** The stable code of a nonce that cannot be used. */
export function refusalCode(refusal: ReserveRefusal | 'digest'): string {
  return REFUSALS[refusal][0];
}

/** Words for a header field, from our own texts only: printable ASCII without quotes and backslashes. */
function quoted(text: string): string {
  return `"${text.replace(/[^ -~]|["\\]/g, '?')}"`;
}

/** The challenge (RFC 9470 §3, clients.md "Decisions" 1-3): 401, told in the reason phrase, one text of two lines, and `step_up`. */
export function challengeAnswer(issued: IssuedChallenge, tier: Tier, stepUp: StepUp, audience: string, now: number): Answer {
  const { challenge, nonce, input } = issued;
  const proofs = [...stepUp.proofs].map(([name, proof]) => ({
    proof: name,
    kind: 'jwt',
    issuer: proof.issuer,
    algs: proof.algorithms,
    nonce_in: proof.nonceIn,
    audience: proof.nonceIn === 'aud' ? `${proof.audience ?? audience}/c/${nonce}` : (proof.audience ?? audience),
    ...(proof.acr === undefined ? {} : { acr_values: proof.acr }),
  }));
  const until = new Date(challenge.expiresAtMs).toISOString().slice(11, 16);
  const acr = [...new Set([...stepUp.proofs.values()].flatMap((proof) => proof.acr ?? []))];
  const parameters = [
    'realm="stepgate"',
    'error="insufficient_user_authentication"',
    'error_description="a fresh step-up is required for this request"',
    ...(acr.length === 0 ? [] : [`acr_values=${quoted(acr.join(' '))}`]),
    ...(stepUp.maxAgeMs === undefined ? [] : [`max_age="${Math.floor(stepUp.maxAgeMs / 1000)}"`]),
  ];
  const who = [...stepUp.proofs.keys()].join(' or ');
  const lines = [
    `step-up required: ${readable(input.ns, input.path)} is ${tier.name}, and this ${input.op} needs a fresh step-up token from ${who} (challenge ${challenge.challengeId})`,
    `have the nonce in step_up.nonce of this answer signed by ${who}, then send the same request again with the header X-Step-Up-Token (valid until ${until} UTC)`,
  ];
  return errorAnswer(401, [lines.join('\n')], {
    now,
    reason: `step-up required: get a step-up token for challenge ${challenge.challengeId} and send this request again with X-Step-Up-Token`,
    headers: [['WWW-Authenticate', `Bearer ${parameters.join(', ')}`]],
    extra: {
      step_up: {
        challenge_id: challenge.challengeId,
        nonce,
        expires_at: new Date(challenge.expiresAtMs).toISOString(),
        digest: challenge.digest,
        tier: tier.name,
        header: 'X-Step-Up-Token',
        audience,
        required: { any_of: proofs, ...(stepUp.maxAgeMs === undefined ? {} : { max_age: Math.floor(stepUp.maxAgeMs / 1000) }) },
      },
    },
  });
}

/** The path as people write it, bounded, with everything but plain characters escaped: it goes into job logs. */
function readable(namespace: string, path: string): string {
  const at = namespace === '' ? '' : `${serialiseApiPath({ segments: namespace.split('/'), trailing: false }).slice(4)}/`;
  const text = at + path.slice(4);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** A step-up token that was refused: 401 `invalid_token` (RFC 6750 §3.1) with its own code. Says nothing of tier or rule. */
export function invalidTokenAnswer(code: string, why: string, now: number): Answer {
  return errorAnswer(401, [`step-up token refused: ${why} (${code})\nsend the request without X-Step-Up-Token to get a fresh challenge, then sign its nonce`], {
    now,
    reason: `step-up token refused (${code}): ask again without it for a fresh challenge`,
    headers: [['WWW-Authenticate', `Bearer realm="stepgate", error="invalid_token", error_description=${quoted(code)}`]],
    extra: { step_up: { error: code } },
  });
}

/** The answer to a verified token whose nonce cannot be used. */
export function refusalAnswer(refusal: ReserveRefusal | 'digest', now: number): Answer {
  const [code, text] = REFUSALS[refusal];
  return invalidTokenAnswer(code, text, now);
}

/** Too many open challenges: nothing was stored. */
export function tooManyAnswer(now: number): Answer {
  return errorAnswer(
    401,
    [
      'step-up required, but too many challenges are open (too_many_challenges)\nanswer those that are open, or wait until they expire, then send this request again',
    ],
    {
      now,
      reason: 'step-up required, but too many challenges are open: answer those, or wait until they expire',
      headers: [['WWW-Authenticate', 'Bearer realm="stepgate", error="insufficient_user_authentication"']],
      extra: { step_up: { error: 'too_many_challenges' } },
    },
  );
}

/** A tier that lets nothing through. The text is the policy's. */
export function denyAnswer(tier: Tier, reason: string, now: number): Answer {
  return errorAnswer(403, [`denied by policy (${tier.name}): ${reason}`], { now, reason: `denied by policy: ${reason}` });
}

/** Gated requests cannot be served for now. Never with `Retry-After`: clients would hammer (clients.md "Decisions" 1). */
export function unavailableAnswer(what: string, code: string, now: number): Answer {
  return errorAnswer(503, [`step-up cannot be checked: ${what} (${code}); ordinary requests are not affected`], {
    now,
    reason: `step-up cannot be checked: ${what}`,
  });
}
