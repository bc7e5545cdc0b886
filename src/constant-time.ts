import { createHash, timingSafeEqual } from 'node:crypto';

/** Compares two texts in a time that does not tell where they differ, nor how long they are. */
export function equalTexts(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
