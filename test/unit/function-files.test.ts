// What of the functions folder may be run.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { RotatorError } from "../../src/core/error.ts";
import { findProgramFile } from "../../src/functions/program-file.ts";

const home = mkdtempSync(join(tmpdir(), "rekey-files-"));
const folder = join(home, "functions");
after(() => rmSync(home, { recursive: true }));
mkdirSync(join(folder, "inner"), { recursive: true });
mkdirSync(join(home, "functions-other"));
for (const path of ["functions/inner/ok.mjs", "functions-other/evil.mjs", "evil.mjs"]) writeFileSync(join(home, path), "");
symlinkSync(folder, join(home, "linked"));
symlinkSync("inner/ok.mjs", join(folder, "inside.mjs"));
symlinkSync("../functions-other", join(folder, "sibling"));

const refused = (file: string, outcome: string, at = folder) =>
  assert.rejects(
    findProgramFile(at, { runtime: "node", file }),
    (error) => error instanceof RotatorError && error.outcome === outcome,
    file,
  );

test("a file of the folder is found by its real path, also through links that stay inside and a folder that is one", async () => {
  for (const file of ["inner/ok.mjs", "./inner/ok.mjs", "inside.mjs"])
    assert.equal((await findProgramFile(folder, { runtime: "node", file })).path, join(folder, "inner/ok.mjs"));
  assert.equal(
    (await findProgramFile(join(home, "linked"), { runtime: "node", file: "inside.mjs" })).path,
    join(folder, "inner/ok.mjs"),
  );
});

test("a folder that every user may write to holds nothing that is run", async () => {
  for (const open of [folder, join(folder, "inner")]) {
    chmodSync(open, 0o777);
    await refused("inner/ok.mjs", "denied");
    chmodSync(open, 0o755);
  }
});

test("files that other users are to run are those that they can read", async () => {
  const asOthers = () => findProgramFile(folder, { runtime: "node", file: "inner/ok.mjs" }, true);
  await assert.rejects(asOthers(), new RegExp(`may not read ${home}: chmod`)); // a temporary folder is its maker's alone
  chmodSync(home, 0o755);
  await asOthers();
  chmodSync(join(folder, "inner/ok.mjs"), 0o640);
  await assert.rejects(asOthers(), /may not read .*ok\.mjs: chmod/);
  chmodSync(join(folder, "inner/ok.mjs"), 0o644);
});

test("nothing else is: no way up, no absolute path, no link out, no neighbour with the folder's name at its beginning", async () => {
  await refused("sibling/evil.mjs", "denied");
  for (const file of [
    "../evil.mjs",
    "../functions-other/evil.mjs",
    "inner/../../evil.mjs",
    join(folder, "inner/ok.mjs"),
    "inner",
    "",
  ])
    await refused(file, "invalid");
  await assert.rejects(findProgramFile(undefined, { runtime: "node", file: "inner/ok.mjs" }), /--functions-dir/);
  await refused("inner/ok.mjs", "invalid", join(home, "nowhere"));
});

test("a file that anybody may write is refused, and a change of it is seen", async () => {
  const path = join(folder, "open.mjs");
  writeFileSync(path, "1");
  chmodSync(path, 0o646);
  await refused("open.mjs", "denied");
  chmodSync(path, 0o644);
  const { changedAt } = await findProgramFile(folder, { runtime: "node", file: "open.mjs" });
  rmSync(path);
  writeFileSync(join(home, "keeps the inode busy"), "");
  writeFileSync(path, "2");
  assert.notEqual((await findProgramFile(folder, { runtime: "node", file: "open.mjs" })).changedAt, changedAt);
});
