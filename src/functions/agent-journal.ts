import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { ConfigError } from "../core/error.ts";

/** A job before it is begun. Times are epoch ms. */
export interface JournalEntry {
  /** The message's own id (`jti`). */
  readonly id: string;
  /** What the job belongs to, e.g. a rotation. */
  readonly subject: string;
  readonly fence: number;
  readonly expiresAt: number;
  /** The reply, sealed, to give when the agent ends while it works on the job. */
  readonly replyIfEnded: string;
}

/** What to do with a job that came in. */
export type Begun =
  | { readonly state: "begun" }
  /** It runs right now, in this process. */
  | { readonly state: "running" }
  /** It ran before, or was being run when the agent ended: this is the reply, and it is not run again. */
  | { readonly state: "done"; readonly reply: string }
  /** A younger claim on the same subject was seen. */
  | { readonly state: "stale" }
  /** It is so old that it may have been run and forgotten. */
  | { readonly state: "forgotten" }
  /** No room is left for jobs that have not expired. */
  | { readonly state: "full" };

/** What is kept on disk so that no job runs twice and no reply is lost. Holds nothing that can be read without the server. */
export interface Journal {
  /** Durable when it returns: only then may the job run. */
  begin(entry: JournalEntry, nowMs: number): Begun;
  /** Durable when it returns; the same job again gets this reply. */
  done(id: string, reply: string): void;
  /** Replies that the server has not taken, for jobs that have not expired; those of an earlier process too. */
  undelivered(nowMs: number): readonly { readonly id: string; readonly reply: string }[];
  delivered(ids: readonly string[]): void;
  /** Forgets what has expired, a bounded number at a time. */
  purge(nowMs: number): void;
  close(): void;
}

/** Longer than a message can be late or early by the clocks of both sides. */
const keptAfterExpiryMs = 120_000;
/** A process that lost its claim may go on until the deadlines of its jobs, which are far shorter. */
const fencesKeptMs = 3_600_000;
const purgedAtOnce = 1_000;

const schema = `
  create table if not exists jobs (
    id text primary key, subject text not null, expires_at integer not null,
    run integer not null, ended integer not null default 0, delivered integer not null default 0, reply text not null
  ) strict;
  create index if not exists jobs_by_expiry on jobs (expires_at);
  create index if not exists jobs_undelivered on jobs (id) where delivered = 0;
  create table if not exists fences (subject text primary key, fence integer not null, seen_at integer not null) strict, without rowid;
  create index if not exists fences_by_time on fences (seen_at);
  create table if not exists marks (name text primary key, value integer not null) strict, without rowid;
`;

/**
 * The journal in the file `path`, which is made when it is missing; every change is on disk when its call returns.
 * `mostJobs` bounds how many jobs that have not expired it holds.
 * @throws ConfigError when another process holds it, or it cannot be opened.
 */
export function openJournal(path: string, mostJobs = 100_000): Journal {
  const database = openDatabase(path);
  const run = Number(
    database
      .prepare("insert into marks values ('run', 1) on conflict (name) do update set value = value + 1 returning value")
      .get()?.value,
  );
  const find = database.prepare("select run, ended, reply from jobs where id = ?");
  let jobs = Number(database.prepare("select count(*) as jobs from jobs").get()?.jobs);
  const markOf = database.prepare("select value from marks where name = ?");
  const fenceOf = database.prepare("select fence from fences where subject = ?");
  const saveFence = database.prepare(
    "insert into fences values (?1, ?2, ?3) on conflict (subject) do update set fence = ?2, seen_at = ?3",
  );
  const insert = database.prepare("insert into jobs (id, subject, expires_at, run, reply) values (?, ?, ?, ?, ?)");
  const saveReply = database.prepare("update jobs set ended = 1, reply = ? where id = ?");
  const waiting = database.prepare(
    "select id, reply from jobs where delivered = 0 and (ended = 1 or run < ?) and expires_at > ? order by expires_at limit 1000",
  );
  const saveDelivered = database.prepare("update jobs set delivered = 1 where id = ?");
  const oldJobs = database.prepare(
    `delete from jobs where id in (select id from jobs where expires_at < ? order by expires_at limit ${purgedAtOnce}) returning expires_at`,
  );
  const oldFences = database.prepare(
    `delete from fences where subject in (select subject from fences where seen_at < ? limit ${purgedAtOnce})`,
  );
  const saveMark = database.prepare("insert into marks values (?1, ?2) on conflict (name) do update set value = max(value, ?2)");

  /** What stands there of a job, if it came before. */
  function known(id: string): Begun | undefined {
    const row = find.get(id);
    if (!row) return undefined;
    return row.ended === 0 && row.run === run ? { state: "running" } : { state: "done", reply: String(row.reply) };
  }

  return {
    begin(entry, nowMs) {
      const begun = within(database, (): Begun => {
        const before = known(entry.id);
        if (before) return before;
        if (entry.expiresAt <= Number(markOf.get("forgotten_until")?.value ?? 0)) return { state: "forgotten" };
        if (entry.fence < Number(fenceOf.get(entry.subject)?.fence ?? entry.fence)) return { state: "stale" };
        if (jobs >= mostJobs) return { state: "full" };
        saveFence.run(entry.subject, entry.fence, nowMs);
        insert.run(entry.id, entry.subject, entry.expiresAt, run, entry.replyIfEnded);
        return { state: "begun" };
      });
      if (begun.state === "begun") jobs += 1;
      return begun;
    },
    done(id, reply) {
      saveReply.run(reply, id);
    },
    undelivered: (nowMs) => waiting.all(run, nowMs).map(({ id, reply }) => ({ id: String(id), reply: String(reply) })),
    delivered(ids) {
      within(database, () => ids.map((id) => saveDelivered.run(id)));
    },
    purge(nowMs) {
      jobs -= within(database, () => {
        // By the expiry of what is deleted, not by our clock: that may have been wrong for a while.
        const expiries = oldJobs.all(nowMs - keptAfterExpiryMs).map((row) => Number(row.expires_at));
        if (expiries.length > 0) saveMark.run("forgotten_until", Math.max(...expiries));
        oldFences.run(nowMs - fencesKeptMs);
        return expiries.length;
      });
    },
    close: () => database.close(),
  };
}

function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    closeSync(openSync(path, "a", 0o600));
    chmodSync(path, 0o600);
    database = new DatabaseSync(path, { timeout: 1_000 });
    // Held until the process ends in any way, so that two agents never share an identity.
    database.exec("pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = full");
    database.exec(`begin immediate; ${schema} commit`);
    return database;
  } catch (error) {
    database?.close();
    const locked = error instanceof Error && /locked|busy/.test(error.message);
    const why = locked ? "another agent runs with this folder" : error instanceof Error ? error.message : String(error);
    throw new ConfigError([`the journal ${path} cannot be opened: ${why}`]);
  }
}

function within<T>(database: DatabaseSync, work: () => T): T {
  database.exec("begin immediate");
  try {
    const made = work();
    database.exec("commit");
    return made;
  } catch (error) {
    if (database.isTransaction) database.exec("rollback");
    throw error;
  }
}
