// How much of what could be tried a run of the tests tries: a part that is another one for each commit. CRASH_SHARE=1: all.

import { seeded } from "./random.ts";

/** In (0, 1]. */
export const share = Number(process.env.CRASH_SHARE ?? 0.2);
/** The same for all runs of one commit, else of one day. */
export const sampleSeed = process.env.GITHUB_SHA ?? new Date().toISOString().slice(0, 10);

/** So many of these, in their order; with CRASH_SHARE=1 all. `about` tells samples of one run apart. */
export function sampleOf<T>(all: readonly T[], count: number, about: string): readonly T[] {
  if (share === 1) return all;
  const random = seeded(`${sampleSeed} ${about}`);
  const order = new Map(all.map((one) => [one, random()]));
  const chosen = new Set(all.toSorted((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0)).slice(0, count));
  return all.filter((one) => chosen.has(one));
}
