import { LIST } from '../vault/operations.ts';
import { compareSpecificity, type Pattern } from './pattern.ts';

/** What a trie keeps for a pattern. */
export interface TrieEntry {
  readonly pattern: Pattern;
  /** Bits of `OPERATION_BITS` that the rule is about. */
  readonly operations: number;
  /** Index of the tier; higher is stricter. */
  readonly strictness: number;
}

interface Node<Entry extends TrieEntry> {
  readonly children: Map<string, Node<Entry>>;
  plus: Node<Entry> | undefined;
  readonly exact: Ranked<Entry>[];
  readonly open: Map<string, Ranked<Entry>[]>;
  /** The lengths of the keys of `open`: the only prefixes worth asking for. */
  openLengths: number[];
  /** The strictest entry here or below, of all and of those about listings. */
  strictest: Entry | undefined;
  strictestList: Entry | undefined;
}

interface Ranked<Entry> {
  readonly entry: Entry;
  readonly rank: number;
}

/** Finds the rules about a path in a time that depends on the path, not on how many rules there are. */
export class Trie<Entry extends TrieEntry> {
  readonly #root: Node<Entry> = newNode();

  constructor(entries: readonly Entry[]) {
    const sources = new Map(entries.map((entry) => [entry.pattern.source, entry.pattern]));
    const ranks = new Map([...sources.values()].sort(compareSpecificity).map((pattern, i) => [pattern.source, i]));
    for (const entry of entries) this.#add(entry, ranks.get(entry.pattern.source) ?? 0);
  }

  /**
   * The rule that decides about an operation on a path: for each bit of `operations` the most specific pattern that is
   * about it (equal patterns: the stricter), and of those the strictest.
   */
  find(path: readonly string[], operations: number): Entry | undefined {
    const hits: Ranked<Entry>[] = [];
    collect(this.#root, path, 0, operations, hits);
    if (hits.length < 2) return hits[0]?.entry;
    let strictest: Entry | undefined;
    for (let rest = operations; rest !== 0; rest &= rest - 1) {
      strictest = stricter(strictest, mostSpecific(hits, rest & -rest));
    }
    return strictest;
  }

  /** Every rule about an operation on a path, for explaining. */
  all(path: readonly string[], operations: number): Entry[] {
    const hits: Ranked<Entry>[] = [];
    collect(this.#root, path, 0, operations, hits);
    return hits.sort((a, b) => b.rank - a.rank).map(({ entry }) => entry);
  }

  /** The strictest rule that can match at or below a path; with `listOnly`, of those that are about listings. */
  strictestBelow(path: readonly string[], listOnly: boolean): Entry | undefined {
    return strictestBelow(this.#root, path, 0, listOnly);
  }

  #add(entry: Entry, rank: number): void {
    let node = this.#root;
    remember(node, entry);
    for (const segment of entry.pattern.segments) {
      let next = segment === '+' ? node.plus : node.children.get(segment);
      if (next === undefined) {
        next = newNode();
        if (segment === '+') node.plus = next;
        else node.children.set(segment, next);
      }
      node = next;
      remember(node, entry);
    }
    const { prefix } = entry.pattern;
    if (prefix === null) {
      node.exact.push({ entry, rank });
      return;
    }
    const same = node.open.get(prefix);
    if (same !== undefined) same.push({ entry, rank });
    else {
      node.open.set(prefix, [{ entry, rank }]);
      if (!node.openLengths.includes(prefix.length)) node.openLengths.push(prefix.length);
    }
  }
}

function newNode<Entry extends TrieEntry>(): Node<Entry> {
  return { children: new Map(), plus: undefined, exact: [], open: new Map(), openLengths: [], strictest: undefined, strictestList: undefined };
}

function remember<Entry extends TrieEntry>(node: Node<Entry>, entry: Entry): void {
  node.strictest = stricter(node.strictest, entry);
  if ((entry.operations & LIST) !== 0) node.strictestList = stricter(node.strictestList, entry);
}

function stricter<Entry extends TrieEntry>(a: Entry | undefined, b: Entry | undefined): Entry | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.strictness > a.strictness ? b : a;
}

function mostSpecific<Entry extends TrieEntry>(hits: readonly Ranked<Entry>[], bit: number): Entry | undefined {
  let best: Ranked<Entry> | undefined;
  for (const hit of hits) {
    if ((hit.entry.operations & bit) === 0) continue;
    if (best === undefined || hit.rank > best.rank || (hit.rank === best.rank && hit.entry.strictness > best.entry.strictness)) best = hit;
  }
  return best?.entry;
}

function collect<Entry extends TrieEntry>(node: Node<Entry>, path: readonly string[], at: number, operations: number, hits: Ranked<Entry>[]): void {
  const segment = path[at];
  if (segment === undefined) {
    take(node.exact, operations, hits);
    return;
  }
  for (const length of node.openLengths) {
    const open = length <= segment.length ? node.open.get(segment.slice(0, length)) : undefined;
    if (open !== undefined) take(open, operations, hits);
  }
  const child = node.children.get(segment);
  if (child !== undefined) collect(child, path, at + 1, operations, hits);
  if (node.plus !== undefined) collect(node.plus, path, at + 1, operations, hits);
}

function take<Entry extends TrieEntry>(ranked: readonly Ranked<Entry>[], operations: number, hits: Ranked<Entry>[]): void {
  for (const one of ranked) if ((one.entry.operations & operations) !== 0) hits.push(one);
}

function strictestBelow<Entry extends TrieEntry>(node: Node<Entry>, path: readonly string[], at: number, listOnly: boolean): Entry | undefined {
  const segment = path[at];
  if (segment === undefined) return listOnly ? node.strictestList : node.strictest;
  let found: Entry | undefined;
  for (const length of node.openLengths) {
    for (const { entry } of (length <= segment.length ? node.open.get(segment.slice(0, length)) : undefined) ?? []) {
      if (!listOnly || (entry.operations & LIST) !== 0) found = stricter(found, entry);
    }
  }
  const child = node.children.get(segment);
  if (child !== undefined) found = stricter(found, strictestBelow(child, path, at + 1, listOnly));
  if (node.plus !== undefined) found = stricter(found, strictestBelow(node.plus, path, at + 1, listOnly));
  return found;
}
