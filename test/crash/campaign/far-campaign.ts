// Kills the real server, and the agents or functions that work for it in a network, at points of what they do and at moments,
// while messages between them are lost; looks after each death of the server, and when all has healed.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openSqlite } from "../../../src/store/sqlite.ts";
import { account, newRootKey, openWorld, region, type World } from "../../support/engine-world.ts";
import { seeded } from "../../support/random.ts";
import { type RekeyServer, startRekey } from "../../support/rekey-server.ts";
import { freePort } from "../../support/server-process.ts";
import type { CampaignOptions } from "./campaign.ts";
import { type PlannedDeath, type Points, pointsOf } from "./far-points.ts";
import { type FarSides, stoppedWord } from "./far-sides.ts";
import type { Mortal } from "./targets.ts";

/** `trouble`: somebody may be dead and messages are lost from now on; `calm`: no more. */
export type FarEvent = "server died" | "server lives" | "target died" | "target lives" | "trouble" | "calm";

/** What is done while it is killed, and what must hold of it. */
export interface FarWork {
  noted(event: FarEvent): void;
  readonly violations: readonly string[];
  violated(invariant: string, what: string, where: string): void;
  /** Before the first round, and again after some. */
  prepare(server: RekeyServer): Promise<void>;
  /** Asks for one round; what does not come back is of no matter. */
  round(server: RekeyServer): Promise<unknown>;
  isQuiet(server: RekeyServer): Promise<boolean>;
  /** The server is dead, and nothing is repaired. */
  afterKill(world: World, where: string): Promise<void>;
  /** It has healed; the store belongs to the server that lives. */
  afterHealing(storeFile: string, where: string): Promise<void>;
  /** All is as it should be: one more round went well. `server` lives. */
  finish(server: RekeyServer): Promise<void>;
  atEnd(world: World, output: string, folder: string): Promise<void>;
}

export interface FarPlace {
  /** Its folder, the port of the server, and where the sources are. */
  readonly folder: string;
  readonly port: number;
  readonly root: string;
  readonly random: () => number;
}

export interface FarReport {
  readonly kills: number;
  readonly points: number;
  readonly moments: number;
  readonly whileHealing: number;
  /** Of the kills, those of the target. */
  readonly targetKills: number;
  /** An agent was stopped, and went on when others had taken over. */
  readonly stops: number;
  readonly slowestHealMs: number;
  /** Messages that were cut, lost, late or doubled. */
  readonly faults: number;
}

/** Reliability I6. */
const healWithinMs = 60_000;
/** Messages are lost for so long after a start; then nothing else goes wrong. */
const faultsWhileHealingMs = 15_000;
/** A secret keeps at most 100 versions of one day. */
const roundsOfWork = 40;
/** Of each message, until all has healed. */
const faultRate = 0.15;
/** Of rounds, where the target can be killed; and of those, the ones in which nobody else is. */
const targetRate = 0.2;
const targetAloneRate = 0.6;
/** When the target dies in a round, and how long it stays away, at most. */
const targetMomentMs = 1_000;
const targetAwayMs = 2_000;

