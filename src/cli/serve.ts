import { Command } from 'commander';

import { loadSettings } from '../config/load.ts';
import { systemHost } from '../host.ts';
import { serve } from '../main.ts';
import { openLog } from '../telemetry/log.ts';

/** `stepgate serve`: the proxy, until SIGTERM or SIGINT. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the proxy')
    .option('--config <file>', 'how this instance runs', process.env['STEPGATE_CONFIG'] ?? 'config/stepgate.yaml')
    .option('--policy <file>', 'which paths belong to which tier', process.env['STEPGATE_POLICY'] ?? 'config/policy.yaml')
    .addHelpText(
      'after',
      `
Signals: SIGHUP reloads policy and certificates, SIGTERM and SIGINT finish what is under way (30 s) and end.
Every key of the configuration is also a variable: listen.vault.address is STEPGATE_LISTEN_VAULT_ADDRESS.

Example:
  stepgate serve --config config/stepgate.yaml --policy config/policy.yaml`,
    )
    .action(async (options: { config: string; policy: string }) => {
      const loaded = loadSettings(options.config, process.env);
      const log = openLog(loaded.settings.log.level);
      const served = await serve({ loaded, policyFile: options.policy, host: systemHost, log });
      process.on('SIGHUP', () => served.reload());
      await new Promise<void>((resolve) => {
        process.once('SIGTERM', resolve);
        process.once('SIGINT', resolve);
      });
      log.info('draining');
      await served.close();
      log.info('ended');
    });
}
