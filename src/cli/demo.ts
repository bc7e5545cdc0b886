import { join } from 'node:path';

import { Command } from 'commander';

import { freePort } from '../demo/dev-server.ts';
import { DEMO_ISSUER, setScene } from '../demo/scene.ts';
import { tellStory } from '../demo/story.ts';
import { findTool, VAULT } from '../demo/tools.ts';
import { systemHost } from '../host.ts';
import { EXIT } from './exit.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

interface Options {
  readonly redis?: string;
  readonly keep?: true;
}

/** `stepgate demo`: the whole story on a real server. */
export function demoCommand(): Command {
  return new Command('demo')
    .description('see it work: a real dev-mode server, seeded secrets, the real client')
    .option('--redis <url>', 'keep challenges in this Redis or Valkey instead of in memory')
    .option('--keep', 'leave it running and print what to type')
    .addHelpText('after', '\nExamples:\n  stepgate demo\n  stepgate demo --keep\n  stepgate demo --redis redis://127.0.0.1:6379/0')
    .action(async (options: Options) => {
      const say = (text: string): void => void process.stdout.write(`${text}\n`);
      const interrupted = (): never => process.exit(EXIT.failure);
      for (const signal of SIGNALS) process.once(signal, interrupted);
      const program = await findTool(VAULT, join(process.cwd(), '.tools'), say);
      say('starting a real server in dev mode, an issuer, and Stepgate in front …');
      const scene = await setScene({ vaultProgram: program, port: await freePort(), redis: options.redis, host: systemHost });
      try {
        say(`server ${scene.vault.url}, Stepgate ${scene.address}, challenges in ${options.redis ?? 'memory'}`);
        await tellStory(scene, program, say);
        say('\nThe demo went as it must: 1 ordinary read and 1 stepped-up read passed; a bare read, a replay, a substitution and a trick were refused.');
        for (const signal of SIGNALS) process.off(signal, interrupted);
        if (options.keep === true) await keep(program, scene, say);
      } finally {
        await scene.stop();
      }
    });
}

async function keep(program: string, scene: Awaited<ReturnType<typeof setScene>>, say: (text: string) => void): Promise<void> {
  say(`
It stays up until Ctrl-C. In another terminal:

  export VAULT_ADDR=${scene.address} BAO_ADDR=${scene.address} VAULT_TOKEN=${scene.jobs[0]} BAO_TOKEN=${scene.jobs[0]}
  ${program} kv get secret/web/config
  ${program} kv get secret/payments/prod/db
  NONCE=$(curl -s -H "X-Vault-Token: $VAULT_TOKEN" $VAULT_ADDR/v1/secret/data/payments/prod/db | sed 's/.*"nonce":"\\([^"]*\\)".*/\\1/')
  TOKEN=$(npm run --silent stepgate -- token --key ${join(scene.dir, 'issuer.json')} --issuer ${DEMO_ISSUER} --audience $VAULT_ADDR --nonce "$NONCE")
  ${program} kv get -header="X-Step-Up-Token=$TOKEN" secret/payments/prod/db
  tail -f ${join(scene.dir, 'audit')}/*.jsonl`);
  await new Promise<void>((resolve) => {
    for (const signal of SIGNALS) process.once(signal, () => resolve());
  });
}
