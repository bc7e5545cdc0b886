import { bindToken } from '../challenge/fingerprint.ts';
import type { KeyRing } from '../challenge/key-ring.ts';

const MAX_REMEMBERED = 4096;
/** A longer one is no token that a server made. */
const MAX_REMEMBERED_CHARS = 512;

/** Hashes callers' tokens for the log; a runner sends the same one again and again, so the last few thousand are remembered. */
export function createTokenHmac(keys: KeyRing, now: () => number): (token: string) => string {
  let keyId = '';
  const remembered = new Map<string, string>();
  return (token) => {
    const [key] = keys.active(now());
    if (key.id !== keyId || remembered.size >= MAX_REMEMBERED) {
      remembered.clear();
      keyId = key.id;
    }
    let hmac = remembered.get(token);
    if (hmac === undefined) {
      hmac = bindToken(key, token);
      if (token.length <= MAX_REMEMBERED_CHARS) remembered.set(token, hmac);
    }
    return hmac;
  };
}
