import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { generateKeyFile } from '../../src/challenge/key-ring.ts';
import { loadSettings } from '../../src/config/load.ts';
import { freePort } from '../../src/demo/dev-server.ts';
import { systemHost } from '../../src/host.ts';
import { serve } from '../../src/main.ts';
import { openLog } from '../../src/telemetry/log.ts';

/** Stepgate as it is served: strict front end, classification, token HMAC, audit on disk before the effect. */
const dir = mkdtempSync(join(tmpdir(), 'stepgate-bench-'));
const port = await freePort();
writeFileSync(join(dir, 'keys.json'), generateKeyFile(systemHost.now(), systemHost.random));
writeFileSync(
  join(dir, 'policy.yaml'),
  `version: 1
tiers: [{name: open}, {name: forbidden, deny: no}]
default_tier: open
unknown_mount: forbidden
system: {admin: forbidden, exits: forbidden}
rules:
${Array.from({ length: 1000 }, (_, i) => `  - {secret: secret/team${i}/prod/*, tier: forbidden}`).join('\n')}
`,
);
writeFileSync(
  join(dir, 'stepgate.yaml'),
  `version: 1
public_url: http://127.0.0.1:${port}
listen: {vault: {address: "127.0.0.1:${port}"}}
upstream: {nodes: ["${process.argv[2]}"], mounts: {"secret/": kv-v2}, namespaces: []}
challenges: {store: memory}
keys: keys.json
audit: {dir: audit}
log: {level: silent}
`,
);
const served = await serve({
  loaded: loadSettings(join(dir, 'stepgate.yaml'), {}),
  policyFile: join(dir, 'policy.yaml'),
  host: systemHost,
  log: openLog('silent'),
});
process.on('SIGTERM', () => void served.close().then(() => process.exit(0)));
process.stdout.write(`${served.port}\n`);
