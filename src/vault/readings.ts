import { engineOperation, isKnownEngine } from './engines.ts';
import type { Mount, MountTable } from './mounts.ts';
import { CONFIGURE, isConfigure, kv2Operation, LIST, plainOperation, REVEAL, storedSecretOperation } from './operations.ts';
import type { Operation, VaultRequest } from './request.ts';
import { type SystemClass, systemClassOf } from './system.ts';

/** A secret's name as rules write it (mount and name, no endpoint), and what the request does to it. */
export interface SecretName {
  readonly segments: readonly string[];
  /** Bits of `OPERATION_BITS`. */
  readonly operations: number;
}

/** One way in which a server may understand a path. */
export interface Reading {
  /** Segments of the namespace; empty for the root. */
  readonly namespace: readonly string[];
  /** The API path within the namespace. */
  readonly path: readonly string[];
  readonly mount: Mount | undefined;
  readonly system: SystemClass | null;
  /** What the request does to the path as such, for `path:` rules. */
  readonly operations: number;
  /** The names under which rules may know the secret: the true one first, where the mount is known. */
  readonly names: readonly SecretName[];
  /** Only rules with a wildcard namespace are asked for this reading: it is a guess at where a namespace ends. */
  readonly guessed: boolean;
}

/** All the readings of a request; the first is the one that the mount table gives. */
export interface Readings {
  readonly readings: readonly [Reading, ...Reading[]];
  /** The header names a namespace that the table does not have. */
  readonly namespaceUnknown: boolean;
}

const MAX_GUESSES = 16;

/**
 * Reads a request against the mount table. Where the table cannot tell (a namespace or mount that it does not have), every
 * meaning is returned and the caller takes the strictest (semantics.md §0.10, §5).
 */
export function readingsOf(request: VaultRequest, table: MountTable): Readings {
  const path = request.path.segments;
  const full = request.namespace.length === 0 ? path : [...request.namespace, ...path];
  const depth = table.namespaceDepth(full);
  const { operation } = request;
  if (depth < request.namespace.length) {
    // A server without namespaces ignores the header; one that has it but told us late resolves the rest.
    const asAsked = readingAt(full, request.namespace.length, operation, table, false);
    const inRoot = readingAt(path, 0, operation, table, false);
    return { readings: [asAsked, inRoot, ...guessesAt(full, 0, operation, table)], namespaceUnknown: true };
  }
  const primary = readingAt(full, depth, operation, table, false);
  const certain = table.namespacesKnown && (primary.mount !== undefined || primary.system !== null);
  const guesses = certain ? [] : guessesAt(full, depth, operation, table);
  return { readings: [primary, ...guesses], namespaceUnknown: false };
}

function guessesAt(full: readonly string[], from: number, operation: Operation, table: MountTable): Reading[] {
  const guesses: Reading[] = [];
  for (let depth = from + 1; depth < full.length && depth <= from + MAX_GUESSES; depth++) guesses.push(readingAt(full, depth, operation, table, true));
  return guesses;
}

function readingAt(full: readonly string[], depth: number, operation: Operation, table: MountTable, guessed: boolean): Reading {
  const namespace = full.slice(0, depth);
  const path = depth === 0 ? full : full.slice(depth);
  const mount = guessed ? undefined : (table.mountOf(full) ?? builtinMount(namespace, path));
  const mounted = mount !== undefined && mount.segments.length > depth ? mount : undefined;
  const authLength = mounted?.segments[depth] === 'auth' ? mounted.segments.length - depth - 1 : 1;
  const system = systemClassOf(path, operation, authLength);
  const length = mounted === undefined ? 1 : mounted.segments.length - depth;
  return {
    namespace,
    path,
    mount: mounted,
    system,
    operations: system === null ? pathOperations(path, length, mounted, operation) : systemOperations(operation),
    names: system === null ? namesOf(path, length, mounted, operation) : [],
    guessed,
  };
}

/** The mounts that every namespace has. */
function builtinMount(namespace: readonly string[], path: readonly string[]): Mount | undefined {
  if (path[0] !== 'cubbyhole') return undefined;
  const segments = [...namespace, 'cubbyhole'];
  return { path: segments.join('/'), segments, type: 'cubbyhole' };
}

function systemOperations(operation: Operation): number {
  const bits = plainOperation(operation);
  // A rule's default is [reveal, write, read]; a read of the system reveals what it shows.
  return operation === 'read' ? bits | REVEAL : bits;
}

function pathOperations(path: readonly string[], mountLength: number, mount: Mount | undefined, operation: Operation): number {
  const relative = path.slice(mountLength);
  switch (mount?.type) {
    case 'kv-v1':
    case 'cubbyhole':
      return storedSecretOperation(operation);
    case 'kv-v2': {
      const bits = kv2Operation(relative[0] ?? '', operation);
      return bits ?? (isConfigure(relative, operation) ? CONFIGURE : plainOperation(operation));
    }
    default:
      // Of a mount that is not known nothing is known: it reveals, whatever is asked but a listing.
      return engineOperation(mount?.type ?? '', relative, operation);
  }
}

/**
 * The names of a secret by every shape: the true one of the mount first, then version 2's at each place where an endpoint
 * may stand, then version 1's. Only the first says what the request does for the default; the others can only add rules.
 */
function namesOf(path: readonly string[], mountLength: number, mount: Mount | undefined, operation: Operation): SecretName[] {
  const names: SecretName[] = [];
  const whole: SecretName = { segments: path, operations: wholeOperations(path.slice(mountLength), mount, operation) };
  if (mount !== undefined && mount.type !== 'kv-v2') names.push(whole);
  if (mount?.type === 'kv-v2') {
    const name = kv2Name(path, mountLength, operation);
    names.push(name ?? { segments: path, operations: pathOperations(path, mountLength, mount, operation) });
  }
  const from = mount?.type === 'kv-v2' ? mountLength + 1 : 1;
  for (let at = from; at < path.length; at++) {
    const name = kv2Name(path, at, operation);
    if (name !== null) names.push(name);
  }
  if (mount === undefined || mount.type === 'kv-v2') names.push(whole);
  return names;
}

function wholeOperations(relative: readonly string[], mount: Mount | undefined, operation: Operation): number {
  const type = mount?.type ?? '';
  if (type === 'kv-v1' || type === 'kv-v2' || type === 'cubbyhole') return storedSecretOperation(operation);
  // Of an engine that is not known, or a mount, a secret may lie there as such, and everything may reveal.
  return isKnownEngine(type) ? engineOperation(type, relative, operation) : engineOperation(type, relative, operation) | storedSecretOperation(operation);
}

function kv2Name(path: readonly string[], at: number, operation: Operation): SecretName | null {
  const endpoint = path[at];
  const operations = endpoint === undefined ? null : kv2Operation(endpoint, operation);
  return operations === null ? null : { segments: [...path.slice(0, at), ...path.slice(at + 1)], operations };
}

/** True when the names of a reading stand for everything below them: a listing. */
export function isListing(operations: number): boolean {
  return (operations & LIST) !== 0;
}
