import type { AuditLog } from '../audit/log.ts';
import type { Gate } from '../gate/gate.ts';
import type { Policy } from '../policy/policy.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { MountDirectory } from '../upstream/mounts.ts';
import type { UpstreamNodes } from '../upstream/nodes.ts';
import type { TrustedProxies } from './client-address.ts';

/** What the pipeline works with; the composition root builds them. */
export interface PipelineParts {
  /** The policy in force; asked once a request. */
  readonly policy: () => Policy;
  readonly mounts: MountDirectory;
  readonly gate: Gate;
  readonly nodes: UpstreamNodes;
  readonly audit: AuditLog;
  readonly metrics: Metrics;
  readonly trusted: TrustedProxies;
  /** Hash of a caller's token under a key of the instances, for the log; changes with the keys. */
  readonly tokenHmac: (token: string) => string;
  readonly audience: string;
  readonly now: () => number;
  readonly monotonicNs: () => bigint;
  readonly random: (bytes: number) => Buffer;
}
