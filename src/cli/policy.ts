import { Command, InvalidArgumentError } from 'commander';

import { loadSettings } from '../config/load.ts';
import { explain } from '../policy/explain.ts';
import { loadPolicy } from '../policy/load.ts';
import { MountTable } from '../vault/mounts.ts';

interface Options {
  readonly policy: string;
  readonly config?: string;
  readonly namespace?: string;
  readonly mount: Readonly<Record<string, string>>;
  readonly json?: true;
}

/** `stepgate policy explain`: why a request gets its tier. */
export function policyCommand(): Command {
  const explainCommand = new Command('explain')
    .description('say which tier a request gets, by which rule, and why')
    .argument('<method>', 'GET, LIST, POST, PUT, PATCH, DELETE …')
    .argument('<path>', 'API path, with or without /v1/, with its query')
    .option('--policy <file>', 'the policy', process.env['STEPGATE_POLICY'] ?? 'config/policy.yaml')
    .option('--config <file>', 'take the mounts and namespaces that this configuration names')
    .option('--namespace <namespace>', 'as X-Vault-Namespace')
    .option('--mount <path=type>', 'a mount, such as secret/=kv-v2 (several times)', readMount, {})
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  stepgate policy explain GET secret/data/payments/prod/db --mount secret/=kv-v2
  stepgate policy explain LIST secret/metadata/payments --config config/stepgate.yaml
  stepgate policy explain PUT sys/policies/acl/ci --json`,
    )
    .action((method: string, path: string, options: Options) => {
      const { policy } = loadPolicy(options.policy);
      const configured = options.config === undefined ? undefined : loadSettings(options.config, process.env).settings.upstream;
      const table = new MountTable(
        Object.entries({ ...configured?.mounts, ...options.mount }),
        configured?.namespaces ?? (options.namespace === undefined ? [] : [options.namespace]),
      );
      const explanation = explain(policy, table, { method, path, namespace: options.namespace });
      process.stdout.write(options.json === true ? `${JSON.stringify(explanation, null, 2)}\n` : `${explanation.lines.join('\n')}\n`);
    });
  return new Command('policy').description('ask the policy').addCommand(explainCommand);
}

function readMount(text: string, before: Readonly<Record<string, string>>): Record<string, string> {
  const [path = '', type = ''] = text.split('=');
  if (path === '' || type === '') throw new InvalidArgumentError('expected path=type, such as secret/=kv-v2.');
  return { ...before, [path]: type };
}
