/** Type of a mount: `kv-v1`, `kv-v2`, or the engine's own name (`pki`, `database`, `auth/approle`, …). */
export type MountType = string;

/** A mount that is known: its full path, namespace first, without the slash at its end. */
export interface Mount {
  readonly path: string;
  readonly segments: readonly string[];
  readonly type: MountType;
}

interface Node {
  readonly children: Map<string, Node>;
  mount: Mount | undefined;
  namespace: boolean;
}

/**
 * Which mounts and namespaces the server has, as far as it is known. Immutable: a refresh makes a new one. What is not in
 * it is classified by the stricter of all its meanings; the table may add strictness, never remove it (design.md §4).
 */
export class MountTable {
  readonly #root: Node = { children: new Map(), mount: undefined, namespace: true };
  /** Whether the table was learnt from the server or a configuration at all. */
  readonly known: boolean;
  /** Whether it is known which namespaces there are: only then does a path without one lie in the root for certain. */
  readonly namespacesKnown: boolean;

  /**
   * `mounts` maps full paths (namespace first, with or without a slash at the end) to types; `namespaces` lists all that
   * there are, undefined when nobody said.
   */
  constructor(mounts: Iterable<readonly [string, MountType]>, namespaces: Iterable<string> | undefined) {
    let known = false;
    for (const [path, type] of mounts) {
      known = true;
      const segments = split(path);
      this.#node(segments).mount = { path: segments.join('/'), segments, type };
    }
    this.namespacesKnown = namespaces !== undefined;
    for (const namespace of namespaces ?? []) this.#node(split(namespace)).namespace = true;
    this.known = known;
  }

  /** The mount that serves a full path; its longest known prefix. */
  mountOf(full: readonly string[]): Mount | undefined {
    let node: Node | undefined = this.#root;
    let found: Mount | undefined;
    for (const segment of full) {
      node = node.children.get(segment);
      if (node === undefined) break;
      found = node.mount ?? found;
    }
    return found;
  }

  /** How many segments of a full path are its namespace: the longest known one. */
  namespaceDepth(full: readonly string[]): number {
    let node: Node | undefined = this.#root;
    let depth = 0;
    for (const [i, segment] of full.entries()) {
      node = node.children.get(segment);
      if (node === undefined) break;
      if (node.namespace) depth = i + 1;
    }
    return depth;
  }

  #node(segments: readonly string[]): Node {
    let node = this.#root;
    for (const segment of segments) {
      let child = node.children.get(segment);
      if (child === undefined) {
        child = { children: new Map(), mount: undefined, namespace: false };
        node.children.set(segment, child);
      }
      node = child;
    }
    return node;
  }
}

function split(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '');
}
