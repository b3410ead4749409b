import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type JournalEntry, openJournal } from "../../src/functions/agent-journal.ts";
import { journalAt as at, journalEntry, workThrough } from "../support/journal-process.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-journal-"));
after(() => rmSync(folder, { recursive: true }));
const newPath = () => join(mkdtempSync(join(folder, "agent-")), "journal.db");

const entry = (id: string, rest: Partial<JournalEntry> = {}) => ({ ...journalEntry(id), ...rest });

test("a job is begun once, and its reply is given again and again", () => {
  const journal = openJournal(newPath());
  assert.deepEqual(journal.begin(entry("a"), at), { state: "begun" });
  assert.deepEqual(journal.begin(entry("a"), at), { state: "running" });
  assert.deepEqual(journal.undelivered(at), []);
  journal.done("a", "reply a");
  assert.deepEqual(journal.begin(entry("a"), at), { state: "done", reply: "reply a" });
  assert.deepEqual(journal.undelivered(at), [{ id: "a", reply: "reply a" }]);
  journal.delivered(["a"]);
  assert.deepEqual(journal.undelivered(at), []);
  assert.deepEqual(journal.begin(entry("a"), at), { state: "done", reply: "reply a" });
  journal.close();
});

test("a job that was begun by a process that ended is answered as such, at once and when asked again", () => {
  const path = newPath();
  const first = openJournal(path);
  first.begin(entry("a"), at);
  first.begin(entry("b"), at);
  first.done("b", "reply b");
  first.close();
  const second = openJournal(path);
  assert.deepEqual(
    [...second.undelivered(at)].sort((x, y) => x.id.localeCompare(y.id)),
    [
      { id: "a", reply: "ended a" },
      { id: "b", reply: "reply b" },
    ],
  );
  assert.deepEqual(second.begin(entry("a"), at), { state: "done", reply: "ended a" });
  assert.deepEqual(second.undelivered(at + 10_000), [], "nobody waits for it any more");
  second.close();
});

test("an older fence of the same subject is refused, of another one not", () => {
  const path = newPath();
  const journal = openJournal(path);
  journal.begin(entry("a", { subject: "s", fence: 5 }), at);
  assert.deepEqual(journal.begin(entry("b", { subject: "s", fence: 4 }), at), { state: "stale" });
  assert.deepEqual(journal.begin(entry("c", { subject: "s", fence: 5 }), at), { state: "begun" });
  assert.deepEqual(journal.begin(entry("d", { subject: "t", fence: 1 }), at), { state: "begun" });
  journal.close();
  const later = openJournal(path);
  later.purge(at + 1_800_000);
  assert.deepEqual(later.begin(entry("e", { subject: "s", fence: 4, expiresAt: at + 1_900_000 }), at), { state: "stale" });
  later.purge(at + 7_200_000);
  assert.deepEqual(later.begin(entry("f", { subject: "s", fence: 1, expiresAt: at + 8_000_000 }), at), { state: "begun" });
  later.close();
});

test("what was forgotten cannot be played again, even when the clock goes back", () => {
  const path = newPath();
  const journal = openJournal(path);
  journal.begin(entry("a"), at);
  journal.done("a", "reply");
  journal.purge(at + 10_000);
  assert.equal(journal.begin(entry("a"), at).state, "done", "kept for a while");
  journal.purge(at + 1_000_000);
  assert.deepEqual(journal.begin(entry("a"), at), { state: "forgotten" });
  journal.close();
  const later = openJournal(path);
  assert.deepEqual(later.begin(entry("a"), at), { state: "forgotten" });
  assert.deepEqual(later.begin(entry("b", { expiresAt: at + 10_001 }), at), { state: "begun" });
  later.close();
});

test("it is bounded: more jobs than it holds are refused until some have expired", () => {
  const path = newPath();
  const journal = openJournal(path, 3);
  for (const id of ["a", "b", "c"]) assert.equal(journal.begin(entry(id), at).state, "begun");
  assert.deepEqual(journal.begin(entry("d"), at), { state: "full" });
  assert.deepEqual(journal.begin(entry("a"), at), { state: "running" });
  journal.close();
  const later = openJournal(path, 3);
  assert.deepEqual(later.begin(entry("d"), at), { state: "full" });
  later.purge(at + 200_000);
  assert.equal(later.begin(entry("d", { expiresAt: at + 300_000 }), at).state, "begun");
  later.close();
});

test("the file is for its owner, and for one process", () => {
  const path = newPath();
  const journal = openJournal(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.throws(() => openJournal(path), /another agent runs with this folder/);
  journal.close();
  openJournal(path).close();
});

const worker = join(import.meta.dirname, "../support/journal-process.ts");

test("killed at every call: nothing is run twice, and what ended without a reply is told so", async () => {
  let kills = 0;
  const runs = await Promise.all(
    Array.from({ length: 18 }, async (_, index) => {
      const [path, ranFile] = [newPath(), join(folder, `ran-${index}`)];
      const child = spawn(process.execPath, [worker, path, ranFile, String(index + 1)], {
        stdio: ["ignore", "ignore", "inherit"],
      });
      const [code, signal] = await once(child, "exit");
      if (signal === "SIGKILL") kills += 1;
      else assert.equal(code, 0);
      return { path, ranFile };
    }),
  );
  assert.ok(kills >= 14, String(kills));
  for (const { path, ranFile } of runs) {
    const first = linesOf(ranFile);
    if (existsSync(path)) checkJournal(path, first);
    workThrough(path, ranFile, () => undefined);
    const all = linesOf(ranFile);
    assert.equal(new Set(all).size, all.length, `ran twice: ${all}`);
  }
});

const linesOf = (file: string): string[] => readFileSync(file, { encoding: "utf8", flag: "a+" }).split("\n").filter(Boolean);

/** What ran is answered from the journal, with its reply or with the one for the end of the agent. */
function checkJournal(path: string, ran: readonly string[]): void {
  const journal = openJournal(path);
  const told = journal.undelivered(at).map(({ id }) => id);
  for (const id of ["a", "b"]) {
    const again = journal.begin(entry(id), at);
    if (ran.includes(id) || told.includes(id)) assert.equal(again.state, "done", `${id} ran and is not run again`);
    if (again.state === "done") assert.match(again.reply, new RegExp(`^(reply|ended) ${id}$`));
  }
  journal.close();
}
