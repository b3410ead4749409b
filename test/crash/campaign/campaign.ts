// Kills a process that rotates again and again, at points of its work and at moments, and looks after each kill, and after
// the next start has healed what it found, whether anything was lost.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate } from "../../../src/store/migrate.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import { newRootKey, openWorld, type World } from "../../support/engine-world.ts";
import { seeded } from "../../support/random.ts";
import { ConfigSecrets } from "./config-secrets.ts";
import { Inspector } from "./inspector.ts";
import type { Scenario } from "./scenarios.ts";
import type { Target } from "./targets.ts";
import type { Job } from "./worker.ts";
import { startWorker, type WorkerProcess } from "./worker-process.ts";

export interface CampaignOptions {
  readonly kills: number;
  readonly seed: number;
  /** Where the worker's sources are: the repository, or a copy with a hole in it. */
  readonly root: string;
  say?(text: string): void;
  /** Ends at the first violation. */
  readonly untilFound?: boolean;
}

export interface Report {
  readonly scenario: string;
  readonly kills: number;
  /** Different places in the work at which it was killed. */
  readonly points: number;
  /** Kills at a moment, wherever the work was. */
  readonly moments: number;
  /** Kills while an earlier one was being healed. */
  readonly whileHealing: number;
  readonly rotations: number;
  readonly slowestHealMs: number;
  /** What was lost or broken, each with the kill that showed it. */
  readonly violations: readonly string[];
}

/** Reliability I6. */
const healWithinMs = 60_000;
/** As far as the work of one round goes, about; the first kills learn how far. */
const firstGuess = 400;
const secretsAtOnce = 3;
/** A secret keeps at most 100 versions of one day. */
const roundsOfSecret = 40;

