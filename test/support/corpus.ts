import { readFileSync } from 'node:fs';

import { exchange, parseAnswers, type RawAnswer, requestBytes } from './raw.ts';

/** A recorded request; placeholders such as `{{pipe}}` stand for tokens (semantics.md §9). */
export interface CorpusRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string | null;
}

export interface SetupRow extends CorpusRequest {
  readonly id: string;
  readonly save?: Readonly<Record<string, string>>;
}

export interface BypassRow extends CorpusRequest {
  readonly id: string;
  readonly category: string;
  readonly invariant: string;
  readonly raw_b64?: string;
  readonly http_version: string;
  readonly send_host: boolean;
  readonly steps_before?: readonly SetupRow[];
  readonly server: { readonly status: number };
  readonly changed_critical: readonly unknown[];
}

export interface GoldenRow {
  readonly id: string;
  readonly request: CorpusRequest;
  readonly save: Readonly<Record<string, string>>;
  readonly response: { readonly status: number };
  readonly varies: { readonly json_pointers: readonly string[]; readonly headers: readonly string[] };
}

/** Reads one of the recorded corpora. */
export function readCorpus<Row>(name: 'bypass' | 'bypass-setup' | 'golden'): Row[] {
  return readFileSync(new URL(`../vectors/corpus/${name}.jsonl`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row);
}

/** Puts variables into the placeholders of a text. */
export function fill(text: string, variables: ReadonlyMap<string, string>): string {
  return text
    .replace(/\{\{repeat:(.):(\d+)\}\}/g, (_, c: string, n: string) => c.repeat(Number(n)))
    .replace(/\{\{(\w+)\}\}/g, (whole, name: string) => variables.get(name) ?? whole);
}

/** The bytes of a corpus request. */
export function bytesOf(
  row: CorpusRequest & { raw_b64?: string; http_version?: string; send_host?: boolean },
  variables: ReadonlyMap<string, string>,
  extra: readonly (readonly [string, string])[] = [],
): Buffer {
  if (row.raw_b64 !== undefined) return Buffer.from(fill(Buffer.from(row.raw_b64, 'base64').toString('latin1'), variables), 'latin1');
  const headers = row.headers.map(([name, value]) => [fill(name, variables), fill(value, variables)] as const);
  return requestBytes(row.method, fill(row.target, variables), [...headers, ...extra], row.body === null ? null : fill(row.body, variables));
}

/** Sends a row and returns all answers to it. */
export async function sendRow(
  port: number,
  row: Parameters<typeof bytesOf>[0],
  variables: ReadonlyMap<string, string>,
  extra: readonly (readonly [string, string])[] = [],
): Promise<RawAnswer[]> {
  const bytes = await exchange(port, [bytesOf(row, variables, extra)], { timeoutMs: 3000, halfClose: row.raw_b64 !== undefined });
  try {
    return parseAnswers(bytes, row.method === 'HEAD');
  } catch {
    return [];
  }
}

/** Value at a JSON pointer. */
export function at(value: unknown, pointer: string): unknown {
  return pointer
    .split('/')
    .slice(1)
    .reduce<unknown>(
      (inner, key) =>
        typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>)[key.replaceAll('~1', '/').replaceAll('~0', '~')] : undefined,
      value,
    );
}

/** Saves what a row wants kept from its answer. */
export function save(row: { readonly save?: Readonly<Record<string, string>> }, answer: RawAnswer | undefined, variables: Map<string, string>): void {
  for (const [name, pointer] of Object.entries(row.save ?? {})) {
    const value = answer === undefined ? undefined : at(JSON.parse(answer.body.toString()), pointer);
    if (typeof value === 'string') variables.set(name, value);
  }
}
