import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ConfigError } from "../../src/core/error.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { claimWriter } from "../../src/store/writer-claim.ts";

const folders: string[] = [];
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true });
});
const newFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-claim-"));
  folders.push(folder);
  return folder;
};

/** A process that claims `folder` and then waits; what it said first: `claimed`, or why not. */
async function claimElsewhere(folder: string): Promise<{ child: ChildProcess; said: string }> {
  const script = `
    import { claimWriter } from ${JSON.stringify(new URL("../../src/store/writer-claim.ts", import.meta.url).href)};
    try { claimWriter(${JSON.stringify(folder)}); console.log("claimed"); setInterval(() => {}, 1000); }
    catch (error) { console.log(error.name + ": " + error.message); }`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [data] = await once(child.stdout, "data");
  return { child, said: String(data).trim() };
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

test("a second process is refused with the number of the first, until that is killed", async () => {
  const folder = newFolder();
  const first = await claimElsewhere(folder);
  assert.equal(first.said, "claimed");
  assert.throws(
    () => claimWriter(folder),
    (error) => error instanceof ConfigError && error.message.includes(`process ${first.child.pid}:`),
  );
  const second = await claimElsewhere(folder);
  assert.match(second.said, new RegExp(`ConfigError: .*process ${first.child.pid}:`));
  await kill(first.child);
  const claim = claimWriter(folder);
  assert.match((await claimElsewhere(folder)).said, new RegExp(`process ${process.pid}:`));
  claim.release();
  assert.equal((await claimElsewhere(folder)).said, "claimed");
});

test("of many processes starting at once exactly one gets the claim, again and again", async () => {
  const folder = newFolder();
  for (let round = 0; round < 3; round++) {
    const tries = await Promise.all(Array.from({ length: 5 }, () => claimElsewhere(folder)));
    const winners = tries.filter(({ said }) => said === "claimed");
    assert.equal(winners.length, 1, tries.map(({ said }) => said).join("\n"));
    for (const { said } of tries) assert.match(said, /^(claimed|ConfigError: .* is in use by )/);
    for (const { child } of winners) await kill(child);
  }
});

test("a store is opened for writing by one process only, and read by any", async () => {
  const folder = newFolder();
  const path = join(folder, "rekey.db");
  const own = openSqlite(path);
  await own.query("create table items (id integer primary key)");
  assert.match((await claimElsewhere(folder)).said, /in use by process/);
  await own.close();
  const { child } = await claimElsewhere(folder);
  assert.throws(() => openSqlite(path), ConfigError);
  const reader = openSqlite(path, { readOnly: true });
  assert.deepEqual(await reader.query("select * from items"), []);
  await reader.close();
  await kill(child);
});

test("a process may claim twice, also by another name of the folder, and holds until both are released", async () => {
  const folder = newFolder();
  symlinkSync(folder, `${folder}-alias`);
  folders.push(`${folder}-alias`);
  const claims = [claimWriter(folder), claimWriter(`${folder}-alias`)];
  claims[0]?.release();
  claims[0]?.release();
  assert.match((await claimElsewhere(folder)).said, /in use/);
  claims[1]?.release();
  assert.equal((await claimElsewhere(folder)).said, "claimed");
  assert.equal(statSync(join(folder, "rekey.lock")).mode & 0o777, 0o600);
});
