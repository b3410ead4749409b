// Loaded before each file of tests: one that does not come to its end (a server that a failed test left open is enough) fails
// alone and says what it waits for, instead of holding up all the others for ever.
import { argv, exit, getActiveResourcesInfo } from "node:process";

/** Several times what the longest takes on a slow machine. */
const limitMinutes = 15;

setTimeout(() => {
  console.error(`${argv[1]}: not at its end after ${limitMinutes} minutes; still there: ${getActiveResourcesInfo().join(", ")}`);
  exit(1);
}, limitMinutes * 60_000).unref();
