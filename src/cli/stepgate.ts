#!/usr/bin/env node
import { Command, CommanderError } from 'commander';

import { VERSION } from '../main.ts';
import { demoCommand } from './demo.ts';
import { EXIT, exitCodeOf, tellError } from './exit.ts';
import { keysCommand } from './keys.ts';
import { policyCommand } from './policy.ts';
import { serveCommand } from './serve.ts';
import { tokenCommand } from './token.ts';

const program = new Command('stepgate')
  .description('Step-up authentication in front of HashiCorp Vault and OpenBao.')
  .version(VERSION)
  .addCommand(serveCommand())
  .addCommand(demoCommand())
  .addCommand(policyCommand())
  .addCommand(keysCommand())
  .addCommand(tokenCommand())
  .addHelpText(
    'after',
    `
Examples:
  stepgate demo                                        see it work, on a real server
  stepgate keys generate --out keys.json               make the keys of a deployment
  stepgate serve --config config/stepgate.yaml --policy config/policy.yaml
  stepgate policy explain GET secret/data/payments/prod/db

Exit codes: 0 done, 1 finding or failure, 64 usage, 78 configuration.`,
  );

for (const command of [program, ...program.commands, ...program.commands.flatMap((inner) => inner.commands)])
  command.exitOverride().showHelpAfterError('(add --help for usage)');

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT.usage;
  else {
    tellError(error);
    process.exitCode = exitCodeOf(error);
  }
}
