import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

import { checkDocument, type Document, DocumentError, type Finding, readDocument } from '../document.ts';
import { applyEnvironment } from './environment.ts';
import { LATER_SETTINGS_KEYS, type Settings, settingsSchema } from './settings.ts';

const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_INCLUDED_BYTES = 64 * 1024;

/** A configuration with the folder that its relative paths start from. */
export interface LoadedSettings {
  readonly settings: Settings;
  /** Makes a path of the file absolute. */
  readonly resolve: (path: string) => string;
  /** The error that a setting, such as `keys` or `listen.vault.tls.cert`, turned out not to be usable. */
  readonly fault: (key: string, message: string) => DocumentError;
}

/** Reads a configuration file, with variables laid over it. @throws {DocumentError} with every finding */
export function loadSettings(file: string, environment: Readonly<Record<string, string | undefined>>): LoadedSettings {
  const document = readDocument(file, MAX_CONFIG_BYTES);
  const findings: Finding[] = [];
  const included = include(document, document.value, [], findings);
  const { value, faults } = applyEnvironment(included, environment);
  findings.push(...faults.map(({ name, message }) => ({ file: 'environment', line: 0, column: 0, key: name, message })));
  if (findings.length > 0) throw new DocumentError(findings);
  const settings = checkDocument(document, settingsSchema, LATER_SETTINGS_KEYS, value);
  checkListeners(document, settings);
  return {
    settings,
    resolve: (path) => resolve(dirname(file), path),
    fault: (key, message) => new DocumentError([document.finding(key.split('.'), message)]),
  };
}

/** Replaces `${file:PATH}` in texts by what the file holds, so that secrets stay out of the configuration. */
function include(document: Document, value: unknown, path: readonly PropertyKey[], findings: Finding[]): unknown {
  if (typeof value === 'string') {
    return value.replace(/\$\{file:([^}]+)\}/g, (_, name: string) => {
      try {
        const full = resolve(dirname(document.file), name);
        if (statSync(full).size > MAX_INCLUDED_BYTES) throw new Error('too large');
        return readFileSync(full, 'utf8').trim();
      } catch {
        findings.push(document.finding(path, `the file ${name} cannot be read`));
        return '';
      }
    });
  }
  if (Array.isArray(value)) return value.map((inner, i) => include(document, inner, [...path, i], findings));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, include(document, inner, [...path, key], findings)]));
  return value;
}

function checkListeners(document: Document, settings: Settings): void {
  const { vault, ops } = settings.listen;
  const findings: Finding[] = [];
  if (vault.tls === undefined && vault.insecure !== true && !isLoopback(vault.address.host)) {
    findings.push(document.finding(['listen', 'vault', 'address'], 'expected tls, or insecure: true, for an address that is not loopback'));
  }
  if (ops !== undefined && ops.address.port !== 0 && ops.address.port === vault.address.port && ops.address.host === vault.address.host) {
    findings.push(document.finding(['listen', 'ops', 'address'], 'is the address of the vault listener'));
  }
  if (settings.challenges.store === 'redis' && settings.keys === undefined) {
    findings.push(document.finding(['keys'], 'expected a key file with the store redis: `stepgate keys generate --out keys.json` makes one'));
  }
  if (findings.length > 0) throw new DocumentError(findings);
}

/** Whether an address is reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}
