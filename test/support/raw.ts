import { connect } from 'node:net';

/** An answer as its bytes said it. */
export interface RawAnswer {
  readonly status: number;
  readonly reason: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
}

/** Sends bytes as they are, in these pieces, half-closes if told to, and returns every byte that comes back until the end. */
export function exchange(
  port: number,
  pieces: readonly Buffer[],
  options: { readonly halfClose?: boolean; readonly timeoutMs?: number } = {},
): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const done = (): void => {
      socket.destroy();
      resolve(Buffer.concat(chunks));
    };
    socket.setTimeout(options.timeoutMs ?? 5000, done);
    socket.on('data', (data) => chunks.push(data));
    socket.on('end', done);
    socket.on('error', done);
    socket.on('close', done);
    socket.on('connect', () => {
      const send = (i: number): void => {
        const piece = pieces[i];
        if (piece === undefined) {
          if (options.halfClose === true) socket.end();
          return;
        }
        socket.write(piece);
        setImmediate(() => send(i + 1));
      };
      send(0);
    });
  });
}

/** Writes one request with `Connection: close`; `headers` are taken as they are. */
export function requestBytes(
  method: string,
  target: string,
  headers: readonly (readonly [string, string])[],
  body: string | null = null,
  host = '127.0.0.1',
): Buffer {
  const lines = [`${method} ${target} HTTP/1.1`, `Host: ${host}`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  if (body !== null) lines.push(`Content-Length: ${Buffer.byteLength(body)}`);
  lines.push('Connection: close');
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(body ?? '')]);
}

/** Reads the answers in a stream of bytes, one after the other, interim ones left out. `head`: to HEAD requests. */
export function parseAnswers(bytes: Buffer, head = false): RawAnswer[] {
  const answers: RawAnswer[] = [];
  let at = 0;
  while (at < bytes.length) {
    const end = bytes.indexOf('\r\n\r\n', at);
    if (end === -1) break;
    const [line = '', ...fields] = bytes.subarray(at, end).toString('latin1').split('\r\n');
    const match = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(line);
    if (match === null) throw new Error(`not an answer: ${line.slice(0, 80)}`);
    const headers = fields.map((field) => [field.slice(0, field.indexOf(':')), field.slice(field.indexOf(':') + 1).trim()] as const);
    const status = Number(match[1]);
    const value = (name: string): string | undefined => headers.find(([other]) => other.toLowerCase() === name)?.[1];
    at = end + 4;
    let body: Buffer = Buffer.alloc(0);
    if (status >= 200 && status !== 204 && status !== 304 && !head) {
      if (value('transfer-encoding') === 'chunked') [body, at] = dechunk(bytes, at);
      else {
        const length = Number(value('content-length') ?? bytes.length - at);
        body = bytes.subarray(at, at + length);
        at += length;
      }
    }
    if (status >= 200) answers.push({ status, reason: match[2] ?? '', headers, body });
  }
  return answers;
}

function dechunk(bytes: Buffer, start: number): [Buffer, number] {
  const parts: Buffer[] = [];
  let at = start;
  for (;;) {
    const end = bytes.indexOf('\r\n', at);
    if (end === -1) return [Buffer.concat(parts), bytes.length];
    const size = Number.parseInt(bytes.subarray(at, end).toString('latin1'), 16);
    at = end + 2;
    if (size === 0) return [Buffer.concat(parts), at + 2];
    parts.push(bytes.subarray(at, at + size));
    at += size + 2;
  }
}

/** Sends one request and returns its answer; undefined when the connection ended without one. */
export async function ask(
  port: number,
  method: string,
  target: string,
  headers: readonly (readonly [string, string])[] = [],
  body: string | null = null,
): Promise<RawAnswer | undefined> {
  return parseAnswers(await exchange(port, [requestBytes(method, target, headers, body)]), method === 'HEAD')[0];
}

/** The JSON of an answer. */
export function jsonOf(answer: RawAnswer | undefined): Record<string, unknown> {
  return JSON.parse(answer?.body.toString() ?? 'null') as Record<string, unknown>;
}
