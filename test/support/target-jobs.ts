// Jobs at a target, asked for as operations do and done by the engine of a world.
import { setTimeout as sleep } from "node:timers/promises";
import type { Secret } from "../../src/core/secret.ts";
import type { Engine } from "../../src/engine/loop.ts";
import { findJob, insertJob, type JobData, type JobKind, type TargetJob } from "../../src/store/target-jobs.ts";
import type { Finding } from "../../src/targets/target.ts";
import { owner, type World } from "./engine-world.ts";

export interface Found {
  readonly ok: boolean;
  readonly findings: readonly Finding[];
  readonly passed: readonly string[];
}

/** Queues a job; its id. */
export async function askFor(world: World, secret: Secret, kind: JobKind, input: JobData): Promise<string> {
  const at = Date.now();
  const asked = { secretId: secret.id, kind, input, principal: owner, createdAt: at, expiresAt: at + 60_000 };
  const id = await world.sql.transaction((tx) => insertJob(tx, asked));
  if (id === undefined) throw new Error("a rollback is under way");
  return id;
}

export async function jobEnded(world: World, id: string): Promise<TargetJob> {
  for (;;) {
    const job = await findJob(world.sql, id);
    if (job?.endedAt !== undefined) return job;
    await sleep(5);
  }
}

/** A world and the engine that works in it. */
export interface Doer {
  readonly world: World;
  readonly engine: Pick<Engine, "wake">;
}

/** The job once it has ended. */
export async function done(by: Doer, secret: Secret, kind: JobKind, input: JobData): Promise<TargetJob> {
  const id = await askFor(by.world, secret, kind, input);
  by.engine.wake();
  return jobEnded(by.world, id);
}
