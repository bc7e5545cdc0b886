import { describe, expect, test } from 'vitest';

import { generateKeyFile, KeyRing, KeyRingError, parseKeyRing } from '../../src/challenge/key-ring.ts';
import { systemHost } from '../../src/host.ts';

const HOUR = 3_600_000;
const ring = new KeyRing([
  { id: 'new', notBeforeMs: 10 * HOUR, secret: Buffer.alloc(32, 2) },
  { id: 'old', notBeforeMs: 0, secret: Buffer.alloc(32, 1) },
]);
const idsAt = (hours: number) => ring.active(hours * HOUR).map(({ id }) => id);

describe('the key ring', () => {
  test('the newest key that has begun writes, the one before verifies for two hours more', () => {
    expect(idsAt(9)).toEqual(['old']);
    expect(idsAt(10)).toEqual(['new', 'old']);
    expect(idsAt(12)).toEqual(['new', 'old']);
    expect(idsAt(12.1)).toEqual(['new']);
    expect(() => ring.active(-1)).toThrow(KeyRingError);
  });

  test('each purpose and each generation has its own key', () => {
    const [newest, older] = ring.active(11 * HOUR);
    const macs = [newest, older].flatMap((key) => (['binding', 'state', 'nonce', 'audit'] as const).map((purpose) => key?.hmac(purpose, 'x').toString('hex')));
    expect(new Set(macs).size).toBe(8);
  });

  test('reads what it generates, and nothing weaker', () => {
    const text = generateKeyFile(0, systemHost.random);
    expect(parseKeyRing(text).active(1)[0].id).toMatch(/^[A-Za-z0-9_-]{8}$/);
    const [key] = JSON.parse(text) as { id: string; not_before: string; secret: string }[];
    for (const bad of [
      '',
      '{}',
      '[]',
      JSON.stringify([{ ...key, secret: 'short' }]),
      JSON.stringify([key, key]),
      JSON.stringify([{ ...key, extra: 1 }]),
      JSON.stringify([{ ...key, not_before: 'soon' }]),
    ]) {
      expect(() => parseKeyRing(bad), bad).toThrow(KeyRingError);
    }
  });
});
