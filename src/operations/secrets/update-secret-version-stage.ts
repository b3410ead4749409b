import { z } from "zod";
import { moveLabel } from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { changeSecret } from "../../store/secrets.ts";
import { secretId, stagingLabel, versionId } from "../input.ts";
import { defineOperation } from "../operation.ts";
import { notFound, parameterContext, requireWritable, type SecretResource, secretResource, usable } from "./secret-resource.ts";

const input = z.object({
  SecretId: secretId,
  VersionStage: stagingLabel,
  RemoveFromVersionId: versionId.optional(),
  MoveToVersionId: versionId.optional(),
});

/** Moves, attaches or detaches a staging label. Source: AWS API reference, UpdateSecretVersionStage. */
export const updateSecretVersionStage = defineOperation<z.infer<typeof input>, SecretResource>({
  name: "UpdateSecretVersionStage",
  action: "secretsmanager:UpdateSecretVersionStage",
  noun: "secrets",
  verb: "update-version-stage",
  mode: "write",
  summary: "Moves a staging label to another version, attaches it, or detaches it.",
  input,
  resource: (request, call) => secretResource(request, call, parameterContext({ VersionStage: request.VersionStage })),
  async run({ VersionStage: label, MoveToVersionId: moveTo, RemoveFromVersionId: removeFrom }, found, call) {
    const { id } = usable(found);
    const saved = await call.transaction(async (tx) => {
      let moved = false;
      const secret = await changeSecret(tx, id, (before) => {
        requireWritable(before);
        const after = moveLabel(before, { label, moveTo, removeFrom }, call.startedAt);
        moved = after.generation !== before.generation;
        return after;
      });
      if (!secret) throw notFound();
      const detail = { versionId: moveTo ?? null };
      if (moved)
        await addEvent(tx, {
          at: call.startedAt,
          type: "secret.changed",
          resource: secret.arn,
          generation: secret.generation,
          detail,
        });
      return secret;
    });
    return { ARN: saved.arn, Name: saved.name };
  },
});
