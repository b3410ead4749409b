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
import type { FarSides } from "./far-sides.ts";

/** What is done while it is killed, and what must hold of it. */
export interface FarWork {
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

export async function runFarCampaign(
  name: string,
  options: CampaignOptions,
  start: (place: FarPlace) => Promise<{ readonly sides: FarSides; readonly work: FarWork }>,
): Promise<FarReport> {
  const folder = mkdtempSync(join(tmpdir(), "rekey-far-"));
  const place = { folder, port: await freePort(), root: options.root, random: seeded(`${options.seed} ${name}`) };
  try {
    const { sides, work } = await start(place);
    await using _ = sides;
    return await new Campaign({ name, place, sides, work, options }).run();
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface Parts {
  readonly name: string;
  readonly place: FarPlace;
  readonly sides: FarSides;
  readonly work: FarWork;
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
  #kills = 0;
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
      for (let rounds = 0, told = 0; this.#kills < kills && !(untilFound && work.violations.length > 0); rounds += 1) {
        const server = await this.#living();
        if (rounds % roundsOfWork === 0) await work.prepare(server);
        await this.#round(server);
        if (this.#kills - told < 20) continue;
        told = this.#kills;
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
      slowestHealMs: Math.round(this.#slowestHealMs),
      faults: sides.faults,
    };
  }

  /** One round of work, in which the server dies, or another side, or both. */
  async #round(server: RekeyServer): Promise<void> {
    const { sides, work, place } = this.#parts;
    const { random } = place;
    const kind = sides.plan ? random() : 0;
    const planned: PlannedDeath[] = [];
    if (kind >= 0.4 && sides.plan) planned.push(sides.plan());
    if (kind < 0.4 || kind >= 0.8) planned.push(this.#planServer(server));
    sides.faultRate(faultRate);
    const asked = work.round(server);
    const dead = Promise.race(planned.map((one) => one.dead));
    await Promise.race([dead, asked.then(() => this.#quiet(server, healWithinMs))]);
    const places: string[] = [];
    for (const one of planned) places.push(await one.now());
    for (const where of places) this.#count(where);
    const where = places.join(", and ");
    const late = random() < 0.5;
    if (!late) await sides.revive();
    if (!this.#server) await this.#afterDeath(where);
    await asked;
    await this.#heal(where, late);
  }

  #planServer(server: RekeyServer): PlannedDeath {
    return this.#points.plan(server, this.#parts.place.random, async () => {
      await this.#gone(server);
      return `the server, ${this.#points.placeIn(server.log())}`;
    });
  }

  async #gone(server: RekeyServer): Promise<void> {
    this.#server = undefined;
    await server.stop("SIGKILL");
    this.#logs.push(server.log());
  }

  #count(where: string): void {
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
