import { compareSpecificity, patternMatches } from '../../src/policy/pattern.ts';
import type { TrieEntry } from '../../src/policy/trie.ts';
import { LIST } from '../../src/vault/operations.ts';

/** The plain meaning of a list of rules, read off design.md §4: for each operation bit the most specific pattern, equal ones the stricter; the strictest of those. */
export function referenceFind(entries: readonly TrieEntry[], path: readonly string[], operations: number): number | undefined {
  let strictest: number | undefined;
  for (let bit = 1; bit <= operations; bit <<= 1) {
    if ((operations & bit) === 0) continue;
    const about = entries.filter((entry) => (entry.operations & bit) !== 0 && patternMatches(entry.pattern, path));
    const [best] = about.sort((a, b) => compareSpecificity(b.pattern, a.pattern) || b.strictness - a.strictness);
    if (best !== undefined) strictest = Math.max(strictest ?? 0, best.strictness);
  }
  return strictest;
}

/** Whether a pattern can match a path at or below a folder. */
function reaches({ pattern }: TrieEntry, folder: readonly string[]): boolean {
  const { segments, prefix } = pattern;
  for (const [i, part] of folder.entries()) {
    const wanted = segments[i];
    if (wanted === undefined) return prefix !== null && i === segments.length && part.startsWith(prefix);
    if (wanted !== '+' && wanted !== part) return false;
  }
  return true;
}

export function referenceBelow(entries: readonly TrieEntry[], folder: readonly string[], listOnly: boolean): number | undefined {
  const found = entries.filter((entry) => (!listOnly || (entry.operations & LIST) !== 0) && reaches(entry, folder)).map(({ strictness }) => strictness);
  return found.length === 0 ? undefined : Math.max(...found);
}