export async function runScenario(scenario: Scenario, options: CampaignOptions): Promise<Report> {
  await using target = await scenario.start();
  const folder = mkdtempSync(join(tmpdir(), "rekey-campaign-"));
  try {
    return await new Campaign(scenario, target, folder, options).run();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

class Campaign {
  readonly #scenario: Scenario;
  readonly #target: Target;
  readonly #folder: string;
  readonly #options: CampaignOptions;
  readonly #random: () => number;
  readonly #rootKey = newRootKey();
  readonly #inspector: Inspector;
  readonly #ofConfig: ConfigSecrets;
  readonly #points = new Set<string>();
  readonly #workers: WorkerProcess[] = [];
  #secrets: string[] = [];
  #made = 0;
  #longest = firstGuess;
  #moments = 0;
  #whileHealing = 0;
  #slowestHealMs = 0;

  constructor(scenario: Scenario, target: Target, folder: string, options: CampaignOptions) {
    this.#scenario = scenario;
    this.#target = target;
    this.#folder = folder;
    this.#options = options;
    this.#random = seeded(`${options.seed} ${scenario.name}`);
    this.#inspector = new Inspector(scenario, target);
    this.#ofConfig = new ConfigSecrets(folder, this.#rootKey);
  }

  async run(): Promise<Report> {
    const { kills, untilFound, say } = this.#options;
    const store = openSqlite(join(this.#folder, "rekey.db"));
    await migrate(store);
    await store.close();
    let done = 0;
    while (done < kills && !(untilFound && this.#inspector.violations.length > 0)) {
      if (done % roundsOfSecret === 0) await this.#newSecrets();
      const killed = await this.#kill();
      if (killed !== undefined) done += 1;
      await this.#inspect(killed ?? "it ended by itself");
      if (done % 50 === 0 && killed !== undefined) say?.(`${this.#scenario.name}: ${done} of ${kills} kills`);
    }
    await this.#healAll();
    await this.#inspector.leaks(this.#output, this.#folder);
    return {
      scenario: this.#scenario.name,
      kills: done,
      points: this.#points.size,
      moments: this.#moments,
      whileHealing: this.#whileHealing,
      rotations: this.#inspector.rotations,
      slowestHealMs: Math.round(this.#slowestHealMs),
      violations: this.#inspector.violations,
    };
  }

  /** Where the process was when it died; `undefined` when it had ended its work before. */
  async #kill(): Promise<string | undefined> {
    const atMoment = this.#random() < 0.3;
    const killAt = atMoment ? 0 : 1 + Math.floor(this.#random() * this.#longest * 1.1);
    const whileHealing = this.#random() < 0.25;
    const startedAt = performance.now();
    let healed = false;
    let place: string | undefined;
    const mostMs = 20 + 400 * this.#random();
    let timer: NodeJS.Timeout | undefined;
    const { child: worker, ended } = this.#start({ killAt, whileHealing, rounds: atMoment ? 1_000 : 1 }, (line) => {
      if (line === "healed") {
        healed = true;
        this.#slowestHealMs = Math.max(this.#slowestHealMs, performance.now() - startedAt);
      } else if (line === "begun" && atMoment) {
        timer = setTimeout(() => worker.kill("SIGKILL"), mostMs);
      } else if (line.startsWith("killed ")) place = line.slice(7);
      else if (line.startsWith("points ") && !atMoment) this.#longest = Number(line.slice(7));
    });
    const deadline = setTimeout(() => {
      this.#inspector.violated("I6", `nothing healed within ${healWithinMs} ms of a start`, "a start");
      worker.kill("SIGKILL");
    }, healWithinMs);
    await ended;
    clearTimeout(deadline);
    clearTimeout(timer);
    if (worker.signalCode === "SIGKILL" && !healed) this.#whileHealing += 1;
    if (atMoment && worker.signalCode === "SIGKILL") {
      this.#moments += 1;
      return `a moment, ${mostMs.toFixed(0)} ms after the start`;
    }
    if (worker.signalCode === "SIGKILL") {
      this.#points.add(place ?? "?");
      return `point ${killAt}, ${place}`;
    }
    if (worker.exitCode !== 0) this.#inspector.violated("worker", `it ended with ${worker.exitCode}: ${this.#tail()}`, "a start");
    return undefined;
  }

  /** A last start that nobody kills: afterwards everything has to be in order. */
  async #healAll(): Promise<void> {
    const { child: worker, ended } = this.#start({ killAt: 0, whileHealing: false, rounds: 1 });
    const deadline = setTimeout(() => worker.kill("SIGKILL"), healWithinMs);
    await ended;
    clearTimeout(deadline);
    const name = worker.exitCode === null ? "I6" : "worker"; // not ended by itself, or by an error
    if (worker.exitCode !== 0) this.#inspector.violated(name, `the last start did not end its work: ${this.#tail()}`, "the end");
    await this.#inspect("the last start");
    await this.#withWorld((world) => this.#inspector.atEnd(world, this.#secrets));
  }

  #start(how: Pick<Job, "killAt" | "whileHealing" | "rounds">, take?: (line: string) => void): WorkerProcess {
    const { functionName } = this.#scenario;
    const declared = this.#target.declared?.();
    const named = { functionName, ...(declared && { declared }), secrets: this.#secrets, atOnce: secretsAtOnce };
    const job: Job = { ...how, folder: this.#folder, ...named };
    const worker = startWorker(join(this.#options.root, "test/crash/campaign/worker.ts"), job, this.#rootKey, take);
    this.#workers.push(worker);
    return worker;
  }

  get #output(): string {
    return this.#workers.map((worker) => worker.text()).join("");
  }

  #tail(): string {
    return this.#output.slice(-600);
  }

  async #inspect(where: string): Promise<void> {
    await this.#withWorld(async (world) => {
      await this.#inspector.afterKill(world, this.#secrets, where);
      const violated = (invariant: string, what: string) => this.#inspector.violated(invariant, what, where);
      if (this.#scenario.inConfig) await this.#ofConfig.inspect(world, this.#secrets, violated);
    });
  }

  async #newSecrets(): Promise<void> {
    const { retireAfterSeconds, inConfig } = this.#scenario;
    await this.#withWorld(async (world) => {
      const { admin } = this.#target;
      const master = !inConfig && admin && (await world.newSecret(`master-${this.#made}`, admin));
      this.#secrets = [];
      for (let count = 0; count < secretsAtOnce; count += 1, this.#made += 1) {
        const name = `user_${this.#made}`;
        if (inConfig) {
          this.#secrets.push(await this.#ofConfig.create(world.sql, this.#target, name));
          continue;
        }
        const credential = await this.#target.newAccount(name);
        const value = { ...credential, ...(master && { masterarn: master.arn }) };
        const policy = retireAfterSeconds === undefined ? {} : { rotationPolicy: { retireAfterSeconds } };
        await world.newSecret(name, value, policy);
        this.#secrets.push(name);
      }
    });
  }

  async #withWorld(work: (world: World) => Promise<void>): Promise<void> {
    const sql = openSqlite(join(this.#folder, "rekey.db"));
    try {
      await work(await openWorld(sql, { rootKey: this.#rootKey }));
    } finally {
      await sql.close();
    }
  }
}
