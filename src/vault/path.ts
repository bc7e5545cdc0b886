import { RequestError } from './error.ts';

/** A decoded API path: what follows `/v1/`. Segments are literal text; none is empty, `.` or `..`. */
export interface ApiPath {
  readonly segments: readonly string[];
  /** One slash at the end is ignored for matching, and forwarded: a listing is often spelt so. */
  readonly trailing: boolean;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
// Everything that Go's unicode.IsPrint refuses, and the blanks but U+0020 (semantics.md §2B).
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/u;
/** Bounds the work of classifying: each place where a mount or namespace may end is a meaning of its own. */
const MAX_SEGMENTS = 128;
const PLAIN = /^[A-Za-z0-9/._~+-]+$/;

/**
 * Reads a raw path that starts with `/v1/`, decoding it exactly once (semantics.md §0.2, §2B).
 * @throws {RequestError} 400 for what a server could read in two ways; 404 outside of `/v1/`
 */
export function parseApiPath(raw: string): ApiPath {
  if (!raw.startsWith('/v1/')) throw new RequestError(404, 'not_found', 'only paths under /v1/ are served', true);
  const decoded = PLAIN.test(raw) ? raw : decodeOnce(raw);
  if (/[\\;]/.test(decoded)) throw new RequestError(400, 'bad_path', 'the path holds a backslash or a semicolon');
  if (UNPRINTABLE.test(decoded)) throw new RequestError(400, 'bad_path', 'the path holds an unprintable character');
  const trailing = decoded.endsWith('/');
  const rest = decoded.slice(4, trailing ? -1 : undefined);
  if (decoded.length <= 4) throw new RequestError(404, 'not_found', 'no path after /v1/', true);
  const segments = rest.split('/');
  if (segments.length > MAX_SEGMENTS) throw new RequestError(400, 'bad_path', `the path has more than ${MAX_SEGMENTS} segments`);
  for (const segment of segments) {
    if (segment === '.' || segment === '..') throw new RequestError(400, 'relative_path', 'relative paths not supported');
    if (segment === '') throw new RequestError(400, 'bad_path', 'empty path segments are not supported: write one slash only');
  }
  return { segments, trailing };
}

function decodeOnce(raw: string): string {
  const bytes = Buffer.alloc(raw.length);
  let length = 0;
  for (let i = 0; i < raw.length; i++) {
    let byte = raw.charCodeAt(i);
    if (byte === 0x25) {
      const hex = raw.slice(i + 1, i + 3);
      if (!/^[0-9A-Fa-f]{2}$/.test(hex)) throw new RequestError(400, 'bad_path', 'malformed percent-encoding in the path');
      byte = Number.parseInt(hex, 16);
      i += 2;
    }
    bytes[length++] = byte;
  }
  try {
    return UTF8.decode(bytes.subarray(0, length));
  } catch {
    throw new RequestError(400, 'bad_path', 'the path is not UTF-8');
  }
}

/** The one spelling of a path: the inverse of `parseApiPath`. */
export function serialiseApiPath(path: ApiPath): string {
  let raw = '/v1';
  for (const segment of path.segments) raw += `/${PLAIN.test(segment) ? segment : encodeURIComponent(segment)}`;
  return path.trailing ? `${raw}/` : raw;
}

/** Paths outside the API that a browser asks for: the server's static pages. Null when `raw` is none of them. */
export function parsePagePath(raw: string): string | null {
  if (raw === '/' || raw === '/robots.txt' || raw === '/ui' || raw === '/ui/') return raw;
  return /^\/ui(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)+\/?$/.test(raw) ? raw : null;
}
