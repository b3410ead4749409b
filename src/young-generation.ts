import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Beyond this a larger one was not seen to make anything faster. */
const maxBytes = 32 * 1024 * 1024;
/** V8's own. */
const growth = 2;

/**
 * Bounds the part of the heap that new objects are made in: by itself it grows to 128 MiB where there is much memory, though
 * nearly all of what a request makes is gone with its answer.
 */
export function boundYoungGeneration(): void {
  // Else what many requests in a row kept until their end is made among the old objects from then on, and stays for long.
  setFlagsFromString("--no-allocation-site-pretenuring");
  let factor = growth;
  const look = (): void => {
    const { space_size: bytes = 0 } = getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space") ?? {};
    const next = bytes < maxBytes ? growth : 1;
    if (next !== factor) setFlagsFromString(`--semi-space-growth-factor=${next}`);
    factor = next;
  };
  // It grows and shrinks with collections only, by one factor at a time.
  new PerformanceObserver(look).observe({ entryTypes: ["gc"] });
}
