// How much of what could be tried a run of the tests tries: a part that is another one for each commit. CRASH_SHARE=1: all.

/** In (0, 1]. */
export const share = Number(process.env.CRASH_SHARE ?? 0.2);
/** The same for all runs of one commit, else of one day. */
export const sampleSeed = process.env.GITHUB_SHA ?? new Date().toISOString().slice(0, 10);