export async function runFarCampaign(
  name: string,
  options: CampaignOptions,
  start: (place: FarPlace) => Promise<FarParts>,
): Promise<FarReport> {
  const folder = mkdtempSync(join(tmpdir(), "rekey-far-"));
  const place = { folder, port: await freePort(), root: options.root, random: seeded(`${options.seed} ${name}`) };
  try {
    const parts = await start(place);
    await using _ = parts.sides;
    return await new Campaign({ name, place, ...parts, options }).run();
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface FarParts {
  readonly sides: FarSides;
  readonly work: FarWork;
  /** Absent: it is not killed. */
  readonly target?: Mortal | undefined;
  /** Nobody dies but those who work at the targets. */
  readonly onlySides?: boolean;
}

interface Parts extends FarParts {
  readonly name: string;
  readonly place: FarPlace;
  readonly options: CampaignOptions;
}

class Campaign {
  readonly #parts: Parts;
  readonly #points: Points;
  readonly #data: string;
  readonly #rootKey = newRootKey();
  readonly #places = new Set<string>();
  readonly #logs: string[] = [];
  #server: RekeyServer | undefined;
  #targetIsDead = false;
  #kills = 0;
  #targetKills = 0;
  #stops = 0;
  #moments = 0;
  #whileHealing = 0;
  #slowestHealMs = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#data = join(parts.place.folder, "server");
    this.#points = pointsOf(parts.place.root, this.#data);
  }

  async run(): Promise<FarReport> {
    const { sides, work, options, name } = this.#parts;
    const { kills, untilFound, say } = options;
    try {
      const first = await this.#start();
      await sides.introduce(first);
      const isOver = () => this.#kills + this.#stops >= kills || (untilFound && work.violations.length > 0);
      for (let rounds = 0, told = 0; !isOver(); rounds += 1) {
        const server = await this.#living();
        if (rounds % roundsOfWork === 0) await work.prepare(server);
        await this.#round(server);
        if (this.#kills + this.#stops - told < 20) continue;
        told = this.#kills + this.#stops;
        say?.(`${name}: ${told} of ${kills} kills`);
      }
      await this.#gone(await this.#living());
      await this.#inspect("the last round");
      await work.finish(await this.#living());
    } finally {
      const left = this.#server;
      this.#server = undefined;
      if (left) this.#logs.push(left.log());
      await left?.stop("SIGKILL");
    }
    const output = this.#logs.join("") + sides.output();
    await this.#withWorld((world) => work.atEnd(world, output, this.#parts.place.folder));
    return {
      kills: this.#kills,
      points: this.#places.size,
      moments: this.#moments,
      whileHealing: this.#whileHealing,
      targetKills: this.#targetKills,
      stops: this.#stops,
      slowestHealMs: Math.round(this.#slowestHealMs),
      faults: sides.faults,
    };
  }

  /** One round of work, in which the server dies, or another side, or the target, or several of them. */
  async #round(server: RekeyServer): Promise<void> {
    const { sides, work, place } = this.#parts;
    const { random } = place;
    const planned = this.#plan(server);
    work.noted("trouble");
    sides.faultRate(faultRate);
    const asked = work.round(server);
    const dead = Promise.race(planned.map((one) => one.dead));
    await Promise.race([dead, asked.then(() => this.#quiet(server, healWithinMs))]);
    const places: string[] = [];
    for (const one of planned) places.push(await one.now());
    for (const where of places) this.#count(where);
    const where = places.join(", and ");
    if (this.#targetIsDead) await this.#reviveTarget();
    const late = random() < 0.5;
    if (!late) await sides.revive();
    if (!this.#server) await this.#afterDeath(where);
    await asked;
    await this.#heal(where, late);
  }

  #plan(server: RekeyServer): PlannedDeath[] {
    const { sides, target, place, onlySides } = this.#parts;
    const { random } = place;
    if (onlySides && sides.plan) return [sides.plan()];
    const planned = target && random() < targetRate ? [this.#planTarget(target)] : [];
    if (planned.length > 0 && random() < targetAloneRate) return planned;
    const kind = sides.plan ? random() : 0;
    if (kind >= 0.4 && sides.plan) planned.push(sides.plan());
    if (kind < 0.4 || kind >= 0.8) planned.push(this.#planServer(server));
    return planned;
  }

  #planServer(server: RekeyServer): PlannedDeath {
    const gone = async () => {
      await this.#gone(server);
      return `the server, ${this.#points.placeIn(server.log())}`;
    };
    return this.#points.plan(server, this.#parts.place.random, { gone });
  }

  #planTarget(target: Mortal): PlannedDeath {
    const momentMs = targetMomentMs * this.#parts.place.random();
    let died: Promise<string> | undefined;
    const kill = async (): Promise<string> => {
      this.#parts.work.noted("target died");
      this.#targetIsDead = true;
      this.#targetKills += 1;
      await target.kill();
      return "the target, at a moment";
    };
    const now = () => (died ??= kill());
    return { dead: sleep(momentMs).then(now), now };
  }

  async #reviveTarget(): Promise<void> {
    const { target, work, place } = this.#parts;
    await sleep(targetAwayMs * place.random());
    await target?.restart();
    this.#targetIsDead = false;
    work.noted("target lives");
  }

  async #gone(server: RekeyServer): Promise<void> {
    this.#server = undefined;
    this.#parts.work.noted("server died");
    await server.stop("SIGKILL");
    this.#logs.push(server.log());
  }

  #count(where: string): void {
    if (where.startsWith(stoppedWord)) {
      this.#stops += 1;
      return;
    }
    this.#kills += 1;
    if (where.endsWith("at a moment")) this.#moments += 1;
    else this.#places.add(where);
  }

  /** Looks, and starts it anew; sometimes it dies once more while it starts or heals. */
  async #afterDeath(where: string): Promise<void> {
    await this.#inspect(where);
    if (this.#parts.place.random() < 0.25) {
      const dies = { POINTS_KILL_AT: String(1 + Math.floor(this.#parts.place.random() * 150)) };
      const server = await this.#start(dies).catch(() => undefined); // it may die before it listens
      if (server) {
        await Promise.race([sleep(3_000 * this.#parts.place.random()), server.stop("SIGCONT")]);
        await this.#gone(server);
      }
      this.#kills += 1;
      this.#whileHealing += 1;
      await this.#inspect(`${where}, and once more while it healed`);
    }
    await this.#start();
  }

  /** `late`: whoever died in the network is away until then, and others take over. */
  async #heal(where: string, late: boolean): Promise<void> {
    const { sides, work } = this.#parts;
    const server = await this.#living();
    const startedAt = performance.now();
    if (!(await this.#quiet(server, faultsWhileHealingMs))) {
      sides.faultRate(0);
      if (!(await this.#quiet(server, healWithinMs))) {
        const said = `${server.log().slice(-2_000)}\n${sides.output().slice(-3_000)}`;
        work.violated("I6", `nothing healed within ${healWithinMs} ms of a start with a network that works: ${said}`, where);
      }
    }
    this.#slowestHealMs = Math.max(this.#slowestHealMs, performance.now() - startedAt);
    sides.faultRate(0);
    if (late) await sides.revive();
    if (sides.isWhole) work.noted("calm");
    await work.afterHealing(join(this.#data, "rekey.db"), where);
  }

  /** Until nothing is under way; false when that took too long, or the server is dead. */
  async #quiet(server: RekeyServer, withinMs: number): Promise<boolean> {
    const startedAt = performance.now();
    while (this.#server === server && performance.now() - startedAt < withinMs) {
      if (await this.#parts.work.isQuiet(server).catch(() => false)) return true;
      await sleep(20);
    }
    return false;
  }

  async #living(): Promise<RekeyServer> {
    return this.#server ?? this.#start();
  }

  async #start(more: NodeJS.ProcessEnv = {}): Promise<RekeyServer> {
    const { sides, place } = this.#parts;
    const at = [
      "--listen",
      `127.0.0.1:${place.port}`,
      "--root-key",
      "env:CAMPAIGN_KEY",
      "--account",
      account,
      "--region",
      region,
    ];
    const server = await startRekey({
      dataFolder: this.#data,
      program: join(place.root, "src/cli.ts"),
      flags: [...at, ...sides.serverFlags],
      env: { ...this.#points.env, ...sides.serverEnv, CAMPAIGN_KEY: this.#rootKey, ...more },
    });
    this.#server = server;
    this.#parts.work.noted("server lives");
    return server;
  }

  async #inspect(where: string): Promise<void> {
    await this.#withWorld((world) => this.#parts.work.afterKill(world, where));
  }

  async #withWorld(look: (world: World) => Promise<void>): Promise<void> {
    const sql = openSqlite(join(this.#data, "rekey.db"));
    try {
      await look(await openWorld(sql, { rootKey: this.#rootKey }));
    } finally {
      await sql.close();
    }
  }
}
