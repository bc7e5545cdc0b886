import { unwatchFile, watchFile } from 'node:fs';

import { DocumentError } from '../document.ts';
import { loadPolicy } from './load.ts';
import { loosenings } from './loosening.ts';
import type { Policy } from './policy.ts';

/** What became of a reload. */
export type Reload =
  /** `loosened` names what is less strict than before. */
  { readonly kind: 'loaded'; readonly policy: Policy; readonly loosened: readonly string[] } | { readonly kind: 'refused'; readonly error: DocumentError };

/** The policy file, and who hears of its reloads. */
export interface WatchOptions {
  readonly file: string;
  readonly onReload: (reload: Reload) => void;
}

const POLL_MS = 500;
const SETTLE_MS = 700;

/** The policy in force: reloaded when one of its files changes or on request, all or nothing; the last good one is kept. */
export class PolicyWatch {
  readonly #options: WatchOptions;
  #policy: Policy;
  #watched: readonly string[] = [];
  #settling: NodeJS.Timeout | undefined;
  /** A file that is still being written may be a valid, laxer policy: it must have been quiet for a moment. */
  readonly #onChange = (): void => {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.reload(), SETTLE_MS);
    this.#settling.unref();
  };

  /** Loads the policy for the first time. @throws {DocumentError} */
  constructor(options: WatchOptions) {
    this.#options = options;
    const { policy, files } = loadPolicy(options.file);
    this.#policy = policy;
    this.#watch(files);
  }

  /** The policy in force. */
  current(): Policy {
    return this.#policy;
  }

  /** Loads the files anew and swaps the policy whole, or keeps it. */
  reload(): Reload {
    const result = this.#load();
    if (result.kind === 'loaded') this.#policy = result.policy;
    this.#options.onReload(result);
    return result;
  }

  close(): void {
    clearTimeout(this.#settling);
    for (const file of this.#watched) unwatchFile(file, this.#onChange);
    this.#watched = [];
  }

  #load(): Reload {
    try {
      const { policy, files } = loadPolicy(this.#options.file);
      this.#watch(files);
      return { kind: 'loaded', policy, loosened: loosenings(this.#policy, policy) };
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      return { kind: 'refused', error };
    }
  }

  #watch(files: readonly string[]): void {
    this.close();
    this.#watched = files;
    // Polled: a mounted ConfigMap changes by swapping links, which change events miss.
    for (const file of this.#watched) watchFile(file, { interval: POLL_MS, persistent: false }, this.#onChange);
  }
}
