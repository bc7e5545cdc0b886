import type { Challenge, ChallengeLimits, ChallengeStore, FinishResult, Opening, OpenResult, Reservation, ReserveResult, StoreTimes } from './store.ts';

interface Record {
  readonly challenge: Challenge;
  readonly binding: string;
  readonly address: string;
  reservation: string | undefined;
  leaseUntilMs: number;
  attempts: number;
}

interface Spent {
  readonly reservation: string;
  readonly untilMs: number;
}

const SWEEP_EVERY = 256;

/** The challenge store of one process: nothing outlives it, and no other instance sees it. Said so at start. */
export class MemoryStore implements ChallengeStore {
  readonly #limits: ChallengeLimits;
  readonly #times: StoreTimes;
  readonly #now: () => number;
  readonly #open = new Map<string, Record>();
  readonly #spent = new Map<string, Spent>();
  #opens = 0;

  constructor(options: { readonly limits: ChallengeLimits; readonly times: StoreTimes; readonly now: () => number }) {
    this.#limits = options.limits;
    this.#times = options.times;
    this.#now = options.now;
  }

  readonly find = async (fingerprint: string): Promise<Challenge | undefined> => this.#live(fingerprint)?.challenge;

  readonly open = async ({ challenge, binding, address, replaces }: Opening): Promise<OpenResult> => {
    const existing = this.#live(challenge.fingerprint);
    if (existing !== undefined && (existing.challenge.challengeId !== replaces || existing.reservation !== undefined))
      return { kind: 'existing', challenge: existing.challenge };
    this.#open.delete(challenge.fingerprint);
    if (++this.#opens % SWEEP_EVERY === 0 || this.#open.size >= this.#limits.total) this.#sweep();
    if (
      this.#open.size >= this.#limits.total ||
      this.#count('binding', binding) >= this.#limits.perBinding ||
      this.#count('address', address) >= this.#limits.perAddress
    ) {
      return { kind: 'too_many' };
    }
    this.#open.set(challenge.fingerprint, { challenge, binding, address, reservation: undefined, leaseUntilMs: 0, attempts: 0 });
    return { kind: 'opened', challenge };
  };

  readonly reserve = async ({ fingerprint, nonceHash, reservation }: Reservation): Promise<ReserveResult> => {
    const now = this.#now();
    if (this.#spent.has(spentKey(fingerprint, nonceHash))) return refused('spent');
    const record = this.#open.get(fingerprint);
    if (record === undefined || record.challenge.nonceHash !== nonceHash) return refused('unknown');
    if (record.reservation === reservation) return { kind: 'reserved', attempt: record.attempts, challenge: record.challenge };
    if (record.reservation !== undefined) {
      if (now <= record.leaseUntilMs) return refused('inflight');
      this.#spend(record, record.reservation);
      return refused('indoubt');
    }
    if (now > record.challenge.expiresAtMs) return refused('expired');
    if (record.attempts >= this.#times.maxAttempts) return refused('attempts');
    record.reservation = reservation;
    record.leaseUntilMs = now + this.#times.leaseMs;
    record.attempts++;
    return { kind: 'reserved', attempt: record.attempts, challenge: record.challenge };
  };

  readonly commit = async ({ fingerprint, nonceHash, reservation }: Reservation): Promise<FinishResult> => {
    if (this.#spent.get(spentKey(fingerprint, nonceHash))?.reservation === reservation) return 'done';
    const record = this.#held(fingerprint, nonceHash, reservation);
    if (record === undefined) return 'stale';
    this.#spend(record, reservation);
    return 'done';
  };

  readonly release = async ({ fingerprint, nonceHash, reservation }: Reservation): Promise<FinishResult> => {
    const record = this.#held(fingerprint, nonceHash, reservation);
    if (record === undefined) return 'stale';
    record.reservation = undefined;
    return 'done';
  };

  readonly status = (): { usable: boolean; reason: string } => ({ usable: true, reason: 'memory store: one process only' });

  readonly close = async (): Promise<void> => {};

  #held(fingerprint: string, nonceHash: string, reservation: string): Record | undefined {
    const record = this.#open.get(fingerprint);
    return record !== undefined && record.challenge.nonceHash === nonceHash && record.reservation === reservation ? record : undefined;
  }

  #live(fingerprint: string): Record | undefined {
    const record = this.#open.get(fingerprint);
    return record !== undefined && this.#isLive(record) ? record : undefined;
  }

  #isLive(record: Record): boolean {
    const now = this.#now();
    return record.reservation === undefined ? now <= record.challenge.expiresAtMs && record.attempts < this.#times.maxAttempts : now <= record.leaseUntilMs;
  }

  #spend(record: Record, reservation: string): void {
    const { fingerprint, nonceHash, expiresAtMs } = record.challenge;
    this.#open.delete(fingerprint);
    this.#spent.set(spentKey(fingerprint, nonceHash), { reservation, untilMs: Math.max(expiresAtMs, this.#now()) + this.#times.graceMs });
  }

  #count(by: 'binding' | 'address', value: string): number {
    let count = 0;
    for (const record of this.#open.values()) if (record[by] === value && this.#isLive(record)) count++;
    return count;
  }

  #sweep(): void {
    const now = this.#now();
    for (const [key, record] of this.#open) {
      if (this.#isLive(record)) continue;
      if (record.reservation !== undefined) this.#spend(record, record.reservation);
      else if (now > record.challenge.expiresAtMs + this.#times.graceMs) this.#open.delete(key);
    }
    for (const [key, { untilMs }] of this.#spent) if (now > untilMs) this.#spent.delete(key);
  }
}

function refused(reason: Extract<ReserveResult, { kind: 'refused' }>['reason']): ReserveResult {
  return { kind: 'refused', reason };
}

function spentKey(fingerprint: string, nonceHash: string): string {
  return `${fingerprint}:${nonceHash}`;
}
