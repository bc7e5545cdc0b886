import { readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { checkChain } from '../../src/audit/chain.ts';
import { AuditLog } from '../../src/audit/log.ts';
import { systemHost } from '../../src/host.ts';

/** Run on a file system of 1 MiB: fills it beside the log, goes on appending, frees it, and tells what the log made of that. */
const dir = process.argv[2] ?? '';
const statuses: boolean[] = [];
const recovered = Promise.withResolvers<void>();
const log = await AuditLog.open({
  dir,
  ...systemHost,
  start: {},
  onStatus: (writable) => {
    statuses.push(writable);
    if (writable) recovered.resolve();
  },
});
let written = 0;
let refused = 0;
const append = () =>
  log.append({ type: 'decision', filler: 'x'.repeat(700) }).then(
    () => written++,
    () => refused++,
  );
for (let i = 0; i < 20; i++) await append();
const { bavail, bsize } = statfsSync(dir);
writeFileSync(join(dir, 'ballast'), Buffer.alloc(bavail * bsize - 2 * bsize));
for (let i = 0; i < 200; i++) await append();
rmSync(join(dir, 'ballast'));
const alive = setInterval(() => {}, 1000); // the log's own timer does not keep a process up
await recovered.promise;
clearInterval(alive);
for (let i = 0; i < 20; i++) await append();
await log.close();
const bytes = Buffer.concat(
  readdirSync(dir)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .map((name) => readFileSync(join(dir, name))),
);
const gaps = bytes
  .toString()
  .split('\n')
  .filter((line) => line.includes('"type":"gap"'))
  .map((line) => JSON.parse(line) as unknown);
process.stdout.write(JSON.stringify({ written, refused, statuses, chain: checkChain(bytes), gaps }));
