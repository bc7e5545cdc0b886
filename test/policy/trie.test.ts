import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { compareSpecificity, type PatternError, parsePattern } from '../../src/policy/pattern.ts';
import { Trie, type TrieEntry } from '../../src/policy/trie.ts';
import { referenceBelow, referenceFind } from './reference.ts';

const word = fc.constantFrom('a', 'b', 'ab', 'secret', 'prod', 'x+');
const patternText = fc
  .tuple(fc.array(fc.oneof(word, fc.constant('+')), { maxLength: 4 }), fc.constantFrom('', '*', 'a*', 'ab*', 'p*'))
  .map(([parts, end]) => [...parts, ...(end === '' ? [] : [end])].join('/'))
  .filter((text) => text !== '');
const entry: fc.Arbitrary<TrieEntry> = fc.record({
  pattern: patternText.map(parsePattern),
  operations: fc.integer({ min: 1, max: 31 }),
  strictness: fc.nat(4),
});
const path = fc.array(word, { minLength: 1, maxLength: 6 });

describe('the trie', () => {
  test('finds what the plain reading of the rules finds', () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 20 }),
        fc.array(path, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 31 }),
        (entries, paths, operations) => {
          const trie = new Trie(entries);
          for (const one of paths) {
            expect(trie.find(one, operations)?.strictness).toBe(referenceFind(entries, one, operations));
            expect(trie.strictestBelow(one, true)?.strictness).toBe(referenceBelow(entries, one, true));
            expect(trie.strictestBelow(one, false)?.strictness).toBe(referenceBelow(entries, one, false));
          }
        },
      ),
      { numRuns: 20_000 },
    );
  }, 120_000);
});

describe('patterns', () => {
  test('the more specific of two comes first, as in Vault', () => {
    const order = ['*', 'secret/+/*', 'secret/+/prod/*', 'secret/*', 'secret/+/prod/db', 'secret/a*', 'secret/a/*', 'secret/a/+', 'secret/a/b*', 'secret/a/b'];
    const shuffled = [...order].reverse().map(parsePattern).sort(compareSpecificity);
    expect(shuffled.map(({ source }) => source)).toEqual(order);
  });

  test.for([
    ['', 'empty_pattern', 1],
    ['/secret', 'slash_in_front', 1],
    ['secret/*/db', 'glob_not_last', 8],
    ['secret//db', 'empty_segment', 8],
    ['secret/', 'slash_at_end', 7],
    ['secret/../x', 'relative_segment', 8],
  ] as const)('refuses %j with %s at column %i', ([source, code, column]) => {
    expect(() => parsePattern(source)).toThrow(expect.objectContaining({ code, detail: { column } }) as PatternError);
  });
});
