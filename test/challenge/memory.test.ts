import { MemoryStore } from '../../src/challenge/memory.ts';
import { storeContract } from './store.contract.ts';

storeContract(async (leaseMs) => {
  let now = 1_700_000_000_000;
  return {
    store: new MemoryStore({ limits: { perBinding: 3, perAddress: 5, total: 60 }, times: { leaseMs, graceMs: 60_000, maxAttempts: 3 }, now: () => now }),
    elapse: async (ms) => {
      now += ms;
    },
    now: () => now,
    close: async () => {},
  };
});
