// Compiles src/ to dist/ for publishing, and builds the functions of AWS Lambda into dist/lambda/.
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, rmSync } from "node:fs";

rmSync("dist", { recursive: true, force: true });
let done = spawnSync("node_modules/.bin/tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit" });
if (done.status === 0) {
  chmodSync("dist/cli.js", 0o755);
  copyFileSync("src/functions/python-bootstrap.py", "dist/functions/python-bootstrap.py");
  cpSync("src/functions/templates", "dist/functions/templates", { recursive: true });
  done = spawnSync(process.execPath, ["scripts/build-lambda.ts"], { stdio: "inherit" });
}
process.exit(done.status ?? 1);
