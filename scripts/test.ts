// All tests, folder by folder (a folder is what its tests need); `npm test -- unit store` runs only those,
// `npm test -- test/unit/arn.test.ts` only that file.
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";

const folders = ["unit", "store", "targets", "e2e", "crash"];
const asked = process.argv.slice(2);
const files = (asked.length > 0 ? asked : folders).flatMap((name) =>
  name.endsWith(".ts") ? [name] : globSync(`test/${name}/**/*.test.ts`).sort(),
);
// Much of a test is waiting for servers.
const atOnce = 2 * availableParallelism();
const args = [
  "--test",
  `--test-concurrency=${atOnce}`,
  "--test-timeout=600000",
  "--import=./scripts/test-limit.ts",
  "--disable-warning=ExperimentalWarning",
  ...files,
];
// Hundreds of programs are started: they share what one of them has compiled.
const env = { NODE_COMPILE_CACHE: resolve("node_modules/.cache/compiled"), ...process.env };
process.exit(spawnSync(process.execPath, args, { stdio: "inherit", env }).status ?? 1);
