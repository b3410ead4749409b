// The functions' zips, built once for as long as their sources stay the same, and the Node.js versions that run them.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundleLambda } from "../../scripts/lambda/bundle.ts";
import { unlessCi } from "./server-process.ts";

const repository = join(import.meta.dirname, "../..");
const cached = join(repository, "node_modules", ".cache", "lambda-zips");
const keptMs = 24 * 3_600_000;

interface BuiltFunction {
  readonly zip: Uint8Array;
  /** As its status tells. */
  readonly build: string;
}

/** As `npm run build:lambda` makes it. `version`: another one gives other code that does the same. */
export async function lambdaZip(kind: string, version = "0.1.0"): Promise<BuiltFunction> {
  const folder = join(cached, hashOfSources());
  const file = join(folder, `${kind}-${version}`);
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true });
    forgetOld();
    const { zip, build } = await bundleLambda(repository, kind, version);
    const own = `${file}.${process.pid}`;
    writeFileSync(own, Buffer.concat([Buffer.from(build, "latin1"), zip]));
    renameSync(own, file);
  }
  const bytes = readFileSync(file);
  return { build: bytes.toString("latin1", 0, 43), zip: bytes.subarray(43) };
}

function hashOfSources(): string {
  const all = createHash("sha256");
  const files = globSync(["src/{core,crypto,targets,functions}/**/*.ts", "scripts/lambda/*.ts", "package-lock.json"], {
    cwd: repository,
  });
  for (const file of files.sort())
    all
      .update(file)
      .update("\0")
      .update(readFileSync(join(repository, file)))
      .update("\0");
  return all.digest("hex").slice(0, 32);
}

function forgetOld(): void {
  for (const name of readdirSync(cached)) {
    const folder = join(cached, name);
    if (Date.now() - statSync(folder).mtimeMs > keptMs) rmSync(folder, { recursive: true, force: true });
  }
}

/** An older Node.js that AWS Lambda still runs, from NODE_20 or the system; `undefined` where there is none. */
export const olderNode: string | undefined = [process.env.NODE_20, "/usr/bin/node", "/usr/local/bin/node"].find(
  (path) => path !== undefined && /^v2[0-3]\./.test(spawnSync(path, ["--version"], { encoding: "utf8" }).stdout ?? ""),
);

/** For `test(…, { skip })`. */
export const olderNodeSkip: string | false = unlessCi(
  olderNode ? false : "no Node.js 20 to 23: install one, or name it in NODE_20",
);
