// A process that works through two jobs with a journal, and ends itself with SIGKILL before or after the n-th call.
import { appendFileSync } from "node:fs";
import { type Journal, type JournalEntry, openJournal } from "../../src/functions/agent-journal.ts";

export const journalAt = 1_700_000_000_000;

export const journalEntry = (id: string): JournalEntry => ({
  id,
  subject: `subject-${id}`,
  fence: 1,
  expiresAt: journalAt + 10_000,
  replyIfEnded: `ended ${id}`,
});

/** Every call of the journal, in order, with the work of the jobs between them; `before` is told of each. */
export function workThrough(path: string, ranFile: string, before: () => void): void {
  const real = openJournal(path);
  const told = (name: "begin" | "done" | "delivered" | "purge" | "undelivered") =>
    ((...args: unknown[]) => {
      before();
      const made = (real[name] as (...given: unknown[]) => unknown)(...args);
      before();
      return made;
    }) as never;
  const journal: Journal = {
    ...real,
    begin: told("begin"),
    done: told("done"),
    delivered: told("delivered"),
    purge: told("purge"),
    undelivered: told("undelivered"),
  };
  for (const { id } of journal.undelivered(journalAt)) journal.delivered([id]);
  for (const id of ["a", "b"]) {
    const begun = journal.begin(journalEntry(id), journalAt);
    if (begun.state !== "begun") continue;
    appendFileSync(ranFile, `${id}\n`);
    journal.done(id, `reply ${id}`);
    journal.delivered([id]);
  }
  journal.purge(journalAt);
  real.close();
}

const [path, ranFile, killAt] = process.argv.slice(2);
if (import.meta.main && path !== undefined && ranFile !== undefined) {
  let calls = 0;
  workThrough(path, ranFile, () => {
    calls += 1;
    if (calls === Number(killAt)) process.kill(process.pid, "SIGKILL");
  });
}
