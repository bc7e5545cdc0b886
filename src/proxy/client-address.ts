import { BlockList, isIPv4, isIPv6 } from 'node:net';

/** Addresses of load balancers whose `X-Forwarded-For` is believed. */
export type TrustedProxies = BlockList;

/** Reads addresses and CIDR ranges; null for one that is neither. */
export function parseTrustedProxies(ranges: readonly string[]): TrustedProxies | null {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIPv4(address) ? 'ipv4' : isIPv6(address) ? 'ipv6' : null;
    if (family === null) return null;
    const prefix = bits === undefined ? (family === 'ipv4' ? 32 : 128) : Number(bits);
    if (!/^\d{1,3}$/.test(bits ?? '0') || prefix > (family === 'ipv4' ? 32 : 128)) return null;
    list.addSubnet(address, prefix, family);
  }
  return list;
}

/** The client's address: the rightmost one that no trusted proxy has, of the connection and `X-Forwarded-For`. */
export function clientAddress(peer: string, headers: readonly (readonly [string, string])[], trusted: TrustedProxies): string {
  const direct = plain(peer);
  if (!isTrusted(trusted, direct)) return direct;
  const hops = headers.filter(([name]) => name.toLowerCase() === 'x-forwarded-for').flatMap(([, value]) => value.split(',').map((hop) => plain(hop.trim())));
  for (const hop of hops.reverse()) {
    if (!isIPv4(hop) && !isIPv6(hop)) return direct;
    if (!isTrusted(trusted, hop)) return hop;
  }
  return direct;
}

function plain(address: string): string {
  return address.startsWith('::ffff:') && isIPv4(address.slice(7)) ? address.slice(7) : address;
}

function isTrusted(trusted: TrustedProxies, address: string): boolean {
  return isIPv4(address) ? trusted.check(address, 'ipv4') : isIPv6(address) && trusted.check(address, 'ipv6');
}
