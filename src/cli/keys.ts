import { writeFileSync } from 'node:fs';

import { Command, Option } from 'commander';

import { generateKeyFile } from '../challenge/key-ring.ts';
import { systemHost } from '../host.ts';
import { generateSigningKey } from '../identity/sign.ts';

interface Options {
  readonly out: string;
  readonly issuer?: true;
  readonly alg: 'EdDSA' | 'ES256';
}

/** `stepgate keys generate`: the keys that the instances share, or those of a local issuer. */
export function keysCommand(): Command {
  const generate = new Command('generate')
    .description('make a key file; an existing file is never overwritten')
    .requiredOption('--out <file>', 'where to write it (mode 600)')
    .option('--issuer', 'make the signing key of a local issuer instead, and beside it FILE.jwks.json for the policy')
    .addOption(new Option('--alg <alg>', 'algorithm of the issuer key').choices(['EdDSA', 'ES256']).default('EdDSA'))
    .addHelpText(
      'after',
      `
Examples:
  stepgate keys generate --out keys.json                 for the key "keys" of the configuration
  stepgate keys generate --issuer --out issuer.json      for "stepgate token"; issuer.json.jwks.json goes into the policy`,
    )
    .action(async ({ out, issuer, alg }: Options) => {
      if (issuer !== true) {
        writeFileSync(out, generateKeyFile(systemHost.now(), systemHost.random), { mode: 0o600, flag: 'wx' });
        process.stdout.write(`wrote ${out}: keep it secret, and give every instance the same\n`);
        return;
      }
      const { privateJwk, jwks } = await generateSigningKey(alg);
      writeFileSync(out, `${JSON.stringify(privateJwk, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
      writeFileSync(`${out}.jwks.json`, `${JSON.stringify(jwks, null, 2)}\n`, { mode: 0o644, flag: 'wx' });
      process.stdout.write(`wrote ${out} (keep it secret) and ${out}.jwks.json (for jwks_file in the policy)\n`);
    });
  return new Command('keys').description('make keys').addCommand(generate);
}
