// Style, types and dead code, in one word: `npm run check` (and `npm run fix` to mend what can be mended).
import { spawnSync } from "node:child_process";

const fix = process.argv.includes("--fix");
const steps = [
  ["biome", fix ? ["check", "--write", "."] : ["ci", "."]],
  ["tsc", ["--noEmit"]],
  ["knip", []],
] as const;

let failed = false;
for (const [tool, args] of steps) {
  const done = spawnSync(`node_modules/.bin/${tool}`, args, { stdio: "inherit" });
  console.log(`${done.status === 0 ? "ok    " : "failed"} ${tool}`);
  failed ||= done.status !== 0;
}
process.exit(failed ? 1 : 0);
