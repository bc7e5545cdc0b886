import { join } from 'node:path';

import type { TestProject } from 'vitest/node';

import { findTool, REDIS, VAULT } from '../../src/demo/tools.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Program of a real OpenBao or Vault. */
    vaultProgram: string;
    /** Program of a real Redis or Valkey. */
    redisProgram: string;
  }
}

/** Finds, or fetches once, the real servers that the tests run against. */
export default async function setup(project: TestProject): Promise<void> {
  const dir = join(process.cwd(), '.tools');
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  project.provide('vaultProgram', await findTool(VAULT, dir, say));
  project.provide('redisProgram', await findTool(REDIS, dir, say));
}
