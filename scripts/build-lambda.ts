// Builds the functions of AWS Lambda: `npm run build:lambda -- [--into FOLDER] [--key FILE] [--pin KEY-SET-FILE] [KIND ...]`.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { releaseLambdas } from "./lambda/release.ts";
import { releaseKey } from "./lambda/release-key.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { into: { type: "string" }, key: { type: "string" }, pin: { type: "string" } },
});
const root = join(import.meta.dirname, "..");
const { REKEY_RELEASE_KEY, SOURCE_DATE_EPOCH } = process.env;
const into = values.into ?? join(root, "dist", "lambda");
// Never below dist: that is published.
const keyFile = values.key ?? REKEY_RELEASE_KEY ?? join(root, ".rekey", "release-key.json");
const { key, isNew } = await releaseKey(keyFile);
if (isNew)
  console.log(`There was no release key: a new one is in ${keyFile}. Keep it: servers trust manifests by its public half.`);

const releases = await releaseLambdas({
  root,
  into,
  ...(positionals.length > 0 && { kinds: positionals }),
  ...(values.pin !== undefined && { pinnedKeySet: JSON.parse(readFileSync(values.pin, "utf8")) }),
  key,
  releasedAt: SOURCE_DATE_EPOCH === undefined ? new Date() : new Date(Number(SOURCE_DATE_EPOCH) * 1000),
});
for (const { id, bytes, sha256 } of releases)
  console.log(`${`${id}.zip`.padEnd(28)} ${String(Math.round(bytes / 1024)).padStart(5)} KiB  ${sha256}`);
console.log(`${join(into, "manifest.json")}: signed by ${key.kid}`);
