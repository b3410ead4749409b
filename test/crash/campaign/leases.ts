// The kill campaign of leases: a process that issues, renews and revokes them is killed at points and at moments, on a real
// server; after each kill the store is compared with the server and with what the process had said.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openRootKey } from "../../../src/crypto/key-provider.ts";
import { migrate } from "../../../src/store/migrate.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import { newRootKey } from "../../support/engine-world.ts";
import { type LeaseWorld, leaseWorld, place as ofConfig, secretName } from "../../support/lease-world.ts";
import { seeded } from "../../support/random.ts";
import type { CampaignOptions, Report } from "./campaign.ts";
import { LeaseInspector, type LeaseRow, liveLeases } from "./lease-inspector.ts";
import type { LeasePlace, LeaseScenario } from "./lease-places.ts";
import type { LeaseJob } from "./lease-worker.ts";
import { startWorker, type WorkerProcess } from "./worker-process.ts";

export interface LeaseReport extends Report {
  readonly leases: number;
  readonly slowestEndMs: number;
}

/** Reliability I6. */
const healWithinMs = 60_000;
/** As far as the work of one round goes, about; the first kills learn how far. */
const firstGuess = 250;
/** So few that a round's calls at the target want more. */
const settings = { perTarget: 2 };
/** So many cannot all come too early to tell anything. */
const tellingKills = 10;
/** Longer than any lease that a round leaves. */
const allOverMs = 2 * 3_600_000;

