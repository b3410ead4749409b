// Kills the real program at moments of its work, of its start and of its healing, while applications read what they need
// from it and log in with that; and its processes of functions.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { auditKeyPurpose } from "../../../src/open-store.ts";
import { verifyAudit } from "../../../src/store/audit-verify.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import { nativeOk } from "../../support/aws.ts";
import { account, newRootKey, openWorld, region, type World } from "../../support/engine-world.ts";
import { functionTools, nodeRotation } from "../../support/function-world.ts";
import { runRekey, workersOf } from "../../support/processes.ts";
import { seeded } from "../../support/random.ts";
import { type RekeyServer, startRekey } from "../../support/rekey-server.ts";
import { freePort } from "../../support/server-process.ts";
import { Application, type Met } from "./application.ts";
import type { CampaignOptions, Report } from "./campaign.ts";
import { Inspector } from "./inspector.ts";
import { type Scenario, scenarios } from "./scenarios.ts";
import type { Target } from "./targets.ts";

/** What the program does while it is killed. */
export interface ProgramScenario {
  readonly name: string;
  readonly rotates: Scenario;
  readonly processes?: number;
  /** A program of its own makes the values, and is killed too. */
  readonly ownFunction?: boolean;
}

export interface ProgramReport extends Report, Met {}

/** Reliability I6. */
const healWithinMs = 60_000;
/** Reliability I2, after a start. */
const longestGapMs = 30_000;
const secretsAtOnce = 2;
/** A secret keeps at most 100 versions of one day. */
const roundsOfSecret = 40;
/** As long as a round of rotations takes, about; the first one shows. */
const firstGuessMs = 600;

function rotating(name: string): Scenario {
  const found = scenarios.find((one) => one.name === name);
  if (!found) throw new Error(`no scenario ${name}`);
  return found;
}

export const programScenarios: readonly ProgramScenario[] = [
  { name: "program, postgres/single-user", rotates: rotating("postgres/single-user") },
  { name: "program, postgres/alternating-users", rotates: rotating("postgres/alternating-users") },
  { name: "program, redis/dual-slot", rotates: rotating("redis/dual-slot") },
  { name: "program of two processes, postgres/alternating-users", rotates: rotating("postgres/alternating-users"), processes: 2 },
  { name: "program, a function of its own", rotates: rotating("random/generator"), ownFunction: true },
];

