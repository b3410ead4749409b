import { randomUUID } from "node:crypto";
import { type OutcomeClass, RotatorError, ServiceError } from "../core/error.ts";
import { beat, heartbeatWords } from "../core/heartbeat.ts";
import { loginAdvice } from "../core/login-outcome.ts";
import { isOwned } from "../core/rotated-secret.ts";
import { addPending, isPending, type Secret, versionWith } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import { anyHeartbeatDue, planNext, readHeartbeat, saveHeartbeat, takeHeartbeats } from "../store/heartbeats.ts";
import { abandonRotation, insertRotation } from "../store/rotations.ts";
import { changeSecret, loadSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import { busyAccount, isRotating } from "../store/target-jobs.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Rotator, Strategy } from "../targets/target.ts";
import { targetOf } from "./caps.ts";
import { callDeadline } from "./clock.ts";
import { suitable } from "./job-target.ts";
import { rotatorFor } from "./network.ts";
import { pauseOwned } from "./owned-secrets.ts";
import type { EngineParts, RotatorFunction } from "./parts.ts";
import { readSuperuser } from "./superuser.ts";
import { credentialOf } from "./values.ts";
import { type Limits, noteOutcome } from "./within-limits.ts";

const atOnce = 8;
/** A repair may be tried again for so long. */
const repairWindowMs = 3_600_000;
/** At a target that is busy a try waits between one and two of these. */
const busyPauseMs = 1_000;

/** A credential and how to try it. */
interface Tried {
  readonly secret: Secret;
  readonly versionId: string;
  readonly rotator: Rotator<AnyCredential>;
  readonly current: AnyCredential;
  readonly account: string;
}

/** Tries current credentials at their targets, as often as their secrets' policies ask. */
export class Heartbeats {
  readonly #parts: EngineParts;
  readonly #limits: Limits;
  readonly #wake: () => void;
  readonly #running = new Set<Promise<void>>();
  #stopping = false;

  /** `limits` are those of rotations; `wake` is called when a try has ended. */
  constructor(parts: EngineParts, limits: Limits, wake: () => void) {
    this.#parts = parts;
    this.#limits = limits;
    this.#wake = wake;
  }

  get full(): boolean {
    return this.#running.size >= atOnce;
  }

  /** Begins what is due, as far as there is room. */
  async begin(): Promise<false> {
    const { sql, now, random } = this.#parts;
    if (this.#stopping || this.full || !(await anyHeartbeatDue(sql, now()))) return false;
    const room = atOnce - this.#running.size;
    const due = await sql.transaction((tx) => takeHeartbeats(tx, now(), room, random), { durable: false });
    for (const id of due) this.#start(id);
    return false;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  #start(secretId: string): void {
    const work = tryCredential(this.#parts, this.#limits, secretId)
      .catch((error: unknown) => this.#parts.log.error({ err: error, secretId }, "a credential could not be tried"))
      .finally(() => {
        this.#running.delete(work);
        this.#wake();
      });
    this.#running.add(work);
  }
}

async function tryCredential(parts: EngineParts, { caps, breakers }: Limits, secretId: string): Promise<void> {
  const { sql, now, random, settings, generatePassword } = parts;
  const tried = await openTried(parts, secretId);
  if (!tried || (await isBusy(sql, tried))) return;
  const { rotator, current, account } = tried;
  const target = targetOf(account);
  const away = breakers.away(target);
  if (away) {
    // That much is known of it without a try of its own; when the target is back, so shall this be told.
    await record(parts, tried, "unreachable");
    return planNext(sql, secretId, away.untilMs);
  }
  if (!caps.enter(target)) return planNext(sql, secretId, Math.ceil(now() + busyPauseMs * (1 + random())));
  try {
    const outcome = await rotator.probe(current, {
      rotationId: "heartbeat",
      deadlineAt: callDeadline(settings.callMs),
      generatePassword,
    });
    await noteOutcome(parts, breakers, { target, outcome });
    await record(parts, tried, outcome);
  } finally {
    caps.leave(target);
  }
}

/** `undefined` when there is nothing that could be tried: then nothing is said of it either. */
async function openTried(parts: EngineParts, secretId: string): Promise<Tried | undefined> {
  const secret = await loadSecret(parts.sql, secretId);
  const version = secret && versionWith(secret, "AWSCURRENT");
  const { rotationFunctionArn, deletedAt } = secret ?? {};
  if (!secret || !version?.kind || deletedAt !== undefined || !rotationFunctionArn) return undefined;
  if (!(await isConfigured(parts, secret))) return undefined;
  const found = await usableFunction(parts, secret, rotationFunctionArn);
  const rotator = found && (await rotatorFor(parts, found, secret));
  if (!found || !rotator || found.strategy === "generator") return undefined;
  try {
    const value = await credentialOf(parts, secret, version, "the current value");
    const current = value && suitable(rotator, value, "the current value");
    return (
      current && { secret, versionId: version.id, rotator, current, account: accountOf(secret, rotator, current, found.strategy) }
    );
  } catch (error) {
    // A value that cannot be read or used is told by the rotation and its pre-flight.
    if (error instanceof RotatorError || (error instanceof ServiceError && error.status < 500)) return undefined;
    throw error;
  }
}

/** By somebody who is still there; a config's own secrets need nobody. */
async function isConfigured(parts: EngineParts, secret: Secret): Promise<boolean> {
  const { rotationPrincipal } = secret;
  return isOwned(secret) || (rotationPrincipal !== undefined && (await parts.mayRun(rotationPrincipal)) === undefined);
}

/** `undefined` when it may not be invoked for the secret as things stand. */
async function usableFunction(parts: EngineParts, secret: Secret, functionArn: string): Promise<RotatorFunction | undefined> {
  const found = await parts.findFunction(functionArn);
  return (await found?.refusal?.(secret)) ? undefined : found;
}

function accountOf(secret: Secret, rotator: Rotator<AnyCredential>, current: AnyCredential, strategy: Strategy): string {
  return rotator.account(current, strategy) ?? `secret/${secret.id}`;
}

/** While somebody changes the account, a refusal would say nothing. */
async function isBusy(sql: Sql, { account, secret }: Tried): Promise<boolean> {
  return (await busyAccount(sql, account, { jobId: "", secretId: secret.id })) !== undefined;
}

/** Counts only when nothing was changed meanwhile. */
async function record(parts: EngineParts, tried: Tried, outcome: OutcomeClass): Promise<void> {
  const { sql, now } = parts;
  const { secret, versionId } = tried;
  const repairable = outcome === "refused" && secret.rotationPolicy?.repair === true && (await mayRepair(parts, tried));
  const busy = await isBusy(sql, tried);
  await sql.transaction(async (tx) => {
    const saved = await changeSecret(tx, secret.id, (before) => before);
    const same = saved && versionWith(saved, "AWSCURRENT")?.id === versionId && saved.generation === secret.generation;
    if (busy || !same || (await isRotating(tx, secret.id))) return;
    const { after, event, refusedAgain } = beat(await readHeartbeat(tx, secret.id), outcome, now());
    await saveHeartbeat(tx, secret.id, after);
    const { arn, generation } = saved;
    const reason = outcome === "ok" ? heartbeatWords.ok : loginAdvice(outcome).problem;
    const detail = { versionId, outcome, reason };
    if (event) await addEvent(tx, { at: now(), type: event, resource: arn, generation, detail });
    if (refusedAgain && repairable) await repair(tx, parts, secret);
    else if (refusedAgain) await pauseOwned(tx, parts, saved);
  });
}

/** Only a superuser gets in where the password was changed outside. */
async function mayRepair(parts: EngineParts, { secret, current }: Tried): Promise<boolean> {
  if (secret.rotationEnabled !== true) return false;
  try {
    return (await readSuperuser({ parts, rotation: { id: randomUUID() } }, secret, current)) !== undefined;
  } catch (error) {
    if (error instanceof RotatorError) return false;
    throw error;
  }
}

/** Begins a rotation, as RotateSecret would; one that did not finish goes on under its own token. */
async function repair(tx: Sql, { now }: EngineParts, { id }: Secret): Promise<void> {
  const nowMs = now();
  let versionId: string = randomUUID();
  const saved = await changeSecret(tx, id, (before) => {
    const pending = versionWith(before, "AWSPENDING");
    const unfinished = pending !== undefined && isPending(before, pending.id);
    if (unfinished) versionId = pending.id;
    return unfinished ? before : addPending(before, versionId, nowMs);
  });
  if (!saved) return;
  await abandonRotation(tx, id, nowMs);
  const configured = saved.rotationPrincipal;
  const queued = await insertRotation(tx, {
    id: randomUUID(),
    secretId: id,
    versionId,
    generation: saved.generation,
    origin: "repair",
    testOnly: false,
    functionArn: saved.rotationFunctionArn ?? "",
    principal: configured?.session?.arn ?? configured?.arn ?? "",
    runAt: nowMs,
    windowEndsAt: nowMs + repairWindowMs,
    startedAt: nowMs,
  });
  const { arn, generation } = saved;
  const detail = { versionId, origin: "repair" };
  if (queued) await addEvent(tx, { at: nowMs, type: "rotation.started", resource: arn, generation, detail });
}
