import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { heartbeatWords } from "../../core/heartbeat.ts";
import { rotatedSecretArn } from "../../core/rekey-arn.ts";
import type { Rotation } from "../../core/rotation.ts";
import type { Secret } from "../../core/secret.ts";
import { readHeartbeat } from "../../store/heartbeats.ts";
import { loadIntegration } from "../../store/integrations.ts";
import { findRotatedSecret, type RotatedSecret } from "../../store/rotated-secrets.ts";
import { listRotations } from "../../store/rotations.ts";
import { loadSecret } from "../../store/secrets.ts";
import {
  type ConfigInput,
  type ConfigResource,
  configResource,
  existingConfig,
  ofSameConfig,
} from "../configs/config-resource.ts";
import { configMembers, nameOfFields } from "../dynamic/dynamic-secret-input.ts";
import type { Call } from "../operation.ts";
import { recipeOf } from "./recipe.ts";

export const rotatedSecretName = nameOfFields(150);
export const period = z
  .int()
  .min(1)
  .max(999 * 86_400);
/** Id, or name. */
export const oneOfConfig = { ...configMembers, Id: z.string().min(1).max(200) };
export const one = z.object(oneOfConfig);

/** A rotated secret as authorization sees it, whether it exists or not. */
export interface RotatedSecretResource extends ConfigResource {
  readonly rotated: RotatedSecret | undefined;
}

/** @throws ServiceError ValidationException as `configResource` */
export async function rotatedSecretResource(
  input: ConfigInput & { readonly Id: string },
  call: Call,
): Promise<RotatedSecretResource> {
  const found = await configResource(input, call);
  const rotated = found.config && (await findRotatedSecret(call.sql, found.config.id, input.Id));
  const named = (id: string) => ofSameConfig(found, (project, config) => rotatedSecretArn(call.services, project, config, id));
  return { ...found, arn: named(rotated?.name ?? input.Id).arn, shown: named(input.Id).shown, rotated };
}

/** @throws ServiceError ResourceNotFoundException */
export async function existing(found: RotatedSecretResource, call: Call) {
  const config = existingConfig(found);
  const { rotated } = found;
  const secret = rotated && (await loadSecret(call.sql, rotated.secretId));
  if (!rotated || !secret)
    throw new ServiceError("ResourceNotFoundException", `Could not find rotated secret ${found.arn.split("/").at(-1)}.`);
  return { config, rotated, secret };
}

/** How it stands, for lists and alone; never its value. */
export async function shown(rotated: RotatedSecret, secret: Secret, place: { project: string; config: string }, call: Call) {
  const integration = await loadIntegration(call.sql, rotated.integrationId);
  const [last] = await listRotations(call.sql, { secretArn: secret.arn, limit: 1 });
  const heartbeat = await readHeartbeat(call.sql, secret.id);
  const isPaused = secret.rotationEnabled !== true;
  const drift = heartbeat && heartbeat.outcome !== "ok" ? heartbeatWords[heartbeat.outcome] : undefined;
  const blocked = last?.state === "blocked" ? last.error : undefined;
  return {
    Id: rotated.id,
    Name: rotated.name,
    Project: place.project,
    Config: place.config,
    Integration: integration && { Id: integration.id, Name: integration.name, Type: integration.type },
    RotationPeriodSeconds: rotated.rotationPeriodSeconds,
    FieldNames: integration && recipeOf(integration.type).changes.map((ending) => `${rotated.name}_${ending}`),
    State: isPaused ? "paused" : "active",
    PausedReason: isPaused ? (drift ?? blocked ?? "the credential was changed outside, and works again") : undefined,
    Credential: heartbeat && heartbeatWords[heartbeat.outcome],
    SecretArn: secret.arn,
    LastRotatedAt: dateOf(secret.lastRotatedAt),
    NextRotationAt: dateOf(secret.rotationDueAt),
    Rotation: last && shownRotation(last),
    CreatedAt: new Date(rotated.createdAt),
  };
}

export function shownRotation(rotation: Rotation) {
  return {
    Id: rotation.id,
    State: rotation.state,
    Origin: rotation.origin,
    Step: rotation.step,
    FailedTries: rotation.attempt,
    Outcome: rotation.outcome,
    Reason: rotation.error,
    Remedy: rotation.remedy,
    StartedAt: new Date(rotation.startedAt),
    EndedAt: dateOf(rotation.endedAt),
    NextTryAt: rotation.state === "running" ? new Date(rotation.runAt) : undefined,
  };
}

const dateOf = (atMs: number | undefined): Date | undefined => (atMs === undefined ? undefined : new Date(atMs));
