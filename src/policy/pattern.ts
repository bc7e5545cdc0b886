import { CodedError } from '../errors.ts';

/** A policy pattern, read: `+` is one whole segment, `*` at the end any rest (Vault's ACL patterns). */
export interface Pattern {
  readonly source: string;
  /** All segments but, for an open pattern, what stands before its `*` in the last one. `+` is a wildcard. */
  readonly segments: readonly string[];
  /** For an open pattern: how the rest must start (`secret/app*`: `app`; `secret/*`: empty). */
  readonly prefix: string | null;
}

type Code = 'empty_pattern' | 'empty_segment' | 'glob_not_last' | 'relative_segment' | 'slash_at_end' | 'slash_in_front';

/** A refused pattern; `detail.column` counts from 1, as editors do. */
export class PatternError extends CodedError<Code, { column: number }> {}

/**
 * Reads a pattern. A `+` that is not alone in its segment is a plus sign, as in Vault.
 * @throws {PatternError} rather than guess: a pattern that covers less than it says is a hole
 */
export function parsePattern(source: string): Pattern {
  const refuse = (code: Code, column: number, message: string) => new PatternError(code, message, { detail: { column } });
  if (source === '') throw refuse('empty_pattern', 1, 'the pattern is empty');
  if (source.startsWith('/')) throw refuse('slash_in_front', 1, 'leave out the slash in front');
  const star = source.indexOf('*');
  if (star !== -1 && star !== source.length - 1) throw refuse('glob_not_last', star + 1, '`*` may stand only at the end; `+` matches one segment');
  const open = star !== -1;
  if (!open && source.endsWith('/')) throw refuse('slash_at_end', source.length, 'a pattern that ends in / matches nothing: write /* for all below');
  const parts = (open ? source.slice(0, -1) : source).split('/');
  let column = 1;
  for (const [i, part] of parts.entries()) {
    if (part === '' && !(open && i === parts.length - 1)) throw refuse('empty_segment', column, 'an empty segment matches nothing');
    if (part === '.' || part === '..') throw refuse('relative_segment', column, 'a relative segment matches nothing');
    column += part.length + 1;
  }
  return open ? { source, segments: parts.slice(0, -1), prefix: parts.at(-1) ?? '' } : { source, segments: parts, prefix: null };
}

/** Whether a pattern covers a path; the plain reading of it, which the trie is tested against. */
export function patternMatches(pattern: Pattern, path: readonly string[]): boolean {
  const { segments, prefix } = pattern;
  if (prefix === null ? path.length !== segments.length : path.length <= segments.length) return false;
  if (!segments.every((segment, i) => segment === '+' || segment === path[i])) return false;
  return prefix === null || (path[segments.length] ?? '').startsWith(prefix);
}

/**
 * Which of two patterns is more specific, as Vault ranks its ACL rules: positive when `a` is. The first wildcard further
 * to the right wins, then no `*` at the end, then fewer `+`, then the longer, then the later in the alphabet.
 */
export function compareSpecificity(a: Pattern, b: Pattern): number {
  return (
    firstWildcard(a) - firstWildcard(b) ||
    Number(a.prefix === null) - Number(b.prefix === null) ||
    plusCount(b) - plusCount(a) ||
    a.source.length - b.source.length ||
    (a.source < b.source ? -1 : a.source > b.source ? 1 : 0)
  );
}

function firstWildcard(pattern: Pattern): number {
  let at = 0;
  for (const segment of pattern.segments) {
    if (segment === '+') return at;
    at += segment.length + 1;
  }
  return pattern.prefix === null ? Number.MAX_SAFE_INTEGER : at + pattern.prefix.length;
}

function plusCount(pattern: Pattern): number {
  return pattern.segments.reduce((count, segment) => count + Number(segment === '+'), 0);
}
