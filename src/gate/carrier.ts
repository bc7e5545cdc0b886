import { CodedError } from '../errors.ts';
import type { Controls } from '../vault/request.ts';

/** Two step-up tokens that differ: 400, never a choice. */
export class CarrierError extends CodedError<'step_up_ambiguous'> {}

/**
 * The step-up token of a request: `X-Step-Up-Token`, else `X-Vault-MFA: stepgate:<token>` (clients.md §4).
 * @throws {CarrierError} when there are several that differ
 */
export function carriedToken(controls: Controls): string | undefined {
  const tokens = new Set([...(controls.stepUpToken === undefined ? [] : [controls.stepUpToken]), ...controls.stepUpMfa]);
  if (tokens.size > 1) throw new CarrierError('step_up_ambiguous', 'more than one step-up token: send either X-Step-Up-Token or X-Vault-MFA: stepgate:<token>');
  return [...tokens][0];
}
