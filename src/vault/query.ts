import { RequestError } from './error.ts';

/** The parameters of a query in their order, decoded. */
export type Query = readonly (readonly [name: string, value: string])[];

// Parameters of which the server takes the first and a reader may take the last.
const ONCE = new Set(['list', 'scan', 'help', 'version', 'encoding', 'token', 'depth', 'after', 'limit', 'read_snapshot_id']);
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads a raw query as Go's `url.ParseQuery` does, but refuses what that drops: `;`, bad escapes, doubled keys of
 * meaning (semantics.md §2D).
 * @throws {RequestError} 400
 */
export function parseQuery(raw: string): Query {
  const query: [string, string][] = [];
  if (raw === '') return query;
  if (raw.includes(';')) throw new RequestError(400, 'ambiguous_query', 'the query holds a semicolon: separate parameters with &');
  const seen = new Set<string>();
  for (const pair of raw.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decode(equals === -1 ? pair : pair.slice(0, equals));
    const value = equals === -1 ? '' : decode(pair.slice(equals + 1));
    if (ONCE.has(name) && seen.has(name)) throw new RequestError(400, 'ambiguous_query', 'a query parameter is given twice');
    seen.add(name);
    query.push([name, value]);
  }
  return query;
}

function decode(raw: string): string {
  if (/^[A-Za-z0-9._~-]*$/.test(raw)) return raw;
  if (/%(?![0-9A-Fa-f]{2})/.test(raw)) throw new RequestError(400, 'ambiguous_query', 'malformed percent-encoding in the query');
  const bytes = Buffer.from(
    raw.replaceAll('+', ' ').replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
  try {
    return UTF8.decode(bytes);
  } catch {
    throw new RequestError(400, 'ambiguous_query', 'the query is not UTF-8');
  }
}

/** The one spelling of a query, with its `?`; empty for none. */
export function serialiseQuery(query: Query): string {
  if (query.length === 0) return '';
  return `?${query.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join('&')}`;
}

/** Go's `strconv.ParseBool`; null for what it refuses. */
export function parseGoBool(text: string): boolean | null {
  if (/^(?:1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(?:0|f|F|FALSE|false|False)$/.test(text)) return false;
  return null;
}
