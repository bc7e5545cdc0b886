import { readFileSync } from 'node:fs';

import { Command, InvalidArgumentError } from 'commander';

import { systemHost } from '../host.ts';
import { parseSigningKey, signStepUpToken } from '../identity/sign.ts';

interface Options {
  readonly key: string;
  readonly issuer: string;
  readonly audience: string;
  readonly nonce: string;
  readonly subject: string;
  readonly lifetime: number;
  readonly acr?: string;
  readonly amr: readonly string[];
}

/** `stepgate token`: signs a step-up token with the key of a local issuer. */
export function tokenCommand(): Command {
  return new Command('token')
    .description('sign a step-up token with a local issuer key')
    .requiredOption('--key <file>', 'private JWK, as `stepgate keys generate --issuer` makes it')
    .requiredOption('--issuer <name>', 'issuer, exactly as the policy names it')
    .requiredOption('--audience <url>', "Stepgate's public_url: step_up.audience of the challenge")
    .requiredOption('--nonce <nonce>', 'step_up.nonce of the challenge', readNonce)
    .option('--subject <who>', 'who stepped up', 'local')
    .option('--lifetime <seconds>', 'how long the token is good for, at most 300', readLifetime, 300)
    .option('--acr <acr>', 'authentication context, where the policy asks for one')
    .option('--amr <methods...>', 'authentication methods, where the policy asks for them', [])
    .addHelpText(
      'after',
      `
Example:
  stepgate token --key issuer.json --issuer https://issuer.local --audience https://vault.example.com --nonce "$NONCE"
  bao kv get -header "X-Step-Up-Token=$TOKEN" secret/payments/prod/db`,
    )
    .action(async (options: Options) => {
      const key = parseSigningKey(readFileSync(options.key, 'utf8'));
      const token = await signStepUpToken(key, {
        issuer: options.issuer,
        audience: options.audience,
        subject: options.subject,
        nonce: options.nonce,
        jti: systemHost.random(16).toString('base64url'),
        nowMs: systemHost.now(),
        lifetimeS: options.lifetime,
        acr: options.acr,
        amr: options.amr,
        authTime: undefined,
      });
      process.stdout.write(`${token}\n`);
    });
}

function readNonce(text: string): string {
  if (!/^[A-Za-z0-9_-]{43}$/.test(text)) throw new InvalidArgumentError('expected 43 characters of base64url.');
  return text;
}

function readLifetime(text: string): number {
  const seconds = Number(text);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 300) throw new InvalidArgumentError('expected 1 to 300.');
  return seconds;
}
