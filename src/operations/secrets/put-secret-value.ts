import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { addVersion, type Secret, versionOf } from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { isRotationToken } from "../../store/rotation-tokens.ts";
import { abandonRotation } from "../../store/rotations.ts";
import { changeSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { clientRequestToken, requireToken, secretBinary, secretId, secretString, stagingLabels } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { cachedSecretResource, notFound, requireWritable, type SecretResource, usable } from "./secret-resource.ts";
import { givenValue, sealValue, valueMembers } from "./value.ts";

const input = z.object({
  SecretId: secretId,
  ClientRequestToken: clientRequestToken,
  SecretBinary: secretBinary,
  SecretString: secretString,
  VersionStages: stagingLabels.optional(),
  RotationToken: z.string().min(36).max(256).optional(),
});

/** Adds a version; the same token and value again changes nothing. Source: AWS API reference, PutSecretValue. */
export const putSecretValue = defineOperation<z.infer<typeof input>, SecretResource>({
  name: "PutSecretValue",
  action: "secretsmanager:PutSecretValue",
  noun: "secrets",
  verb: "put-value",
  mode: "write",
  summary: "Adds a version to a secret; it becomes AWSCURRENT unless other staging labels are named.",
  input,
  sensitive: [...valueMembers, "RotationToken"],
  check(request) {
    requireToken(request.ClientRequestToken, "InvalidRequestException");
    if (!givenValue(request))
      throw new ServiceError("InvalidRequestException", "You must provide either SecretString or SecretBinary.");
  },
  resource: (request, call) => cachedSecretResource(request, call),
  async run(request, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    const token = requireToken(request.ClientRequestToken, "InvalidRequestException");
    const given = givenValue(request);
    if (!given) throw new ServiceError("InvalidRequestException", "You must provide either SecretString or SecretBinary.");
    const value = await sealValue(call, secret, token, given);
    const saved = await call.transaction(async (tx) => {
      await checkRotationToken(tx, secret, token, request.RotationToken);
      return addValue(tx, secret, call, { id: token, stages: request.VersionStages, value });
    });
    call.services.secrets.replace(call.region, request.SecretId, saved);
    return { ARN: saved.arn, Name: saved.name, VersionId: token, VersionStages: versionOf(saved, token)?.stages };
  },
});

/**
 * Shows that a function that took on another role than its own acts for the rotation that called it. Without one, rights
 * alone decide. Source: AWS API reference, PutSecretValue.
 */
async function checkRotationToken(tx: Sql, { id, arn }: Secret, versionId: string, token: string | undefined): Promise<void> {
  if (token === undefined || (await isRotationToken(tx, { secretId: id, versionId, token }))) return;
  throw new ServiceError(
    "AccessDeniedException",
    `The RotationToken is not that of a rotation under way for version ${versionId} of secret ${arn}.`,
  );
}

/** Adds the version to the secret, as it is by now; when AWSCURRENT moves, a rotation under way is abandoned and subscribers are told. */
export async function addValue(
  tx: Sql,
  found: Secret,
  call: Call,
  added: Omit<Parameters<typeof addVersion>[1], "createdAt">,
  alsoChange: (secret: Secret) => Secret = (secret) => secret,
): Promise<Secret> {
  let moved = false;
  const decide = (before: Secret): Secret => {
    requireWritable(before);
    const { secret, changed } = addVersion(before, { ...added, createdAt: call.startedAt });
    moved = changed && secret.generation !== before.generation;
    return changed ? alsoChange(moved ? countAsRotation(secret, call) : secret) : alsoChange(before);
  };
  const saved = await changeSecret(tx, found.id, decide, found);
  if (!saved) throw notFound();
  if (moved) {
    await abandonRotation(tx, saved.id, call.startedAt, added.id);
    const detail = { versionId: added.id };
    await addEvent(tx, { at: call.startedAt, type: "secret.changed", resource: saved.arn, generation: saved.generation, detail });
  }
  return saved;
}

/** A value put by hand counts as a rotation for the next date. Source: user guide, rotation schedules. */
function countAsRotation(secret: Secret, call: Call): Secret {
  return call.services.reschedule(secret, call.startedAt);
}