export async function runProgram(program: ProgramScenario, options: CampaignOptions): Promise<ProgramReport> {
  await using target = await program.rotates.start();
  const folder = mkdtempSync(join(tmpdir(), "rekey-program-"));
  try {
    return await new Campaign(program, target, folder, await freePort(), options).run();
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Campaign {
  readonly #program: ProgramScenario;
  readonly #target: Target;
  readonly #folder: string;
  readonly #options: CampaignOptions;
  readonly #random: () => number;
  readonly #flags: readonly string[];
  readonly #rootKey = newRootKey();
  readonly #inspector: Inspector;
  readonly #logs: string[] = [];
  #applications: Application[] = [];
  readonly #met = { logins: 0, reads: 0, refused: 0, longestGapMs: 0 };
  #secrets: string[] = [];
  #functionArn = "";
  #made = 0;
  #roundMs = firstGuessMs;
  #startMs = 0;
  #whileHealing = 0;
  #slowestHealMs = 0;

  constructor(program: ProgramScenario, target: Target, folder: string, port: number, options: CampaignOptions) {
    this.#program = program;
    this.#target = target;
    this.#folder = folder;
    this.#options = options;
    this.#random = seeded(`${options.seed} ${program.name}`);
    this.#inspector = new Inspector(program.rotates, target);
    const place = ["--listen", `127.0.0.1:${port}`, "--root-key", "env:CAMPAIGN_KEY", "--account", account, "--region", region];
    const functions = program.ownFunction ? ["--functions-dir", join(folder, "functions"), "--functions-users", "same"] : [];
    this.#flags = [...place, "--processes", String(program.processes ?? 1), ...functions];
  }

  async run(): Promise<ProgramReport> {
    const { kills, say, untilFound } = this.#options;
    let server = await this.#start();
    let done = 0;
    try {
      while (done < kills && !(untilFound && this.#inspector.violations.length > 0)) {
        if (done % roundsOfSecret === 0) await this.#newSecrets(server);
        const startedAt = performance.now();
        const asked = this.#rotateAll(server);
        await sleep(1.2 * this.#roundMs * this.#random());
        const where = await this.#kill(server, startedAt);
        await asked;
        if (where.dead) {
          server = await this.#revive(`kill ${done + 1}, ${where.what}`);
          for (const one of this.#applications) one.up();
        }
        done += 1;
        const healMs = await this.#quiet(server);
        if (where.dead) this.#slowestHealMs = Math.max(this.#slowestHealMs, healMs);
        if (done % 10 === 0) say?.(`${this.#program.name}: ${done} of ${kills} kills`);
      }
      await this.#oneUnharmed(server);
    } finally {
      await this.#endApplications();
      this.#logs.push(server.log());
      await server.stop();
    }
    await this.#atEnd();
    return {
      scenario: this.#program.name,
      kills: done,
      points: 0,
      moments: done,
      whileHealing: this.#whileHealing,
      rotations: this.#inspector.rotations,
      slowestHealMs: Math.round(this.#slowestHealMs),
      ...this.#met,
      violations: this.#inspector.violations,
    };
  }

  async #start(onSpawn?: (child: ChildProcess) => void): Promise<RekeyServer> {
    const program = join(this.#options.root, "src/cli.ts");
    const env = { NODE_COMPILE_CACHE: join(tmpdir(), "rekey-compiled"), CAMPAIGN_KEY: this.#rootKey };
    const startedAt = performance.now();
    const server = await startRekey({ dataFolder: this.#folder, flags: this.#flags, program, env, ...(onSpawn && { onSpawn }) });
    this.#startMs = performance.now() - startedAt;
    return server;
  }

  /** The whole program, the process that writes, or that of a function. */
  async #kill(server: RekeyServer, startedAt: number): Promise<{ what: string; dead: boolean }> {
    const after = `${Math.round(performance.now() - startedAt)} ms after rotations were asked for`;
    const part = this.#random() < 0.5 ? this.#partOf(server) : undefined;
    if (part !== undefined) {
      process.kill(part, "SIGKILL");
      return { what: `a part of it, ${after}`, dead: false };
    }
    // Also one that does not serve yet: it may have the store already.
    const workers = this.#program.processes === undefined ? [] : childrenOf(server.pid);
    for (const one of this.#applications) one.down();
    await server.stop("SIGKILL");
    this.#logs.push(server.log());
    for (const worker of workers) await gone(worker);
    return { what: after, dead: true };
  }

  #partOf(server: RekeyServer): number | undefined {
    if (this.#program.processes !== undefined) return workersOf(server, "writer")[0];
    return this.#program.ownFunction ? childrenOf(server.pid)[0] : undefined;
  }

  /** Looks at what the dead left, and starts anew; sometimes that one dies as well while it starts or heals. */
  async #revive(where: string): Promise<RekeyServer> {
    await this.#withWorld((world) => this.#inspect(world, where));
    if (this.#random() < 0.25) {
      this.#whileHealing += 1;
      const afterMs = 1.3 * this.#startMs * this.#random();
      let died: Promise<unknown> | undefined;
      const started = this.#start((child) => {
        died = once(child, "exit");
        setTimeout(() => child.kill("SIGKILL"), afterMs);
      });
      const server = await started.catch(() => undefined); // it may die before it listens
      await died;
      await server?.stop();
      await this.#withWorld((world) => this.#inspect(world, `${where}, and a start of ${Math.round(afterMs)} ms`));
    }
    return this.#start();
  }

  async #inspect(world: World, where: string): Promise<void> {
    await this.#inspector.afterKill(world, this.#secrets, where);
    const key = world.keys.deriveKey(auditKeyPurpose);
    const { ok, problems } = await verifyAudit({ sql: world.sql, key, dir: this.#folder });
    if (!ok) this.#inspector.violated("audit", JSON.stringify(problems), where);
  }

  async #rotateAll(server: RekeyServer): Promise<void> {
    const begin = (secretId: string) =>
      nativeOk(server, "secrets/rotate", {
        secretId,
        clientRequestToken: crypto.randomUUID(),
        rotationLambdaArn: this.#functionArn,
        rotationRules: { automaticallyAfterDays: 30 },
      }).catch(() => undefined); // killed before it could answer
    await Promise.all(this.#secrets.map(begin));
  }

  /** Waits until no rotation runs, and the applications know what is current; how long that took, in ms. */
  async #quiet(server: RekeyServer): Promise<number> {
    const startedAt = performance.now();
    const runs = async (): Promise<boolean> => {
      const { rotations } = await nativeOk(server, "rotations/list", { state: "running" });
      return (rotations as unknown[]).length > 0;
    };
    while (await runs().catch(() => true)) {
      if (performance.now() - startedAt > healWithinMs) {
        this.#inspector.violated("I6", `rotations still run ${healWithinMs} ms after a start`, server.log().slice(-800));
        break;
      }
      await sleep(10);
    }
    const tookMs = performance.now() - startedAt;
    await Promise.all(this.#applications.map((one) => one.caughtUp()));
    return tookMs;
  }

  async #oneUnharmed(server: RekeyServer): Promise<void> {
    await this.#rotateAll(server);
    this.#roundMs = await this.#quiet(server);
  }

  async #newSecrets(server: RekeyServer): Promise<void> {
    await this.#endApplications();
    if (this.#made === 0) this.#functionArn = await this.#prepareFunction(server);
    const { admin } = this.#target;
    const master = admin && (await create(server, `master-${this.#made}`, admin));
    this.#secrets = [];
    for (let count = 0; count < secretsAtOnce; count += 1, this.#made += 1) {
      const name = `user_${this.#made}`;
      await create(server, name, { ...(await this.#target.newAccount(name)), ...(master && { masterarn: master }) });
      this.#secrets.push(name);
    }
    this.#applications = this.#secrets.map((name) => new Application(server, name, this.#target));
    await this.#oneUnharmed(server);
  }

  async #prepareFunction(server: RekeyServer): Promise<string> {
    if (!this.#program.ownFunction) return `arn:aws:lambda:${region}:${account}:function:${this.#program.rotates.functionName}`;
    const tools = functionTools(server, join(this.#folder, "functions"));
    tools.write("rotate.mjs", nodeRotation);
    await tools.create({ name: "campaign", file: "rotate.mjs" });
    return `arn:aws:lambda:${region}:${account}:function:campaign`;
  }

  async #endApplications(): Promise<void> {
    for (const one of this.#applications) {
      const met = await one.stop();
      this.#met.logins += met.logins;
      this.#met.reads += met.reads;
      this.#met.refused += met.refused;
      this.#met.longestGapMs = Math.max(this.#met.longestGapMs, Math.round(met.longestGapMs));
      if (this.#program.rotates.overlap && met.refused > 0)
        this.#inspector.violated("I1", `${met.refused} of ${met.logins} logins of an application were refused`, "kills");
      if (met.longestGapMs > longestGapMs)
        this.#inspector.violated("I2", `an application could not log in for ${met.longestGapMs} ms`, "kills");
      for (const failure of met.failures) this.#inspector.violated("I1", `a login failed otherwise: ${failure}`, "kills");
    }
    this.#applications = [];
  }

  async #atEnd(): Promise<void> {
    await this.#withWorld(async (world) => {
      await this.#inspect(world, "the end");
      await this.#inspector.atEnd(world, this.#secrets);
    });
    await this.#inspector.leaks(this.#logs.join(""), this.#folder);
    const env = { CAMPAIGN_KEY: this.#rootKey };
    const store = ["--data", this.#folder, "--root-key", "env:CAMPAIGN_KEY", "--account", account, "--json"];
    for (const command of [["audit", "verify"], ["doctor"]]) {
      const { code, out, err } = await runRekey([...command, ...store], env);
      if (code !== 0) this.#inspector.violated(command.join(" "), `${out}${err}`.slice(-800), "the end");
    }
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

async function create(server: RekeyServer, name: string, value: object): Promise<string> {
  const made = await nativeOk(server, "secrets/create", {
    name,
    clientRequestToken: crypto.randomUUID(),
    secretString: JSON.stringify(value),
  });
  return String(made.arn);
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(5);
  }
}
