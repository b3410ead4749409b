import { setTimeout as sleep } from "node:timers/promises";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { loginAdvice } from "../core/login-outcome.ts";
import { retireAfterMs } from "../core/retirement.ts";
import { pauseMs } from "../core/rotation.ts";
import { moveLabel, type Secret, versionOf, versionWith } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import { cancelRetirement, insertRetirement } from "../store/retirements.ts";
import { changeSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import { busyAccount, lastStrategy } from "../store/target-jobs.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Strategy } from "../targets/target.ts";
import type { Caps } from "./caps.ts";
import { ownFunction } from "./check-function.ts";
import { type HeldJob, JobPostponed, JobRefused } from "./held-job.ts";
import {
  accountOf,
  atTarget,
  type FailedLogin,
  failedLogin,
  isOwn,
  type OpenTarget,
  openTarget,
  readAdmin,
  readCredential,
} from "./job-target.ts";

/** While it is not known which password is in force, the job goes on for so long. */
const giveUpMs = 3_600_000;

/** What a rollback goes back to, and from where. */
interface Way {
  readonly target: OpenTarget;
  readonly old: AnyCredential;
  readonly versionId: string;
  readonly formerId: string;
}

/**
 * AWSCURRENT goes back to an older version that was seen to log in; one that is refused is first set again, where that was
 * asked for. Each repetition, also after a crash, comes to the same end: the labels move last, with the job's own end.
 */
export async function rollBack(held: HeldJob, caps: Caps): Promise<undefined> {
  const way = await findWay(held);
  await atTarget(caps, way.target.account, async () => {
    try {
      await keepOthersAway(held, way);
      await goBack(held, way);
    } catch (error) {
      await fail(held, way, error);
    }
  });
}

async function findWay(held: HeldJob): Promise<Way> {
  const secret = await held.readSecret();
  const versionId = String(held.job.input.versionId);
  if (await ownFunction(held, secret)) {
    throw new JobRefused(
      `nothing was changed: what a function of your own has set Rekey cannot try out; once you know that version ${versionId} works, move AWSCURRENT to it with UpdateSecretVersionStage`,
    );
  }
  const target = await openTarget(held, secret);
  const version = versionOf(secret, versionId);
  const former = versionWith(secret, "AWSCURRENT");
  if (!version || !former) throw new JobRefused(`version ${versionId} is gone: nothing was changed`);
  if (former.id === versionId) throw new JobRefused(`version ${versionId} is the current one already: nothing was changed`);
  const old = await readCredential(held, target, version);
  if (!old) throw new JobRefused(`version ${versionId} has no value: nothing was changed`);
  return { target, old, versionId, formerId: former.id };
}

/** On record before anything else: rotations and retirements of the account wait until the job has ended. */
async function keepOthersAway(held: HeldJob, way: Way): Promise<void> {
  const { parts, job } = held;
  const { sql } = parts;
  const account = accountOf(way.target, way.old);
  const got = await sql.transaction(async (tx) => {
    await lockUnchanged(tx, way, (before) => before);
    return held.holdAccount(tx, account);
  });
  if (got) return;
  const busy = await busyAccount(sql, account, { jobId: job.id, secretId: job.secretId });
  if (busy !== "own rotation" && busy !== "other rotation") throw new JobPostponed(500); // those end soon
  const whose = busy === "own rotation" ? way.target.secret.name : "the secret that it is of";
  throw new JobRefused(
    `nothing was changed: a rotation is changing ${account}; wait for its end, or cancel it with rekey rotation cancel ${whose}`,
  );
}

async function goBack(held: HeldJob, way: Way): Promise<void> {
  const { rotator } = way.target;
  const failed = way.target.strategy === "generator" ? undefined : await failedLogin(held, rotator, way.old);
  if (failed) await setAgain(held, way, failed);
  await moveBack(held, way, failed !== undefined || held.changing);
}

/** Only a refusal is a reason to set the password again: of a target that is silent nothing is known. */
async function setAgain(held: HeldJob, way: Way, failed: FailedLogin): Promise<void> {
  const { target, old, versionId } = way;
  if (failed.outcome !== "refused") throw new RotatorError(failed.outcome, failed.reason);
  if (held.job.input.setAgain !== true) {
    throw new JobRefused(
      `nothing was changed: the target refuses the password of version ${versionId} (${failed.reason}); --set-again sets it there again`,
    );
  }
  if (accountOf(target, old) !== target.account) {
    throw new JobRefused(`nothing was changed: version ${versionId} is for another account than ${target.account}`);
  }
  const { rotator, current } = target;
  const tools = await held.tools();
  if (target.strategy === "issuer" || target.strategy === "generator") {
    throw new JobRefused(`nothing was changed: what ${rotator.kind} issues cannot be set again`);
  }
  const admin = await adminFor(held, target);
  const strategy = (await rotator.prefer?.({ current, admin }, target.strategy, tools)) ?? target.strategy;
  await begin(held, way, strategy);
  await rotator.set({ pending: old, current, previous: undefined, admin }, strategy, await held.tools());
  await rotator.test(old, await held.tools());
}

/** A superuser changes the secret's own account only; for a single user it is a way out, not a need. */
async function adminFor(held: HeldJob, target: OpenTarget): Promise<AnyCredential | undefined> {
  const own = await isOwn(held, target);
  if (target.strategy === "alternating-users") {
    const admin = await readAdmin(held, target);
    if (admin && !own) await target.rotator.test(target.current, await held.tools());
    return admin;
  }
  try {
    return own ? await readAdmin(held, target) : undefined;
  } catch (error) {
    if (error instanceof RotatorError) return undefined;
    throw error;
  }
}

/** Readers wait while a single user's password is switched. That a switch may be under way is on record with the account. */
async function begin(held: HeldJob, way: Way, strategy: Strategy): Promise<void> {
  const { sql, now, settings } = held.parts;
  held.changing = true;
  if (strategy !== "single-user") return;
  const switchingUntil = now() + settings.settleMs + settings.readBarrierMs;
  await sql.transaction((tx) => lockUnchanged(tx, way, (before) => ({ ...before, switchingUntil, switchedTo: undefined })));
  if (settings.settleMs > 0) await sleep(settings.settleMs);
}

/** The labels, what tells of them, and the job's end: all of it or nothing. */
async function moveBack(held: HeldJob, way: Way, wasSetAgain: boolean): Promise<void> {
  const { sql, now, audit } = held.parts;
  const { versionId, formerId } = way;
  const { principal, secretId } = held.job;
  const strategy = (await lastStrategy(sql, secretId)) ?? way.target.strategy;
  await sql.transaction(async (tx) => {
    const secret = await lockUnchanged(tx, way, (before) =>
      moveLabel(before, { label: "AWSCURRENT", moveTo: versionId, removeFrom: formerId }, now()),
    );
    await cancelRetirement(tx, secretId, versionId, now());
    const graceMs = retireAfterMs(strategy, secret);
    if (graceMs !== undefined) {
      const dueAt = now() + graceMs;
      const { functionArn } = way.target;
      await insertRetirement(tx, { secretId, versionId: formerId, strategy, functionArn, dueAt, runAt: dueAt, createdAt: now() });
    }
    const detail = { versionId, formerVersionId: formerId, setAgain: wasSetAgain };
    await addEvent(tx, { at: now(), type: "secret.rolled-back", resource: secret.arn, generation: secret.generation, detail });
    await audit.inTransaction(tx, {
      requestId: held.job.id,
      at: now(),
      principal: principal.session?.arn ?? principal.arn,
      action: "rekey:RollbackSecret",
      resource: secret.arn,
      region: secret.region,
      sourceIp: "secretsmanager.amazonaws.com",
      parameters: detail,
      outcome: "ok",
    });
    await held.end(tx, "done", { result: { ok: true, ...detail } });
  });
}

/** The secret locked and as the rollback found it, but for what `decide` changes. */
async function lockUnchanged(tx: Sql, { target, versionId, formerId }: Way, decide: (before: Secret) => Secret): Promise<Secret> {
  const saved = await changeSecret(tx, target.secret.id, (before) => {
    const same = versionWith(before, "AWSCURRENT")?.id === formerId && versionOf(before, versionId) !== undefined;
    if (!same || before.deletedAt !== undefined) {
      throw new JobRefused("the secret was changed by somebody else meanwhile: its labels stay as they are");
    }
    return decide(before);
  });
  if (!saved) throw new JobRefused("the secret was deleted meanwhile");
  return saved;
}

/** After these it is not known what the target has done. */
const silences: ReadonlySet<OutcomeClass> = new Set(["unknown", "timeout", "unreachable", "tls"]);

/** A change whose outcome is not known is found out again, a little later; all other failures end the job. */
async function fail(held: HeldJob, way: Way, error: unknown): Promise<never> {
  if (!(error instanceof RotatorError || error instanceof JobRefused)) throw error;
  const { parts, job } = held;
  const unsure = error instanceof RotatorError && silences.has(error.outcome);
  if (held.changing && unsure && parts.now() < job.createdAt + giveUpMs) {
    throw new JobPostponed(500 + pauseMs(4, parts.random()));
  }
  if (held.changing) await parts.sql.transaction((tx) => changeSecret(tx, way.target.secret.id, withoutBarrier));
  throw new JobRefused(explain(held, way, error));
}

function explain(held: HeldJob, { versionId, formerId }: Way, error: RotatorError | JobRefused): string {
  if (error instanceof JobRefused) {
    return held.changing ? `${error.message}. The target takes the password of version ${versionId} by now.` : error.message;
  }
  const advice = error.outcome === "refused" ? "" : ` ${loginAdvice(error.outcome).remedy}`;
  if (!held.changing) return `nothing was changed: ${error.message}.${advice}`;
  return `the labels stay as they are: ${error.message}. It is not known whether the target takes version ${formerId} or ${versionId}; the next rotation finds out.${advice}`;
}

function withoutBarrier(before: Secret): Secret {
  return before.switchingUntil === undefined ? before : { ...before, switchingUntil: undefined };
}
