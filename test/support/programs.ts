import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { TestProject } from 'vitest/node';

import { findTool, REDIS, VAULT } from '../../src/demo/tools.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Program of a real OpenBao or Vault. */
    vaultProgram: string;
    /** Program of a real Redis or Valkey. */
    redisProgram: string;
    /** Folder with Python's hvac, for PYTHONPATH. */
    hvac: string;
  }
}

/** Finds, or fetches once, the real servers that the tests run against. */
export default async function setup(project: TestProject): Promise<void> {
  const dir = join(process.cwd(), '.tools');
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  project.provide('vaultProgram', await findTool(VAULT, dir, say));
  project.provide('redisProgram', await findTool(REDIS, dir, say));
  project.provide('hvac', installHvac(join(dir, 'hvac-2.4.0'), say));
}

function installHvac(home: string, say: (line: string) => void): string {
  if (existsSync(join(home, 'hvac'))) return home;
  say('fetching hvac 2.4.0 from the Python Package Index (once) …');
  const { status, stderr } = spawnSync('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', home, 'hvac==2.4.0'], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`hvac cannot be had: ${stderr.trim().split('\n').at(-1) ?? ''}`);
  return home;
}
