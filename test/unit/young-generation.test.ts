import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

/** In a process of its own: how large the space for new objects gets while many live for a while, turn by turn. */
const source = `
  import { getHeapSpaceStatistics } from "node:v8";
  import { setImmediate } from "node:timers/promises";
  if (process.argv[1] === "bounded") {
    const { boundYoungGeneration } = await import("./src/young-generation.ts");
    boundYoungGeneration();
  }
  const kept = [];
  let most = 0;
  for (let turn = 0; turn < 600; turn += 1) {
    for (let one = 0; one < 5_000; one += 1) kept[(turn * 5_000 + one) % 60_000] = { turn, text: "text " + one, list: [turn, one] };
    await setImmediate();
    most = Math.max(most, getHeapSpaceStatistics().find((space) => space.space_name === "new_space").space_size);
  }
  console.log(most / 2 ** 20);
`;

function mostMiB(how: "bounded" | "left alone"): number {
  // Node sizes it by the machine's memory: here as on one that has much.
  const args = ["--max-semi-space-size=64", "--input-type=module", "--eval", source, how];
  return Number(execFileSync(process.execPath, args, { cwd: join(import.meta.dirname, "../.."), encoding: "utf8" }));
}

test("the space for new objects stays small, in which much memory would be held for nothing", () => {
  assert.ok(mostMiB("left alone") >= 64, "else nothing would be shown by the other one");
  const bounded = mostMiB("bounded");
  assert.ok(bounded >= 16 && bounded <= 48, `${bounded} MiB`);
});
