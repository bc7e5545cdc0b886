import type { Operation } from './request.ts';

/** What rules name under `operations`, one bit each, so that a request and a rule are compared with one `&` (design.md §4). */
export const OPERATION_BITS = {
  reveal: 1,
  read: 2,
  list: 4,
  create: 8,
  update: 16,
  patch: 32,
  delete: 64,
  undelete: 128,
  destroy: 256,
  metadata_write: 512,
  configure: 1024,
} as const;

const { reveal, read, list, create, update, patch, undelete, destroy, metadata_write, configure } = OPERATION_BITS;
const deletes = OPERATION_BITS.delete;

/** The words for several at once. */
export const OPERATION_GROUPS = {
  write: create | update | patch | deletes | undelete | destroy | metadata_write,
  all: 2047,
} as const;

/** What an operation does to a path of which nothing special is known. */
export function plainOperation(operation: Operation): number {
  switch (operation) {
    case 'read':
    case 'head':
    case 'options':
      return read;
    case 'list':
    case 'scan':
      return list;
    case 'update':
      return create | update;
    case 'patch':
      return patch;
    case 'delete':
      return deletes;
    case 'help':
      return 0;
  }
}

/** What an operation does to a secret that is stored as such (KV version 1, cubbyhole). */
export function storedSecretOperation(operation: Operation): number {
  return operation === 'read' || operation === 'head' || operation === 'options' ? reveal : plainOperation(operation);
}

/** The endpoints of KV version 2 and what each operation there does (semantics.md §2F; deletes of `metadata` end every version). */
export function kv2Operation(endpoint: string, operation: Operation): number | null {
  switch (endpoint) {
    case 'data':
      return storedSecretOperation(operation);
    case 'subkeys':
      return storedSecretOperation(operation);
    case 'metadata':
      if (operation === 'update' || operation === 'patch') return metadata_write;
      if (operation === 'delete') return deletes | destroy | metadata_write;
      return plainOperation(operation);
    case 'detailed-metadata':
      return operation === 'list' || operation === 'scan' ? list | read : plainOperation(operation);
    case 'delete':
      return operation === 'update' ? deletes : plainOperation(operation);
    case 'undelete':
      return operation === 'update' ? undelete : plainOperation(operation);
    case 'destroy':
      return operation === 'update' ? destroy : plainOperation(operation);
    default:
      return null;
  }
}

/** Writes to what configures a mount. */
export function isConfigure(relative: readonly string[], operation: Operation): boolean {
  if (operation !== 'update' && operation !== 'patch' && operation !== 'delete') return false;
  const first = relative[0];
  if (first === 'config' || first === 'roles' || first === 'role' || first === 'static-roles' || first === 'issuers') return true;
  return first === 'keys' && relative.at(-1) === 'config' && relative.length > 1;
}

/** The bit of `configure`, for callers that add it to what an operation does otherwise. */
export const CONFIGURE: number = configure;
/** The bit of `reveal`. */
export const REVEAL: number = reveal;
/** The bit of `list`. */
export const LIST: number = list;
