import { DocumentError } from '../document.ts';
import { CodedError } from '../errors.ts';
import { SigningKeyError } from '../identity/sign.ts';

/** Exit codes (sysexits.h): usage 64, configuration 78. */
export const EXIT = { ok: 0, failure: 1, usage: 64, configuration: 78 } as const;

/** The exit code that an error ends a command with. */
export function exitCodeOf(error: unknown): number {
  return error instanceof DocumentError || error instanceof SigningKeyError ? EXIT.configuration : EXIT.failure;
}

/** Says on standard error what went wrong, in our own words: no stack, no value. */
export function tellError(error: unknown): void {
  if (error instanceof CodedError) process.stderr.write(`stepgate: ${error.message}\n`);
  else process.stderr.write(`stepgate: ${error instanceof Error ? error.message : 'failed'}\n`);
}
