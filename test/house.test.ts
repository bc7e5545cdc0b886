import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

import { afterAll, describe, expect, test } from 'vitest';

const biome = 'node_modules/.bin/biome';
const planted: string[] = [];

afterAll(() => {
  for (const file of planted) rmSync(file, { recursive: true, force: true });
});

/** Puts a file with a fault into the house, lints it and takes it away. */
function lint(file: string, text: string): string {
  planted.push(file);
  writeFileSync(file, text);
  const { stdout, stderr } = spawnSync(biome, ['lint', '--max-diagnostics=50', file], { encoding: 'utf8' });
  rmSync(file, { force: true });
  return stdout + stderr;
}

/** Which part may import which (docs/architecture.md); anything else is a fault. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  telemetry: [],
  wire: [],
  vault: [],
  audit: [],
  config: [],
  identity: ['vault'],
  policy: ['vault', 'identity'],
  challenge: ['policy', 'vault', 'identity'],
  gate: ['challenge', 'policy', 'vault', 'identity'],
  upstream: ['wire', 'vault', 'identity'],
  proxy: ['gate', 'challenge', 'identity', 'audit', 'upstream', 'policy', 'wire', 'vault', 'telemetry'],
  ops: ['telemetry'],
  demo: ['config', 'identity', 'challenge', 'telemetry', 'main'],
};
const parts = [...Object.keys(ALLOWED), 'cli'];

describe('imports run one way', () => {
  const forbidden = Object.entries(ALLOWED).flatMap(([part, allowed]) =>
    parts.filter((other) => other !== part && !allowed.includes(other)).map((other) => [part, other] as const),
  );

  test.for(Object.keys(ALLOWED))('%s: every edge that is not allowed is a lint error', (part) => {
    const banned = forbidden.filter(([from]) => from === part).map(([, to]) => to);
    const text = banned.map((to, i) => `import * as part${i} from '../${to}/planted.ts';\nexport const use${i} = part${i};\n`).join('');
    const found = lint(`src/${part}/planted-fault.ts`, text);
    for (const to of banned) expect(found).toContain(`${part}/ must not import ${to}`);
  });

  test('a cycle, a barrel, a floating promise and a function of a hundred lines are lint errors', () => {
    mkdirSync('src/wire/planted', { recursive: true });
    planted.push('src/wire/planted');
    writeFileSync('src/wire/planted/b.ts', "import type { A } from './a.ts';\nexport type B = A | null;\n");
    expect(lint('src/wire/planted/a.ts', "import type { B } from './b.ts';\nexport type A = B | null;\n")).toContain('noImportCycles');
    expect(lint('src/wire/planted/index.ts', "export * from './b.ts';\n")).toContain('noBarrelFile');
    expect(lint('src/wire/planted/c.ts', 'async function work(): Promise<void> {}\nexport function go(): void {\n  work();\n}\n')).toContain(
      'noFloatingPromises',
    );
    expect(lint('src/wire/planted/d.ts', `export function long(): number {\n  let n = 0;\n${'  n++;\n'.repeat(80)}  return n;\n}\n`)).toContain(
      'noExcessiveLinesPerFunction',
    );
  });
});

describe('the code keeps its own rules', () => {
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `src/${name}`);

  test.for(files)('%s is at most 400 lines, and every exported thing says what it is for', (file) => {
    const lines = readFileSync(file, 'utf8').split('\n');
    expect(lines.length).toBeLessThanOrEqual(400);
    const undocumented = lines.filter(
      (line, i) => /^export (?:async |abstract )?(?:function|class|const|interface|type) /.test(line) && !(lines[i - 1] ?? '').trimEnd().endsWith('*/'),
    );
    expect(undocumented).toEqual([]);
  });

  test('time, randomness and files are asked for at the edge alone', () => {
    const edge =
      /^src\/(?:host|document|main|cli\/.*|demo\/.*|config\/load|audit\/(?:log|lock|recover)|policy\/(?:load|watch)|challenge\/redis\/connection)\.ts$/;
    for (const file of files.filter((name) => !edge.test(name) && !name.startsWith('src/cli/') && !name.startsWith('src/demo/'))) {
      expect(readFileSync(file, 'utf8'), file).not.toMatch(/Date\.now|Math\.random|node:fs|randomBytes|process\.(?:env|hrtime|exit)/);
    }
  });

  test('every stable error code is in docs/errors.md, and every code there is one of the code', () => {
    const source = files.map((file) => readFileSync(file, 'utf8')).join('\n');
    const documented = [...readFileSync('docs/errors.md', 'utf8').matchAll(/^\| `([a-z_0-9]+)`/gm)].map(([, code]) => code as string);
    const unions = [...source.matchAll(/(?:export )?type (?:\w*ErrorCode|AuditErrorCode) =\s*((?:\s*\|? ?'[a-z_0-9]+')+)/g)].flatMap(([, union]) =>
      [...(union ?? '').matchAll(/'([a-z_0-9]+)'/g)].map(([, code]) => code as string),
    );
    const refusals = [...source.matchAll(/\['(step_up_nonce_[a-z]+|step_up_digest)'/g)].map(([, code]) => code as string);
    const used = new Set([
      ...unions,
      ...refusals,
      'too_many_challenges',
      'store_unavailable',
      'step_up_ambiguous',
      'policy_deny',
      'not_authorized',
      'body_too_large',
      'step_up_required',
      'step_up_verified',
    ]);
    expect([...used].filter((code) => !documented.includes(code))).toEqual([]);
    expect(documented.filter((code) => !source.includes(`'${code}'`))).toEqual([]);
  });
});
