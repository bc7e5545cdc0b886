const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** Reads `300ms`, `30s`, `10m`, `1h`, `7d` as milliseconds; null for anything else. */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  return match === null ? null : Number(match[1]) * (DURATION_MS[match[2] ?? ''] ?? Number.NaN);
}

/** Reads `512B`, `64KiB`, `32MiB`, `1GiB` as bytes; null for anything else. */
export function parseSize(text: string): number | null {
  const match = /^(\d{1,9})(B|KiB|MiB|GiB)$/.exec(text);
  return match === null ? null : Number(match[1]) * (SIZE_BYTES[match[2] ?? ''] ?? Number.NaN);
}
