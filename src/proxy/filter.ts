import { z } from 'zod';

const errorsOnly = z.strictObject({ errors: z.array(z.string()) });

/**
 * What may be passed on of a gated request's answer that is no success: `{"errors":[…]}` and nothing else, else that
 * something was left out. A deleted version's 404 holds metadata, a broken upstream may hold anything (design.md §6).
 */
export function filteredBody(status: number, body: Buffer | undefined): { readonly status: number; readonly bytes: Buffer } {
  if (body?.length === 0 && status >= 400) return { status, bytes: body };
  if (status >= 300 && status < 400) return { status: 502, bytes: errors('the Vault server redirected a gated request') };
  if (body !== undefined) {
    try {
      if (errorsOnly.safeParse(JSON.parse(body.toString('utf8'))).success) return { status, bytes: body };
    } catch {
      // not JSON
    }
  }
  return { status, bytes: status === 404 ? errors() : errors(`the Vault server answered ${status} with a body that is not passed on for a gated request`) };
}

function errors(...texts: string[]): Buffer {
  return Buffer.from(`${JSON.stringify({ errors: texts })}\n`);
}
