import { readFileSync, statSync } from 'node:fs';

import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import type { z } from 'zod';

import { CodedError } from './errors.ts';

/** One thing that is wrong in a file that people write: where it stands and what was expected. Values are never shown. */
export interface Finding {
  readonly file: string;
  /** From 1; 0 where the finding is about the whole file. */
  readonly line: number;
  readonly column: number;
  /** The key, as `tiers.0.name`; empty for the whole file. */
  readonly key: string;
  readonly message: string;
}

/** A configuration or policy that cannot be used; exit code 78. The message lists every finding, one a line. */
export class DocumentError extends CodedError<'document', readonly Finding[]> {
  readonly findings: readonly Finding[];

  constructor(findings: readonly Finding[]) {
    super('document', findings.map(formatFinding).join('\n'), { detail: findings });
    this.findings = findings;
  }
}

/** `file:line:column: key: message`, as editors and compilers write it. */
function formatFinding(finding: Finding): string {
  const place = finding.line === 0 ? finding.file : `${finding.file}:${finding.line}:${finding.column}`;
  return finding.key === '' ? `${place}: ${finding.message}` : `${place}: ${finding.key}: ${finding.message}`;
}

/** A YAML file as it was read: its plain value, and a way to say where in the file a key stands. */
export interface Document {
  readonly file: string;
  readonly text: string;
  readonly value: unknown;
  /** A finding at `path`; with `atKey`, at the key itself rather than at its value. */
  readonly finding: (path: readonly PropertyKey[], message: string, atKey?: boolean) => Finding;
}

const MAX_ALIASES = 100;

/**
 * Reads a YAML file of at most `maxBytes`.
 * @throws {DocumentError} when it cannot be read, is too large, or is no YAML
 */
export function readDocument(file: string, maxBytes: number): Document {
  const whole = (message: string) => new DocumentError([{ file, line: 0, column: 0, key: '', message }]);
  let text: string;
  try {
    if (statSync(file).size > maxBytes) throw whole(`is larger than ${maxBytes} bytes`);
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof DocumentError) throw error;
    throw whole(`cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'}): check the path and its permissions`);
  }
  return parseText(file, text);
}

/** Reads YAML text as if it stood in `file`. @throws {DocumentError} */
export function parseText(file: string, text: string): Document {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false, merge: false });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  if (document.errors.length > 0) {
    throw new DocumentError(
      document.errors.map((error) => ({ file, ...at(error.pos[0]), key: '', message: `not valid YAML: ${error.message.split('\n')[0]}` })),
    );
  }
  const finding = (path: readonly PropertyKey[], message: string, atKey = false): Finding => {
    const offset = offsetOf(document.contents, path, atKey);
    return { file, ...at(offset), key: path.map(String).join('.'), message };
  };
  try {
    return { file, text, value: document.toJS({ maxAliasCount: MAX_ALIASES }), finding };
  } catch {
    throw new DocumentError([{ file, line: 0, column: 0, key: '', message: 'uses too many YAML aliases' }]);
  }
}

/** The offset of the deepest part of `path` that stands in the file. */
function offsetOf(root: Node | null, path: readonly PropertyKey[], atKey: boolean): number {
  let node: unknown = root;
  let offset = root?.range?.[0] ?? 0;
  for (const [i, key] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (pair === undefined) break;
      const keyOffset = isScalar(pair.key) ? (pair.key.range?.[0] ?? offset) : offset;
      node = pair.value;
      offset = atKey && i === path.length - 1 ? keyOffset : ((node as Node | null)?.range?.[0] ?? keyOffset);
    } else if (typeof node === 'object' && node !== null && 'items' in node && Array.isArray(node.items)) {
      node = node.items[Number(key)];
      offset = (node as Node | undefined)?.range?.[0] ?? offset;
    } else break;
  }
  return offset;
}

/**
 * Checks a document against a schema. `later` names keys of features that are not built yet, so that they are refused by
 * name and never ignored.
 * @throws {DocumentError} with every finding
 */
export function checkDocument<Schema extends z.ZodType>(
  document: Document,
  schema: Schema,
  later: ReadonlySet<string>,
  value: unknown = document.value,
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new DocumentError(result.error.issues.flatMap((issue) => findingsOf(document, issue, later)));
}

function findingsOf(document: Document, issue: z.core.$ZodIssue, later: ReadonlySet<string>): Finding[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) =>
      document.finding([...issue.path, key], later.has(key) ? `\`${key}\` is not available in this version` : `unknown key \`${key}\``, true),
    );
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    // The branch that got furthest is what the writer meant.
    const best = issue.errors.reduce((a, b) => (depthOf(b) > depthOf(a) ? b : a));
    if (depthOf(best) > 0) return best.flatMap((inner) => findingsOf(document, { ...inner, path: [...issue.path, ...inner.path] } as z.core.$ZodIssue, later));
  }
  return [document.finding(issue.path, issue.message)];
}

function depthOf(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(0, ...issues.map((issue) => issue.path.length + (issue.code === 'unrecognized_keys' ? 1 : 0)));
}
