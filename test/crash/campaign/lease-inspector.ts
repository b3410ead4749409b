// What must hold of leases after a kill, and what once it has healed; by the names of the invariants.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { leaseContext } from "../../../src/store/leases.ts";
import type { LeaseWorld } from "../../support/lease-world.ts";
import type { LeasePlace } from "./lease-places.ts";

/** Reliability I8. */
const mostOverMs = 10_000;
/** What is still under way when it is looked at ends meanwhile. */
const looks = 300;
const betweenLooksMs = 100;

/** What the process that died had said of a lease. */
interface Told {
  endsAt: number;
  /** Asked for; and answered. */
  revoked?: "asked" | "done";
}

export interface LeaseRow {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly expires_at: number;
  readonly sealed: Uint8Array | null;
  readonly wrapped_data_key: Uint8Array | null;
}

export const liveLeases =
  "select id, name, state, expires_at, sealed, wrapped_data_key from leases where state <> 'ended' order by name";

export class LeaseInspector {
  readonly violations: string[] = [];
  /** Leases that were handed out. */
  issued = 0;
  /** From the end of a lease's time to its own, while the process lived. */
  slowestEndMs = 0;
  /** What clocks of the process add. */
  clockMs = 0;
  readonly #place: LeasePlace;
  readonly #perTarget: number;
  readonly #told = new Map<string, Told>();
  readonly #visits = new Map<string, Awaited<ReturnType<LeasePlace["visit"]>>>();
  readonly #values = new Set<string>();

  constructor(place: LeasePlace, perTarget: number) {
    this.#place = place;
    this.#perTarget = perTarget;
  }

  violated(invariant: string, what: string, where: string): void {
    this.violations.push(`${invariant}: ${what} (after ${where})`);
  }

