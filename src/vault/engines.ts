import { CONFIGURE, isConfigure, plainOperation, REVEAL } from './operations.ts';
import type { Operation } from './request.ts';

/**
 * For each engine, the operations whose answer holds secret material: `operation path`, `+` one segment, `*` any rest.
 * Source: OpenBao's path patterns and, for engines that only Vault has, its documentation (semantics.md §4). Several
 * reveal on *update*: a gate on reads alone would miss them.
 */
const REVEALING: Readonly<Record<string, readonly string[]>> = {
  ad: ['read creds/+', 'update library/+/check-out'],
  alicloud: ['read creds/+'],
  aws: ['read creds/+', 'update creds/+', 'read sts/+', 'update sts/+', 'read static-creds/+', 'update config/rotate-root'],
  azure: ['read creds/+', 'read static-creds/+'],
  consul: ['read creds/+'],
  database: ['read creds/+', 'read static-creds/+'],
  gcp: [
    'read token/+',
    'update token/+',
    'read key/+',
    'update key/+',
    'read roleset/+/token',
    'update roleset/+/token',
    'read roleset/+/key',
    'update roleset/+/key',
    'read static-account/+/token',
    'update static-account/+/token',
    'read static-account/+/key',
    'update static-account/+/key',
    'read impersonated-account/+/token',
    'update impersonated-account/+/token',
  ],
  keymgmt: ['read key/+/export', 'update key/+/export'],
  kmip: ['update scope/+/role/+/credential/generate', 'update scope/+/role/+/credential/sign'],
  kubernetes: ['update creds/+'],
  ldap: ['read creds/+', 'read static-cred/+', 'update library/+/check-out', 'update library/*'],
  mongodbatlas: ['read creds/+', 'update creds/+'],
  nomad: ['read creds/+'],
  openldap: ['read creds/+', 'read static-cred/+', 'update library/+/check-out', 'update library/*'],
  pki: [
    'update issue/*',
    'update issuer/+/issue/*',
    'update root/generate/exported',
    'update root/rotate/exported',
    'update intermediate/generate/exported',
    'update keys/generate/exported',
    'update issuers/generate/*',
    'update sign/*',
    'update sign-verbatim/*',
    'update sign-verbatim',
    'update issuer/+/sign/*',
    'update issuer/+/sign-verbatim/*',
    'update issuer/+/sign-intermediate',
    'update issuer/+/sign-self-issued',
    'update root/sign-intermediate',
    'update root/sign-self-issued',
  ],
  rabbitmq: ['read creds/+'],
  ssh: ['update issue/*', 'update creds/*', 'update sign/*'],
  terraform: ['read creds/+', 'update creds/+'],
  totp: ['read code/+', 'update keys/+'],
  transform: ['update decode/*'],
  transit: ['read export/*', 'read backup/*', 'update decrypt/*', 'update datakey/plaintext/*', 'read byok-export/*', 'update rewrap/*'],
};

interface Pattern {
  readonly operation: Operation;
  readonly segments: readonly string[];
}

const COMPILED: ReadonlyMap<string, readonly Pattern[]> = new Map(
  Object.entries(REVEALING).map(([engine, rows]) => [
    engine,
    rows.map((row) => {
      const [operation, path] = row.split(' ') as [Operation, string];
      return { operation, segments: path.split('/') };
    }),
  ]),
);

/** Engines of which it is known what reveals; in any other everything does. */
export function isKnownEngine(type: string): boolean {
  return COMPILED.has(type);
}

/**
 * What an operation on an engine other than KV does, as bits of `OPERATION_BITS`. `relative` is the path below the mount.
 * An engine that is not in the table reveals with everything but listings and help.
 */
export function engineOperation(type: string, relative: readonly string[], operation: Operation): number {
  let bits = plainOperation(operation);
  if (isConfigure(relative, operation)) bits |= CONFIGURE;
  const patterns = COMPILED.get(type);
  if (patterns === undefined) return operation === 'list' || operation === 'scan' || operation === 'help' ? bits : bits | REVEAL;
  const asked = operation === 'head' || operation === 'options' ? 'read' : operation === 'patch' ? 'update' : operation;
  return patterns.some((pattern) => pattern.operation === asked && matches(pattern.segments, relative)) ? bits | REVEAL : bits;
}

function matches(pattern: readonly string[], segments: readonly string[]): boolean {
  for (const [i, part] of pattern.entries()) {
    if (part === '*') return segments.length >= i;
    const segment = segments[i];
    if (segment === undefined || (part !== '+' && part !== segment)) return false;
  }
  return segments.length === pattern.length;
}
