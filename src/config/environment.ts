import { parse } from 'yaml';
import type { z } from 'zod';

import { settingsSchema } from './settings.ts';

/** Variables that name files rather than keys, and those that Kubernetes sets for a service of the name `stepgate`. */
const OTHERS = /^STEPGATE_(?:CONFIG|POLICY|SERVICE_(?:HOST|PORT.*)|PORT(?:_.*)?)$/;

interface Leaf {
  readonly path: readonly string[];
  readonly kind: 'text' | 'list' | 'yaml';
}

/** Every key of the configuration as a variable: `listen.vault.address` is `STEPGATE_LISTEN_VAULT_ADDRESS`. */
const LEAVES: ReadonlyMap<string, Leaf> = new Map(leavesOf(settingsSchema, []).map((leaf) => [`STEPGATE_${leaf.path.join('_').toUpperCase()}`, leaf]));

/** A variable of ours that is none of the configuration's keys, or that cannot be read. */
export interface VariableFault {
  readonly name: string;
  readonly message: string;
}

/** Lays variables over the plain value of a configuration file. Lists are written with commas; maps as YAML. */
export function applyEnvironment(
  value: unknown,
  environment: Readonly<Record<string, string | undefined>>,
): { readonly value: unknown; readonly faults: readonly VariableFault[] } {
  const result: Record<string, unknown> = typeof value === 'object' && value !== null ? structuredClone(value as Record<string, unknown>) : {};
  const faults: VariableFault[] = [];
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith('STEPGATE_') || OTHERS.test(name) || text === undefined) continue;
    const leaf = LEAVES.get(name);
    if (leaf === undefined) {
      faults.push({ name, message: 'is no key of the configuration' });
      continue;
    }
    try {
      setAt(result, leaf.path, leaf.kind === 'text' ? text : leaf.kind === 'list' ? readList(text) : parse(text));
    } catch {
      faults.push({ name, message: 'cannot be read' });
    }
  }
  return { value: result, faults };
}

function readList(text: string): unknown {
  return text.trim().startsWith('[') ? parse(text) : text.split(',').map((part) => part.trim());
}

function setAt(target: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key = '', ...rest] = path;
  if (rest.length === 0) {
    target[key] = value;
    return;
  }
  const inner = typeof target[key] === 'object' && target[key] !== null ? (target[key] as Record<string, unknown>) : {};
  target[key] = inner;
  setAt(inner, rest, value);
}

interface Definition {
  readonly type: string;
  readonly shape?: Readonly<Record<string, z.ZodType>>;
  readonly innerType?: z.ZodType;
  readonly in?: z.ZodType;
}

function leavesOf(schema: z.ZodType, path: readonly string[]): Leaf[] {
  const definition = schema.def as unknown as Definition;
  if (definition.innerType !== undefined) return leavesOf(definition.innerType, path);
  if (definition.in !== undefined) return leavesOf(definition.in, path);
  if (definition.shape !== undefined) return Object.entries(definition.shape).flatMap(([key, inner]) => leavesOf(inner, [...path, key]));
  const kind = definition.type === 'array' ? 'list' : definition.type === 'string' || definition.type === 'enum' ? 'text' : 'yaml';
  return [{ path, kind }];
}