  /** A line of a worker. */
  take(line: string): void {
    const [word, about = "", more] = line.split(" ");
    const number = Number(more);
    if (word === "clock") this.clockMs = Number(about);
    else if (word === "issued") {
      this.issued += 1;
      this.#told.set(about, { endsAt: number });
    } else if (word === "renewed") this.#tellOf(about).endsAt = number;
    else if (word === "revoking") this.#tellOf(about).revoked = "asked";
    else if (word === "revoked") this.#tellOf(about).revoked = "done";
    else if (word === "ended") {
      this.slowestEndMs = Math.max(this.slowestEndMs, number);
      if (number > mostOverMs) this.violated("I8", `${about} outlived its time by ${number} ms`, "its time");
    } else if (word === "most" && Number(about) > this.#perTarget)
      this.violated("I15", `${about} calls at the target at once, and not ${this.#perTarget}`, "a round");
  }

  /** Before anything is repaired. Logs in as everybody who has a lease, and stays. */
  async afterKill(world: Pick<LeaseWorld, "sql" | "parts">, where: string): Promise<void> {
    const users = new Set(await this.#place.users());
    const rows = await world.sql.query<LeaseRow>(liveLeases);
    const byName = new Map(rows.map((row) => [row.name, row]));
    for (const user of users) if (!byName.has(user)) this.violated("I7", `${user} has no lease`, where);
    this.#promises(byName, users, where);
    for (const row of rows) if (users.has(row.name)) await this.#visit(world, row, where);
  }

  /** After a start that found nothing to do any more; `read` gives the rows of leases that have not ended. */
  async afterHealing(read: () => Promise<LeaseRow[]>, where: string): Promise<void> {
    let [users, rows] = [await this.#users(), await read()];
    const isSame = () => users.join() === rows.map(({ name }) => name).join();
    for (let look = 0; look < looks && !isSame(); look += 1) {
      await sleep(betweenLooksMs);
      [users, rows] = [await this.#users(), await read()];
    }
    const [known, there] = [new Set(rows.map(({ name }) => name)), new Set(users)];
    for (const user of users) if (!known.has(user)) this.violated("I7", `${user} has no lease`, where);
    for (const { name, state } of rows) if (!there.has(name)) this.violated("I7", `${name} is ${state} and not there`, where);
    const nowMs = Date.now() + this.clockMs;
    for (const { name, expires_at } of rows)
      if (expires_at + mostOverMs < nowMs) this.violated("I8", `${name} outlives its time`, where);
    this.#promises(new Map(rows.map((row) => [row.name, row])), new Set(users), where);
    await this.#sessions(new Set(users), read, where);
  }

  /** No value that was ever stored is in what a process said, in the server's log, or in the store's files (I14). */
  async leaks(output: string, folder: string): Promise<void> {
    const files = readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map(({ name, parentPath }) => [name, readFileSync(join(parentPath, name), "latin1")] as const);
    const places: (readonly [string, string])[] = [["output", output], ["server's log", await this.#place.log()], ...files];
    for (const [place, text] of places)
      for (const value of this.#values) if (text.includes(value)) this.violated("I14", `a value is in the ${place}`, "the end");
  }

  /** Whether any value was there to be found. */
  get hadValues(): boolean {
    return this.#values.size > 0;
  }

  close(): void {
    for (const visit of this.#visits.values()) visit.close();
    this.#visits.clear();
  }

  #users = async (): Promise<string[]> => [...(await this.#place.users())].sort();

  #tellOf(user: string): Told {
    const told = this.#told.get(user);
    if (!told) throw new Error(`nobody was told of ${user}`);
    return told;
  }

  /** I9: what somebody was told holds until its time, or until somebody wants it ended; I7: what was confirmed to be over is. */
  #promises(rows: ReadonlyMap<string, LeaseRow>, users: ReadonlySet<string>, where: string): void {
    for (const [user, { endsAt, revoked }] of this.#told) {
      if (revoked === "done" && users.has(user)) this.violated("I7", `${user} was said to be revoked`, where);
      const isOver = revoked !== undefined || endsAt <= Date.now() + this.clockMs;
      if (!isOver) this.#stillThere(user, endsAt, users.has(user) ? rows.get(user) : undefined, where);
      else if (!users.has(user)) this.#told.delete(user);
    }
  }

  #stillThere(user: string, endsAt: number, row: LeaseRow | undefined, where: string): void {
    if (!row && this.#told.delete(user)) this.violated("I9", `${user} was ended before its time`, where);
    else if (row?.state !== "active") this.violated("I9", `the lease of ${user} is ${row?.state}`, where);
    else if (row.expires_at < endsAt) this.violated("I9", `the lease of ${user} ends before what was confirmed`, where);
  }

  async #visit(
    { parts }: Pick<LeaseWorld, "parts">,
    { id, name, state, sealed, wrapped_data_key }: LeaseRow,
    where: string,
  ): Promise<void> {
    if (state !== "active" || !sealed || !wrapped_data_key) return;
    const opened = await parts.envelope.open({ sealed, wrappedDataKey: wrapped_data_key }, leaseContext(id));
    const fields = JSON.parse(opened.revealText()) as Record<string, string>;
    this.#values.add(fields.PASSWORD ?? "");
    if (this.#visits.has(name)) return;
    try {
      this.#visits.set(name, await this.#place.visit(fields));
    } catch (error) {
      this.violated("I9", `${name} is refused: ${error}`, where);
    }
  }

  /** I8: they end with their leases, and not before. */
  async #sessions(users: ReadonlySet<string>, read: () => Promise<LeaseRow[]>, where: string): Promise<void> {
    for (const [user, visit] of this.#visits) {
      const lives = await visit.lives();
      const isOver = !users.has(user);
      if (isOver && lives) this.violated("I8", `a session of ${user} lives on`, where);
      // One that nobody had taken may have come to its end since users were looked at.
      const isActive = async () => (await read()).some(({ name, state }) => name === user && state === "active");
      if (!isOver && !lives && (await isActive())) this.violated("I9", `a session of ${user} was ended`, where);
      if (!isOver && lives) continue;
      visit.close();
      this.#visits.delete(user);
    }
  }
}
