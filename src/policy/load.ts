import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

import { checkDocument, type Document, DocumentError, type Finding, readDocument } from '../document.ts';
import { JwksError, MAX_JWKS_BYTES, parseJwks } from '../identity/jwks.ts';
import type { IssuerKey, Proof } from '../identity/proof.ts';
import { compilePolicy, type Policy } from './policy.ts';
import { LATER_POLICY_KEYS, type PolicySource, policySchema } from './schema.ts';

const MAX_POLICY_BYTES = 64 * 1024 * 1024;
const DEFAULT_LIFETIME_MS = 900_000;
const DEFAULT_SKEW_MS = 30_000;

/** A policy, and the files that it is made of: a change of any is a reason to load it anew. */
export interface LoadedPolicy {
  readonly policy: Policy;
  readonly files: readonly string[];
}

/** Reads, checks and compiles a policy file with the key sets that it names. @throws {DocumentError} */
export function loadPolicy(file: string): LoadedPolicy {
  const document = readDocument(file, MAX_POLICY_BYTES);
  const source = checkDocument(document, policySchema, LATER_POLICY_KEYS);
  const keySets = Object.values(source.proofs).map((proof) => resolve(dirname(file), proof.jwks_file));
  return { policy: compilePolicy(document, source, loadProofs(document, source)), files: [file, ...keySets] };
}

function loadProofs(document: Document, source: PolicySource): Map<string, Proof> {
  const proofs = new Map<string, Proof>();
  const findings: Finding[] = [];
  for (const [name, proof] of Object.entries(source.proofs)) {
    try {
      proofs.set(name, {
        issuer: proof.issuer,
        algorithms: proof.algs,
        nonceIn: proof.nonce_in,
        audience: proof.audience,
        acr: proof.acr,
        amr: proof.amr,
        match: Object.fromEntries(Object.entries(proof.match ?? {}).map(([claim, value]) => [claim, typeof value === 'string' ? [value] : value])),
        typ: proof.typ,
        maxLifetimeMs: proof.max_lifetime ?? DEFAULT_LIFETIME_MS,
        clockSkewMs: proof.clock_skew ?? DEFAULT_SKEW_MS,
        keys: loadKeys(resolve(dirname(document.file), proof.jwks_file)),
      });
    } catch (error) {
      findings.push(document.finding(['proofs', name, 'jwks_file'], reasonOf(error)));
    }
  }
  if (findings.length > 0) throw new DocumentError(findings);
  return proofs;
}

function loadKeys(file: string): ReadonlyMap<string, IssuerKey> {
  if (statSync(file).size > MAX_JWKS_BYTES) throw new JwksError('jwks', `is larger than ${MAX_JWKS_BYTES} bytes`);
  return parseJwks(readFileSync(file, 'utf8'));
}

function reasonOf(error: unknown): string {
  if (error instanceof JwksError) return `the key set cannot be used: ${error.message}`;
  return `the key set cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`;
}
