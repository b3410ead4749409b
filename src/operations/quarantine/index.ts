import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { addEvent } from "../../store/events.ts";
import { doubtLeases } from "../../store/lease-house.ts";
import {
  type CalledOff,
  callOffRetirements,
  endQuarantine,
  findQuarantine,
  findWaiting,
  giveUpIssuing,
  type Quarantine,
  type Waiting,
} from "../../store/quarantine.ts";
import { loadSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";

/** Of each kind of work. */
const mostShown = 1_000;
const pageSize = 1_000;

const nothing = z.object({});
const resource = (_input: object, { region, account }: Call): Resource => ({
  arn: `arn:aws:rekey:${region}:${account}:quarantine`,
  context: {},
});

const shown = (quarantine: Quarantine | undefined) => ({
  Quarantined: quarantine !== undefined,
  SinceDate: quarantine && new Date(quarantine.sinceAt),
  Reason: quarantine?.reason,
});

const getQuarantine = defineOperation<object, Resource>({
  name: "GetQuarantine",
  action: "rekey:GetQuarantine",
  noun: "quarantine",
  verb: "status",
  mode: "read",
  summary: "Tells whether this store was restored, so that nothing is done at targets before somebody allows it.",
  input: nothing,
  resource,
  run: async (_input, _found, { sql }) => shown(await findQuarantine(sql)),
});

const planRelease = defineOperation<object, Resource>({
  name: "PlanQuarantineRelease",
  action: "rekey:PlanQuarantineRelease",
  noun: "quarantine",
  verb: "plan",
  mode: "read",
  summary: "Lists what would be done once the quarantine is over; touches no target.",
  input: nothing,
  resource,
  async run(_input, _found, { sql, startedAt }) {
    const waiting = await findWaiting(sql, startedAt, mostShown);
    const kinds = Object.values(waiting) as readonly (readonly unknown[])[];
    return {
      ...shown(await findQuarantine(sql)),
      Plan: planOf(waiting),
      Complete: kinds.every((kind) => kind.length < mostShown),
    };
  },
});

function planOf({ rotations, retirements, schedules, purges, leases }: Waiting) {
  const step = (SecretName: string, What: string, dueAt: number, Will: string) => ({
    SecretName,
    What,
    DueDate: new Date(dueAt),
    Will,
  });
  return [
    ...rotations.map(({ name, step: at, dueAt, hasIntent }) =>
      step(
        name,
        "rotation",
        dueAt,
        hasIntent
          ? "given up: what it may have had made at the target since the backup, somebody may use"
          : `goes on at ${at}, after finding out which credential the target takes`,
      ),
    ),
    ...retirements.map(({ name, versionId, dueAt }) =>
      step(
        name,
        "retirement",
        dueAt,
        `called off: the old credential of version ${versionId} stays, unless retirements are kept`,
      ),
    ),
    ...schedules.map(({ name, dueAt }) =>
      step(name, "schedule", dueAt, "rotated, or recorded as missed when its window is over"),
    ),
    ...purges.map(({ name, dueAt }) => step(name, "deletion", dueAt, "deleted for good: its recovery window is over")),
    ...leases.map(({ name, user, target, dueAt }) =>
      step(
        name,
        "lease",
        dueAt,
        `ended: user ${user} at ${target}; so are users of this deployment of which the backup knows no lease`,
      ),
    ),
  ];
}

const releaseInput = z.object({ KeepRetirements: z.boolean().optional() });

const releaseQuarantine = defineOperation<z.infer<typeof releaseInput>, Resource>({
  name: "ReleaseQuarantine",
  action: "rekey:ReleaseQuarantine",
  noun: "quarantine",
  verb: "release",
  mode: "write",
  summary: "Ends the quarantine: rotations go on, and the end of old credentials is called off unless it is kept.",
  input: releaseInput,
  resource,
  async run({ KeepRetirements = false }, _found, call) {
    const { startedAt: at } = call;
    const done = await call.transaction(async (tx) => {
      const quarantine = await findQuarantine(tx);
      if (!quarantine) throw new ServiceError("InvalidRequestException", "There is no quarantine: nothing is held back.");
      // What was in use when the backup was made, and what is now, may be one and the same or not: nobody here knows.
      const calledOff = KeepRetirements ? 0 : await each(tx, at, callOffRetirements, "retirement.canceled");
      const givenUp = await each(tx, at, giveUpIssuing, "rotation.abandoned");
      await doubtLeases(tx, at);
      await endQuarantine(tx);
      return { ReleasedDate: new Date(at), RetirementsCalledOff: calledOff, RotationsGivenUp: givenUp };
    });
    call.services.wakeEngine();
    return done;
  },
});

async function each(
  tx: Sql,
  at: number,
  change: (tx: Sql, nowMs: number, limit: number) => Promise<CalledOff[]>,
  type: string,
): Promise<number> {
  for (let count = 0; ; ) {
    const page = await change(tx, at, pageSize);
    for (const { secretId, versionId } of page) {
      const secret = await loadSecret(tx, secretId);
      if (!secret) continue;
      const { arn, generation } = secret;
      await addEvent(tx, { at, type, resource: arn, generation, detail: { versionId, reason: "the store was restored" } });
    }
    count += page.length;
    if (page.length < pageSize) return count;
  }
}

export const quarantineOperations: readonly Operation[] = [getQuarantine, planRelease, releaseQuarantine];
