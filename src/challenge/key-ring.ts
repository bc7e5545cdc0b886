import { createHmac, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';

import { z } from 'zod';

import { CodedError } from '../errors.ts';

/** What a key is used for; each has its own key, derived by HKDF (RFC 5869) from the ring's secrets. */
export type KeyPurpose = 'binding' | 'state' | 'nonce' | 'audit';

/** A key file that cannot be used. */
export class KeyRingError extends CodedError<'key_ring'> {}

/** One generation of keys. */
export interface KeyGeneration {
  readonly id: string;
  /** HMAC-SHA-256 under the key of a purpose. */
  readonly hmac: (purpose: KeyPurpose, data: string) => Buffer;
}

const PURPOSES: readonly KeyPurpose[] = ['binding', 'state', 'nonce', 'audit'];
const SECRET_BYTES = 32;
/** An older generation goes on verifying for this long after the next began: longer than any challenge lives. */
const OVERLAP_MS = 2 * 3_600_000;

const fileSchema = z
  .array(
    z.strictObject({
      id: z.string().regex(/^[A-Za-z0-9_-]{1,32}$/),
      not_before: z.iso.datetime(),
      secret: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
    }),
  )
  .min(1)
  .max(16);

/** The keys that the instances share and that Redis never sees: the newest writes, older ones verify (design.md §6). */
export class KeyRing {
  readonly #generations: readonly { readonly notBeforeMs: number; readonly generation: KeyGeneration }[];

  constructor(keys: readonly { readonly id: string; readonly notBeforeMs: number; readonly secret: Buffer }[]) {
    this.#generations = [...keys]
      .sort((a, b) => b.notBeforeMs - a.notBeforeMs)
      .map(({ id, notBeforeMs, secret }) => ({ notBeforeMs, generation: derive(id, secret) }));
  }

  /** The generations in force, the one that writes first. @throws {KeyRingError} when none has begun */
  active(nowMs: number): readonly [KeyGeneration, ...KeyGeneration[]] {
    const active: KeyGeneration[] = [];
    let successorBegan = Number.POSITIVE_INFINITY;
    for (const { notBeforeMs, generation } of this.#generations) {
      if (notBeforeMs > nowMs) continue;
      if (nowMs - successorBegan > OVERLAP_MS) break;
      active.push(generation);
      successorBegan = notBeforeMs;
    }
    const [newest, ...older] = active;
    if (newest === undefined) throw new KeyRingError('key_ring', 'no key of the key file is in force yet: check not_before and the clock');
    return [newest, ...older];
  }

  byId(id: string): KeyGeneration | undefined {
    return this.#generations.find(({ generation }) => generation.id === id)?.generation;
  }
}

function derive(id: string, secret: Buffer): KeyGeneration {
  const keys = new Map(
    PURPOSES.map((purpose) => [purpose, createSecretKey(Buffer.from(hkdfSync('sha256', secret, 'stepgate', `stepgate-${purpose}-v1`, SECRET_BYTES)))]),
  );
  return {
    id,
    hmac: (purpose, data) =>
      createHmac('sha256', keys.get(purpose) as KeyObject)
        .update(data)
        .digest(),
  };
}

/** Reads a key file: `[{"id","not_before","secret"}]`, secrets of 32 bytes in base64url. @throws {KeyRingError} */
export function parseKeyRing(text: string): KeyRing {
  try {
    const keys = fileSchema.parse(JSON.parse(text));
    if (new Set(keys.map(({ id }) => id)).size !== keys.length) throw new Error('an id is there twice');
    return new KeyRing(keys.map(({ id, not_before, secret }) => ({ id, notBeforeMs: Date.parse(not_before), secret: Buffer.from(secret, 'base64url') })));
  } catch (cause) {
    throw new KeyRingError(
      'key_ring',
      'expected [{"id","not_before","secret"}] with secrets of 32 bytes in base64url: `stepgate keys generate --out FILE` makes one',
      { cause },
    );
  }
}

/** Makes the text of a key file with one new key. */
export function generateKeyFile(nowMs: number, random: (bytes: number) => Buffer): string {
  const key = { id: random(6).toString('base64url'), not_before: new Date(nowMs).toISOString(), secret: random(SECRET_BYTES).toString('base64url') };
  return `${JSON.stringify([key], null, 2)}\n`;
}
