import { AuditError } from '../audit/error.ts';
import { KeyRingError } from '../challenge/key-ring.ts';
import { RedisUnfit } from '../challenge/redis/connection.ts';
import { DocumentError } from '../document.ts';
import { CodedError } from '../errors.ts';
import { SigningKeyError } from '../identity/sign.ts';
import { SetupError } from '../main.ts';

/** Exit codes (sysexits.h): usage 64, configuration 78. */
export const EXIT = { ok: 0, failure: 1, usage: 64, configuration: 78 } as const;

/** The exit code that an error ends a command with. */
export function exitCodeOf(error: unknown): number {
  const configuration = [DocumentError, SetupError, KeyRingError, SigningKeyError, RedisUnfit, AuditError].some((kind) => error instanceof kind);
  const address = ['EADDRINUSE', 'EADDRNOTAVAIL', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '');
  return configuration || address ? EXIT.configuration : EXIT.failure;
}

/** Says on standard error what went wrong, in our own words: no stack, no value. */
export function tellError(error: unknown): void {
  if (error instanceof CodedError) process.stderr.write(`stepgate: ${error.message}\n`);
  else process.stderr.write(`stepgate: ${error instanceof Error ? error.message : 'failed'}\n`);
}
