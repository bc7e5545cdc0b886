import type { Operation } from './request.ts';

/** What a path of the server itself is: harmless, administration, or a way out for secrets (design.md §4). */
export type SystemClass = 'pass' | 'admin' | 'exit';

const READING: readonly Operation[] = ['read', 'list', 'scan', 'head', 'options', 'help'];

/** Below `sys/`: `+` one segment, `*` any rest (also none). The first row that matches holds; what no row names is an exit. */
const SYSTEM: readonly (readonly [path: string, reading: SystemClass, writing: SystemClass])[] = [
  ['health', 'pass', 'pass'],
  ['seal-status', 'pass', 'admin'],
  ['leader', 'pass', 'admin'],
  ['init', 'pass', 'exit'],
  ['internal/ui/mounts/*', 'pass', 'exit'],
  ['internal/ui/namespaces', 'pass', 'exit'],
  ['internal/ui/resultant-acl', 'pass', 'exit'],
  ['internal/ui/feature-flags', 'pass', 'exit'],
  ['internal/specs/openapi', 'pass', 'exit'],
  ['capabilities-self', 'pass', 'pass'],
  ['wrapping/+', 'pass', 'pass'],
  ['control-group/*', 'pass', 'pass'],
  ['leases/lookup', 'pass', 'pass'],
  ['leases/lookup/*', 'admin', 'admin'],
  ['leases/renew', 'pass', 'pass'],
  ['leases/renew/*', 'pass', 'pass'],
  ['leases/revoke', 'pass', 'pass'],
  ['leases/revoke/*', 'pass', 'pass'],
  ['renew', 'pass', 'pass'],
  ['renew/*', 'pass', 'pass'],
  ['revoke', 'pass', 'pass'],
  ['revoke/*', 'pass', 'pass'],
  ['tools/*', 'pass', 'pass'],
  ['policies/password/+/generate', 'pass', 'admin'],
  ['mfa/validate', 'pass', 'pass'],
  ['mounts', 'pass', 'admin'],
  ['auth', 'pass', 'admin'],
  ['namespaces', 'pass', 'admin'],
  ['namespaces/+', 'pass', 'admin'],
  ['namespaces/*', 'admin', 'admin'],
  ['mounts/*', 'admin', 'admin'],
  ['auth/*', 'admin', 'admin'],
  ['capabilities', 'admin', 'admin'],
  ['capabilities-accessor', 'admin', 'admin'],
  ['policies/*', 'admin', 'admin'],
  ['policy/*', 'admin', 'admin'],
  ['plugins/*', 'admin', 'admin'],
  ['quotas/*', 'admin', 'admin'],
  ['config/cors', 'admin', 'admin'],
  ['config/ui/*', 'admin', 'admin'],
  ['config/group-policy-application', 'admin', 'admin'],
  ['leases/*', 'admin', 'admin'],
  ['revoke-prefix/*', 'admin', 'admin'],
  ['revoke-force/*', 'admin', 'admin'],
  ['internal/counters/*', 'admin', 'admin'],
  ['locked-users/*', 'admin', 'admin'],
  ['license/*', 'admin', 'admin'],
  ['version-history', 'admin', 'exit'],
  ['ha-status', 'admin', 'exit'],
  ['host-info', 'admin', 'exit'],
  ['key-status', 'admin', 'exit'],
  ['metrics', 'admin', 'exit'],
  ['loggers/*', 'admin', 'admin'],
  ['rotate', 'admin', 'admin'],
  ['rotate/config', 'admin', 'admin'],
  ['seal', 'admin', 'admin'],
  ['step-down', 'admin', 'admin'],
];

const AUTH_TOKEN_SELF: ReadonlySet<string> = new Set(['lookup-self', 'renew-self', 'revoke-self']);
const OIDC_LOGIN: ReadonlySet<string> = new Set(['auth_url', 'callback', 'poll']);

/**
 * Classifies a path in `sys/`, `auth/` or `identity/`; null for anything else. `authMountLength` is the number of segments
 * of the auth mount below `auth/`, where it is known: a login is `<mount>/login…`, and a user of the name `login` is not.
 */
export function systemClassOf(segments: readonly string[], operation: Operation, authMountLength = 1): SystemClass | null {
  switch (segments[0]) {
    case 'sys':
      return ofSys(segments.slice(1), READING.includes(operation));
    case 'auth':
      return ofAuth(segments.slice(1), operation, authMountLength);
    case 'identity':
      return operation === 'help' || (segments[1] === 'oidc' && segments.includes('.well-known') && operation === 'read') ? 'pass' : 'admin';
    default:
      return null;
  }
}

function ofSys(path: readonly string[], reading: boolean): SystemClass {
  for (const [pattern, onRead, onWrite] of SYSTEM) {
    if (matches(pattern.split('/'), path)) return reading ? onRead : onWrite;
  }
  return 'exit';
}

function ofAuth(path: readonly string[], operation: Operation, mountLength: number): SystemClass {
  if (operation === 'help') return 'pass';
  if (path[0] === 'token') return path.length === 2 && AUTH_TOKEN_SELF.has(path[1] as string) ? 'pass' : 'admin';
  const endpoint = path[mountLength];
  const rest = path.length - mountLength - 1;
  if (endpoint === 'login' && rest <= 1 && (operation === 'update' || operation === 'read')) return 'pass';
  if (endpoint === 'oidc' && rest === 1 && OIDC_LOGIN.has(path[mountLength + 1] as string)) return 'pass';
  return 'admin';
}

function matches(pattern: readonly string[], path: readonly string[]): boolean {
  for (const [i, part] of pattern.entries()) {
    if (part === '*') return true;
    const segment = path[i];
    if (segment === undefined) return i === pattern.length - 1 && part === '*';
    if (part !== '+' && part !== segment) return false;
  }
  return path.length === pattern.length;
}
