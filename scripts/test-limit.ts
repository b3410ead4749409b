// Loaded before each file of tests: one that does not come to its end (a server that a failed test left open is enough) fails
// alone and says what it waits for, instead of holding up all the others for ever.
import { argv, exit, getActiveResourcesInfo } from "node:process";
import { after } from "node:test";

/** Several times what the longest takes on a slow machine. */
const limitMinutes = 15;
/** From its last test to its end: what its own `after` hooks take, and more. */
const endMinutes = 2;

function endWithin(minutes: number, what: string): void {
  setTimeout(() => {
    console.error(`${argv[1]}: ${what} after ${minutes} minutes; still there: ${getActiveResourcesInfo().join(", ")}`);
    exit(1);
  }, minutes * 60_000).unref();
}

endWithin(limitMinutes, "not through its tests");
after(() => endWithin(endMinutes, "its tests are done, but it does not end"));
