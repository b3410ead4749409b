import { setTimeout as sleep } from "node:timers/promises";
import type { Application } from "./application.ts";
import { type Credential, logIn } from "./database.ts";
import type { Screen } from "./screen.ts";
import type { Vault, Version } from "./vault.ts";

/** A secret of the demo, with the function that rotates it and the table that its user reads. */
export interface Rotated {
  readonly secret: string;
  readonly functionName: string;
  readonly table: string;
}

/** The story cannot go on: what was expected did not happen in time. */
export class StoryEnded extends Error {
  override readonly name = "StoryEnded";
}

const longestRotationMs = 20_000;
/** Time to look, and for the application to log in. */
const breathMs = 600;

/** Rotates, and tries every old and new password at the database itself. */
export class Story {
  rotations = 0;
  /** Checks that did not hold. */
  failed = 0;
  /** Every password that Rekey has made. */
  readonly made = new Set<string>();
  readonly #screen: Screen;
  readonly #vault: Vault;
  readonly #application: Application;

  constructor(screen: Screen, vault: Vault, application: Application) {
    this.#screen = screen;
    this.#vault = vault;
    this.#application = application;
  }

  check(held: boolean, text: string): void {
    if (!held) this.failed += 1;
    this.#screen.check(held, text);
  }

  /** One user: its password is replaced. */
  async rotateSingleUser(rotated: Rotated): Promise<void> {
    const { before, after } = await this.#rotate(rotated);
    await this.probe(rotated, after.credential, true, "new password");
    await this.probe(rotated, before.credential, false, "old password");
    await this.#breathe();
  }

  /** Two users: the one that nobody uses gets a new password, and becomes the one to use. `retired` had it before. */
  async rotateAlternating(rotated: Rotated, retired: Credential | undefined): Promise<Credential> {
    const { before, after } = await this.#rotate(rotated);
    await this.probe(rotated, after.credential, true, "new password");
    await this.probe(rotated, before.credential, true, "password before it");
    if (retired) await this.probe(rotated, retired, false, "password before that");
    this.check(after.credential.username !== before.credential.username, "the two users have taken turns");
    await this.#breathe();
    return before.credential;
  }

  /** Waits for so many rotations that a schedule starts by itself. */
  async watchSchedule({ secret, table }: Rotated, rotations: number): Promise<void> {
    let before = await this.#vault.read(secret);
    for (let seen = 0; seen < rotations; seen += 1) {
      const after = await this.#untilChanged(secret, before.id, `the schedule of ${secret} did not start a rotation`);
      this.#rotated(after, "started by the schedule");
      await this.probe({ table }, after.credential, true, "new password");
      await this.probe({ table }, before.credential, false, "old password");
      before = after;
    }
  }

  /** Nothing but logins for a while, so that their number can be seen growing. */
  async #breathe(): Promise<void> {
    await this.#whileCounting(breathMs, async () => false);
    const { logins, firstRefusals, refused } = this.#application.counts;
    const first = firstRefusals > 0 ? `, ${firstRefusals} of them after one re-read` : "";
    this.#screen.line(this.#screen.paint("dim", `     application: ${logins} logins so far${first}; ${refused} refused`));
  }

  async #rotate({ secret, functionName }: Rotated): Promise<{ before: Version; after: Version }> {
    const before = await this.#vault.read(secret);
    const beganAt = Date.now();
    const versionId = await this.#vault.rotate(secret, functionName);
    const after = await this.#untilChanged(secret, before.id, `the rotation of ${secret} did not end`);
    this.#rotated(after, `in ${((Date.now() - beganAt) / 1000).toFixed(1)} s`);
    if (after.id !== versionId) this.check(false, `the version that RotateSecret promised is current, not ${after.id}`);
    return { before, after };
  }

  #rotated({ id, credential }: Version, how: string): void {
    this.rotations += 1;
    this.made.add(credential.password);
    this.#screen.line(`Rotation ${this.rotations}, ${how}: version ${id.slice(0, 8)} is current, user ${credential.username}`);
  }

  /** Tries a password at the database; `expected` is whether it should be accepted. */
  async probe({ table }: Pick<Rotated, "table">, credential: Credential, expected: boolean, what: string): Promise<void> {
    const accepted = await logIn(credential, table);
    this.check(accepted === expected, `${what} of ${credential.username}: ${accepted ? "logs in" : "refused"}`);
  }

  async #untilChanged(secret: string, beforeId: string, complaint: string): Promise<Version> {
    let pending: string | undefined;
    const ended = await this.#whileCounting(longestRotationMs, async () => {
      const labels = await this.#vault.labels(secret);
      pending = labels.pending;
      return labels.current !== beforeId;
    });
    if (ended) return this.#vault.read(secret);
    const left = pending === undefined ? "" : ` Version ${pending.slice(0, 8)} waits with label AWSPENDING.`;
    throw new StoryEnded(`After ${longestRotationMs / 1000} s ${complaint}.${left}`);
  }

  /** Asks again and again, with the application's counter moving; false when the time is over. */
  async #whileCounting(ms: number, done: () => Promise<boolean>): Promise<boolean> {
    const until = Date.now() + ms;
    while (!(await done())) {
      if (Date.now() > until) return false;
      const { logins, refused } = this.#application.counts;
      this.#screen.counter(`application: ${logins} logins, ${refused} refused`);
      await sleep(50);
    }
    return true;
  }
}
