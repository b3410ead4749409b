import { randomUUID } from "node:crypto";
import { ServiceError } from "../../core/error.ts";
import { configArn } from "../../core/rekey-arn.ts";
import { isOwned } from "../../core/rotated-secret.ts";
import { planRotation } from "../../core/rotation-schedule.ts";
import { addPending, isPending, type Secret, versionWith } from "../../core/secret.ts";
import type { NamesDiff } from "../../core/webhook.ts";
import { recordConfigChange } from "../../store/config-changes.ts";
import { type Config, lockConfig } from "../../store/configs.ts";
import { addEvent } from "../../store/events.ts";
import { abandonRotation, hastenRotation, insertRotation } from "../../store/rotations.ts";
import { changeSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { who } from "../configs/activity.ts";
import { ConfigReader } from "../configs/config-values.ts";
import type { Call } from "../operation.ts";

/** A rotation that was asked for may be tried again for so long before it counts as failed. */
const windowMs = 3_600_000;

/** Tells of what a config shows now, in the transaction of the change. Ids of configs to be hinted after the commit. */
export async function tellConfig(
  tx: Sql,
  call: Call,
  config: Pick<Config, "id">,
  { text, diff }: { readonly text: string; readonly diff: NamesDiff },
): Promise<string[]> {
  const locked = await lockConfig(tx, config.id);
  if (!locked) throw changedMeanwhile();
  const names = [...diff.added, ...diff.removed, ...diff.updated];
  const arn = configArn(call.services, locked.projectId, locked.name);
  const change = { config: locked, arn, at: call.startedAt, ...who(call), text, names, diff };
  return (await recordConfigChange(tx, change)).raised;
}

/** Locks the secret, and changes it. @throws ServiceError when it is the config's no more */
export async function changeOwned(tx: Sql, known: Secret, decide: (before: Secret) => Secret): Promise<Secret> {
  const saved = await changeSecret(
    tx,
    known.id,
    (before) => {
      if (!isOwned(before) || before.deletedAt !== undefined) throw changedMeanwhile();
      return decide(before);
    },
    known,
  );
  if (!saved) throw changedMeanwhile();
  return saved;
}

/** Begins a rotation; one that did not finish goes on. */
export async function beginRotation(tx: Sql, secret: Secret, call: Call): Promise<Secret> {
  const { startedAt: at } = call;
  let versionId: string = randomUUID();
  let origin: "request" | "retry" = "request";
  const saved = await changeOwned(tx, secret, (before) => {
    const pending = versionWith(before, "AWSPENDING");
    if (pending && isPending(before, pending.id)) {
      versionId = pending.id;
      origin = "retry";
      return before;
    }
    return planRotation(addPending(before, versionId, at), at, Math.random());
  });
  await abandonRotation(tx, secret.id, at, versionId);
  const begun = await insertRotation(tx, {
    id: randomUUID(),
    secretId: saved.id,
    versionId,
    generation: saved.generation,
    origin,
    testOnly: false,
    functionArn: saved.rotationFunctionArn ?? "",
    principal: call.principal.arn,
    runAt: at,
    windowEndsAt: at + windowMs,
    startedAt: at,
  });
  if (!begun) await hastenRotation(tx, saved.id, at);
  const { arn: resource, generation } = saved;
  if (begun) await addEvent(tx, { at, type: "rotation.started", resource, generation, detail: { versionId, origin } });
  return saved;
}

/** What the config says itself would be hidden behind what it shows. @throws ServiceError */
export async function requireFree({ services }: Call, config: Config, names: Iterable<string>): Promise<void> {
  const own = await new ConfigReader(services).own(config);
  for (const name of names) {
    if (!own.has(name)) continue;
    throw new ServiceError("ResourceExistsException", `Config ${config.name} has a secret ${name} already: delete it first.`);
  }
}

export const changedMeanwhile = (): ServiceError =>
  new ServiceError(
    "InvalidRequestException",
    "The rotated secret or its config was changed or deleted meanwhile; look and try again.",
  );
