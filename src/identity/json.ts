/** Why a JSON text is not read. */
export type JsonFault = 'not_json' | 'too_deep' | 'duplicate_member';

/**
 * Reads JSON with at most `maxDepth` levels and no member twice: `JSON.parse` keeps the last of two, other readers the
 * first (security.md §1.3). Returns the fault instead of throwing.
 */
export function readStrictJson(text: string, maxDepth: number): { readonly value: unknown } | { readonly fault: JsonFault } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { fault: 'not_json' };
  }
  const fault = scan(text, maxDepth);
  return fault === null ? { value } : { fault };
}

/** Walks a text that is known to be JSON. */
function scan(text: string, maxDepth: number): JsonFault | null {
  const open: (Set<string> | null)[] = [];
  let expectsName = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      const end = endOfString(text, i);
      const names = open.at(-1);
      if (expectsName && names) {
        const name = JSON.parse(text.slice(i, end + 1)) as string;
        if (names.has(name)) return 'duplicate_member';
        names.add(name);
        expectsName = false;
      }
      i = end;
    } else if (c === '{' || c === '[') {
      if (open.push(c === '{' ? new Set() : null) > maxDepth) return 'too_deep';
      expectsName = c === '{';
    } else if (c === '}' || c === ']') {
      open.pop();
      expectsName = false;
    } else if (c === ',') expectsName = open.at(-1) !== null;
  }
  return null;
}

function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i;
}
