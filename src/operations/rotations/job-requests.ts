import { ServiceError } from "../../core/error.ts";
import { rotationPrincipal } from "../../core/rotation-principal.ts";
import type { Secret } from "../../core/secret.ts";
import { findQuarantine } from "../../store/quarantine.ts";
import { changeSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { countOpenJobs, insertJob, isRotating, type JobData, type JobKind } from "../../store/target-jobs.ts";
import type { Call } from "../operation.ts";
import { notFound, requireUsable } from "../secrets/secret-resource.ts";

/** An engine that has not begun a job by then does not begin it: who waits for it has gone. */
const expiresAfterMs = 10 * 60_000;
const maxOpen = 10;

/**
 * Queues work at the secret's target, to be done with the caller's rights, and wakes the engine.
 * @throws ServiceError LimitExceededException; InvalidRequestException when a rollback meets a rotation or a rollback
 */
export async function requestJob(call: Call, secret: Secret, kind: JobKind, input: JobData): Promise<{ JobId: string }> {
  const { startedAt: createdAt } = call;
  const id = await call.transaction(async (tx) => {
    const locked = await changeSecret(tx, secret.id, (before) => before, secret);
    if (!locked) throw notFound();
    requireUsable(locked);
    await requireNoQuarantine(tx);
    if (kind === "rollback") await requireQuiet(await isRotating(tx, secret.id), locked.name);
    if ((await countOpenJobs(tx, secret.id, kind)) >= maxOpen)
      throw new ServiceError("LimitExceededException", `${maxOpen} such jobs wait for this secret already.`);
    const principal = rotationPrincipal(call.principal);
    const expiresAt = createdAt + expiresAfterMs;
    return insertJob(tx, { secretId: secret.id, kind, input, principal, createdAt, expiresAt });
  });
  if (id === undefined)
    throw new ServiceError("InvalidRequestException", "A rollback of this secret is under way: wait for its end.");
  call.services.wakeEngine();
  return { JobId: id };
}

/** It would be left waiting until whoever asked has gone. */
async function requireNoQuarantine(tx: Sql): Promise<void> {
  if (await findQuarantine(tx))
    throw new ServiceError("InvalidRequestException", "This store is quarantined after a restore: see rekey quarantine plan.");
}

async function requireQuiet(rotating: boolean, name: string): Promise<void> {
  if (rotating)
    throw new ServiceError(
      "InvalidRequestException",
      `A rotation of ${name} is running: wait for its end, or cancel it (CancelRotateSecret), then roll back.`,
    );
}
