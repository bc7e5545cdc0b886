import { AuditLog } from '../../src/audit/log.ts';
import { systemHost } from '../../src/host.ts';

const log = await AuditLog.open({ dir: process.argv[2] ?? '', ...systemHost, start: {}, onStatus: () => {} });
const run = systemHost.random(4).toString('hex');
for (let n = 0; ; n += 8) {
  await Promise.all(
    Array.from({ length: 8 }, async (_, i) => {
      const id = `${run}-${n + i}`;
      await log.append({ type: 'decision', request_id: id, filler: 'x'.repeat(300) });
      process.stdout.write(`${id}\n`);
    }),
  );
}