export async function runLeases(scenario: LeaseScenario, options: CampaignOptions): Promise<LeaseReport> {
  await using target = await scenario.start();
  const folder = mkdtempSync(join(tmpdir(), "rekey-leases-"));
  try {
    return await new Campaign(scenario.name, target, folder, options).run();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A config whose dynamic secret leases users of the place. */
export async function setUpLeases({ call }: Pick<LeaseWorld, "call">, place: LeasePlace): Promise<void> {
  await call("CreateProject", { Name: ofConfig.Project });
  await call("CreateIntegration", { Name: "main", ...place.integration });
  await call("CreateDynamicSecret", { ...ofConfig, Name: secretName, Integration: "main", Settings: place.settings });
}

class Campaign {
  readonly #name: string;
  readonly #target: LeasePlace;
  readonly #folder: string;
  readonly #options: CampaignOptions;
  readonly #random: () => number;
  readonly #rootKey = newRootKey();
  readonly #inspector: LeaseInspector;
  readonly #points = new Set<string>();
  #output = "";
  #longest = firstGuess;
  #moments = 0;
  #whileHealing = 0;
  #slowestHealMs = 0;

  constructor(name: string, target: LeasePlace, folder: string, options: CampaignOptions) {
    this.#name = name;
    this.#target = target;
    this.#folder = folder;
    this.#options = options;
    this.#random = seeded(`${options.seed} ${name}`);
    this.#inspector = new LeaseInspector(target, settings.perTarget);
  }

  async run(): Promise<LeaseReport> {
    const { kills, untilFound, say } = this.#options;
    const store = openSqlite(join(this.#folder, "rekey.db"));
    await migrate(store);
    await store.close();
    await this.#inWorld((world) => setUpLeases(world, this.#target));
    let done = 0;
    while (done < kills && !(untilFound && this.#inspector.violations.length > 0)) {
      const killed = await this.#kill();
      if (killed !== undefined) done += 1;
      await this.#inWorld((world) => this.#inspector.afterKill(world, killed ?? "it ended by itself"));
      if (done % 50 === 0 && killed !== undefined) say?.(`${this.#name}: ${done} of ${kills} kills`);
    }
    await this.#last();
    return {
      scenario: this.#name,
      kills: done,
      points: this.#points.size,
      moments: this.#moments,
      whileHealing: this.#whileHealing,
      rotations: 0,
      leases: this.#inspector.issued,
      slowestHealMs: Math.round(this.#slowestHealMs),
      slowestEndMs: this.#inspector.slowestEndMs,
      violations: this.#inspector.violations,
    };
  }

  /** Where the process was when it died; `undefined` when it had ended its work before. */
  async #kill(): Promise<string | undefined> {
    const atMoment = this.#random() < 0.3;
    const killAt = atMoment ? 0 : 1 + Math.floor(this.#random() * this.#longest * 1.1);
    const whileHealing = this.#random() < 0.25;
    const mostMs = 20 + 400 * this.#random();
    const job = { killAt, whileHealing, rounds: atMoment ? 1_000 : 1, clockMs: this.#inspector.clockMs };
    let place = "?";
    const worker = this.#start(job, (line) => {
      if (line.startsWith("killed ")) place = line.slice(7);
      else if (line.startsWith("points ") && !whileHealing) this.#longest = Number(line.slice(7));
    });
    const { child } = worker;
    const isHealed = await this.#healed(worker);
    if (isHealed) child.stdin.write("go\n");
    const timer = isHealed && atMoment ? setTimeout(() => child.kill("SIGKILL"), mostMs) : undefined;
    await worker.ended;
    clearTimeout(timer);
    this.#output += worker.text();
    if (child.signalCode === "SIGKILL" && !isHealed) this.#whileHealing += 1;
    if (atMoment && child.signalCode === "SIGKILL") {
      this.#moments += 1;
      return `a moment, ${mostMs.toFixed(0)} ms after it had healed`;
    }
    if (child.signalCode === "SIGKILL") {
      this.#points.add(place);
      return `point ${killAt}, ${place}`;
    }
    if (child.exitCode !== 0)
      this.#inspector.violated("worker", `it ended with ${child.exitCode}: ${worker.text().slice(-600)}`, "a start");
    return undefined;
  }

  /** Waits for a start to heal, and looks; false when it died before. */
  async #healed(worker: WorkerProcess): Promise<boolean> {
    const startedAt = performance.now();
    const deadline = setTimeout(() => {
      this.#inspector.violated("I6", `nothing healed within ${healWithinMs} ms of a start`, worker.text().slice(-600));
      worker.child.kill("SIGKILL");
    }, healWithinMs);
    const isHealed = await Promise.race([worker.said("healed").then(() => true), worker.ended.then(() => false)]).catch(
      () => false,
    );
    clearTimeout(deadline);
    if (!isHealed) return false;
    this.#slowestHealMs = Math.max(this.#slowestHealMs, performance.now() - startedAt);
    // The store belongs to the process that lives.
    using db = new DatabaseSync(join(this.#folder, "rekey.db"), { readOnly: true });
    const rows = db.prepare(liveLeases);
    await this.#inspector.afterHealing(async () => rows.all() as unknown as LeaseRow[], "it healed");
    return true;
  }

  /** When the time of all leases is over, nothing of them is left. */
  async #last(): Promise<void> {
    this.#inspector.clockMs += allOverMs;
    const worker = this.#start({ killAt: 0, whileHealing: false, rounds: 1, clockMs: this.#inspector.clockMs });
    if (await this.#healed(worker)) {
      const left = await this.#target.users();
      if (left.length > 0) this.#inspector.violated("I8", `left at the end: ${left}`, "the end");
    }
    worker.child.stdin.write("go\n");
    await worker.ended;
    this.#output += worker.text();
    if (worker.child.exitCode !== 0)
      this.#inspector.violated("worker", `the last start did not end its work: ${worker.text().slice(-600)}`, "the end");
    this.#inspector.close();
    await this.#inspector.leaks(this.#output, this.#folder);
    // Two kills may both come before the first value.
    if (!this.#inspector.hadValues && this.#options.kills >= tellingKills)
      this.#inspector.violated("worker", "no lease had a value", "the end");
  }

  #start(how: Omit<LeaseJob, "folder" | "settings">, take?: (line: string) => void): WorkerProcess {
    const file = join(this.#options.root, "test/crash/campaign/lease-worker.ts");
    const job: LeaseJob = { ...how, folder: this.#folder, settings };
    return startWorker(file, job, this.#rootKey, (line) => {
      this.#inspector.take(line);
      take?.(line);
    });
  }

  async #inWorld(work: (world: LeaseWorld) => Promise<void>): Promise<void> {
    const sql = openSqlite(join(this.#folder, "rekey.db"));
    try {
      const rootKey = await openRootKey("env:KEY", { env: { KEY: this.#rootKey } });
      await using world = await leaseWorld(sql, this.#folder, { rootKey });
      await work(world);
    } finally {
      await sql.close();
    }
  }
}
