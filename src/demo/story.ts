import { spawn } from 'node:child_process';

import { CodedError } from '../errors.ts';
import type { Scene } from './scene.ts';

/** A step of the story that did not go as it must. */
export class StoryError extends CodedError<'demo_failed'> {}

interface Ran {
  readonly code: number | null;
  readonly text: string;
}

interface Step {
  readonly title: string;
  readonly play: () => Promise<Ran>;
  readonly succeeds: boolean;
  /** What the output must show. */
  readonly shows: RegExp;
}

const ORDINARY = 'secret/web/config';
const CRITICAL = 'secret/payments/prod/db';

/** Plays the demo with the real command line as the client, and tells it. @throws {StoryError} at the first thing that goes wrong */
export async function tellStory(scene: Scene, program: string, say: (text: string) => void): Promise<void> {
  const client = (job: string, ...args: string[]) => bao(scene, program, job, args, say);
  const [jobA, jobB] = scene.jobs;
  let token = '';
  const steps: Step[] = [
    { title: 'An ordinary secret: the job reads it as ever.', play: () => client(jobA, 'kv', 'get', ORDINARY), succeeds: true, shows: /dark/ },
    {
      title: 'A critical secret: refused, and the job log says how to go on.',
      play: () => client(jobA, 'kv', 'get', CRITICAL),
      succeeds: false,
      shows: /step-up required/,
    },
    {
      title: 'With a fresh step-up token, signed for the nonce of that challenge: it passes.',
      play: async () => {
        token = await scene.sign(await nonceOf(scene, jobA));
        say('  (the demo issuer signs the nonce; in real life your identity provider or CI system does)');
        return client(jobA, 'kv', 'get', `-header=X-Step-Up-Token=${token}`, CRITICAL);
      },
      succeeds: true,
      shows: /correct horse battery staple/,
    },
    {
      title: 'The same token again: refused, its nonce is spent.',
      play: () => client(jobA, 'kv', 'get', `-header=X-Step-Up-Token=${token}`, CRITICAL),
      succeeds: false,
      shows: /step_up_nonce_spent/,
    },
    {
      title: 'Another job with a token that was made for the first one: refused.',
      play: async () => {
        const foreign = await scene.sign(await nonceOf(scene, jobA));
        return client(jobB, 'kv', 'get', `-header=X-Step-Up-Token=${foreign}`, CRITICAL);
      },
      succeeds: false,
      shows: /step_up_nonce_unknown/,
    },
    {
      title: 'A spelling that other proxies let slip (..%2f): refused.',
      play: () => rawGet(scene, jobA, '/v1/secret/data/web/..%2fpayments/prod/db', say),
      succeeds: false,
      shows: /relative paths not supported/,
    },
  ];
  for (const [i, step] of steps.entries()) {
    say(`\n${i + 1}. ${step.title}`);
    const { code, text } = await step.play();
    say(indent(text));
    const ok = (code === 0) === step.succeeds && step.shows.test(text);
    if (!ok)
      throw new StoryError(
        'demo_failed',
        `step ${i + 1} did not go as it must: expected ${step.succeeds ? 'success' : 'a refusal'} that shows ${step.shows.source}`,
      );
    say(step.succeeds ? '  => passed' : '  => refused');
  }
  say('\nWhat the audit log says of all this (each line holds the hash of the one before it):');
  for (const line of scene.audit()) say(indent(summary(line)));
}

/** Runs the real client against the proxy. */
function bao(scene: Scene, program: string, job: string, args: readonly string[], say: (text: string) => void): Promise<Ran> {
  say(`  $ bao ${args.map((arg) => (arg.length > 80 ? `${arg.slice(0, 40)}…` : arg)).join(' ')}`);
  return new Promise((resolve, reject) => {
    const environment = {
      PATH: process.env['PATH'],
      HOME: scene.dir,
      LANG: 'C',
      VAULT_ADDR: scene.address,
      BAO_ADDR: scene.address,
      VAULT_TOKEN: job,
      BAO_TOKEN: job,
    };
    const child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    const take = (data: Buffer): void => {
      text += data.toString();
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, text }));
  });
}

async function rawGet(scene: Scene, job: string, target: string, say: (text: string) => void): Promise<Ran> {
  say(`  $ curl -H "X-Vault-Token: …" $VAULT_ADDR${target}`);
  const answer = await fetch(scene.address + target, { headers: { 'X-Vault-Token': job } });
  return { code: answer.ok ? 0 : 22, text: `HTTP ${answer.status} ${await answer.text()}` };
}

/** What a helper in the job, or the identity provider, takes out of the challenge. */
async function nonceOf(scene: Scene, job: string): Promise<string> {
  const answer = await fetch(`${scene.address}/v1/secret/data/payments/prod/db`, { headers: { 'X-Vault-Token': job } });
  const body = (await answer.json()) as { step_up?: { nonce?: string } };
  if (answer.status !== 401 || body.step_up?.nonce === undefined)
    throw new StoryError('demo_failed', `expected a challenge, the proxy answered ${answer.status}`);
  return body.step_up.nonce;
}

function summary(line: string): string {
  const entry = JSON.parse(line) as Readonly<Record<string, unknown>> & { vault?: { op: string; path: string } };
  const shown = ['decision', 'reason_code', 'tier', 'why', 'commit', 'result', 'status']
    .filter((key) => entry[key] !== undefined && entry[key] !== null)
    .map((key) => `${key}=${String(entry[key])}`);
  const what = entry.vault === undefined ? '' : `${entry.vault.op} ${entry.vault.path} `;
  return `${String(entry['seq']).padStart(3)} ${String(entry['type']).padEnd(8)} ${String(entry['request_id'] ?? '')
    .slice(-3)
    .padEnd(3)} ${what}${shown.join(' ')}`;
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `  | ${line}`)
    .join('\n');
}
