import { RequestError } from './error.ts';

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
// No blank, control, %, \, comma, semicolon, + or *: none can be in a namespace's name (semantics.md §2C).
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are among those refused
const SEGMENT = /^[^/\s%\\,;+*\x00-\x20\x7f]+$/;

/**
 * Reads the value of `X-Vault-Namespace`: the segments of the namespace, none for the root.
 * One slash at either end is ignored, as clients send it (clients.md §2). What the server would have to clean is refused.
 * @throws {RequestError} 400
 */
export function parseNamespaceHeader(value: string): readonly string[] {
  if (value === '') return [];
  const name = decodeUtf8(value).trim().replace(/^\//, '').replace(/\/$/, '');
  if (name === '' || name === 'root') return [];
  const segments = name.split('/');
  for (const segment of segments) {
    if (segment === '.' || segment === '..' || !SEGMENT.test(segment)) {
      throw new RequestError(400, 'bad_namespace', 'malformed X-Vault-Namespace header: write the namespace as a/b');
    }
  }
  // The server strips `root/` in some places and not in others.
  if (segments[0] === 'root') throw new RequestError(400, 'bad_namespace', 'malformed X-Vault-Namespace header: leave out root/');
  return segments;
}

/** Header values come as latin1 text, one character a byte; a namespace in a path is UTF-8. */
function decodeUtf8(value: string): string {
  try {
    return UTF8.decode(Buffer.from(value, 'latin1'));
  } catch {
    throw new RequestError(400, 'bad_namespace', 'malformed X-Vault-Namespace header: it is not UTF-8');
  }
}
