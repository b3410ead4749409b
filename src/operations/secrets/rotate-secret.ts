import { randomUUID } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { rotationPrincipal } from "../../core/rotation-principal.ts";
import { planRotation } from "../../core/rotation-schedule.ts";
import { parseRotationRules } from "../../core/schedule.ts";
import {
  addPending,
  isPending,
  type RotationRules,
  type Secret,
  versionOf,
  versionWith,
  withoutTestCopy,
} from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { abandonRotation, cancelRotation, hastenRotation, insertRotation, type NewRotation } from "../../store/rotations.ts";
import { changeSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { clientRequestToken, maxListed, requireToken, secretId } from "../input.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { notFound, parameterContext, requireWritable, type SecretResource, secretResource, usable } from "./secret-resource.ts";

export const rotateInput = z.object({
  SecretId: secretId,
  ClientRequestToken: clientRequestToken,
  RotationLambdaARN: z.string().max(2048).optional(),
  RotationRules: z
    .object({
      AutomaticallyAfterDays: z.number().int().min(1).max(1000).optional(),
      Duration: z
        .string()
        .min(2)
        .max(3)
        .regex(/^[0-9]+h$/)
        .optional(),
      ScheduleExpression: z
        .string()
        .min(1)
        .max(256)
        .regex(/^[0-9A-Za-z(),#?*\-/_ ]+$/)
        .optional(),
    })
    .optional(),
  RotateImmediately: z.boolean().optional(),
  ExternalSecretRotationMetadata: z
    .array(z.object({ Key: z.string().min(1).max(256), Value: z.string().min(1).max(2048) }))
    .max(maxListed)
    .optional(),
  ExternalSecretRotationRoleArn: z.string().min(20).max(2048).optional(),
});
type RotateInput = z.infer<typeof rotateInput>;

/** How long a rotation that was asked for by hand may be tried again before it counts as failed. */
const manualWindowMs = 3_600_000;
const functionArn = /^arn:aws:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]{1,140}(:[A-Za-z0-9$_-]+)?$/;

/** Configures rotation, and starts one unless told not to. Asynchronous. Source: AWS API reference, RotateSecret. */
export const rotateSecret = defineOperation<RotateInput, SecretResource>({
  name: "RotateSecret",
  action: "secretsmanager:RotateSecret",
  noun: "secrets",
  verb: "rotate",
  mode: "write",
  summary: "Configures the rotation of a secret, and starts one at once unless told not to.",
  input: rotateInput,
  sensitive: ["ExternalSecretRotationMetadata"],
  check(request) {
    requireToken(request.ClientRequestToken, "InvalidParameterException");
  },
  resource: (request, call) =>
    secretResource(
      request,
      call,
      parameterContext({
        RotationLambdaARN: request.RotationLambdaARN,
        ModifyRotationRules: request.RotationRules === undefined ? undefined : true,
        RotateImmediately: request.RotateImmediately,
        ExternalSecretRotationRoleArn: request.ExternalSecretRotationRoleArn,
      }),
    ),
  permissions: (request, found) => {
    const arn = request.RotationLambdaARN || found.secret?.rotationFunctionArn;
    return arn === undefined ? [] : [{ action: "lambda:InvokeFunction", resource: functionResource(arn, found.arn) }];
  },
  async run(request, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    const token = requireToken(request.ClientRequestToken, "InvalidParameterException");
    const configured = configure(secret, request, call);
    await checkFunction(configured, call);
    const immediately = request.RotateImmediately ?? true;
    const saved = await call.transaction(async (tx) => {
      const now = await changeSecret(tx, secret.id, (before) => before, secret); // locked, and read again if it was changed
      if (!now) throw notFound();
      const unfinished = await requeueUnfinished(tx, now, token, call);
      if (unfinished) return unfinished;
      const change = (before: Secret): Secret => {
        requireWritable(before);
        const next = addPending(configure(before, request, call), token, call.startedAt);
        return planRotation(next, call.startedAt, Math.random());
      };
      const changed = await changeSecret(tx, secret.id, change, now);
      if (!changed) throw notFound();
      await abandonRotation(tx, secret.id, call.startedAt); // one whose AWSPENDING was taken away
      await insertRotation(tx, newRotation(changed, token, call, { testOnly: !immediately, origin: "request" }));
      const type = immediately ? "rotation.started" : "rotation.test-started";
      await addEvent(tx, {
        at: call.startedAt,
        type,
        resource: changed.arn,
        generation: changed.generation,
        detail: { versionId: token },
      });
      return changed;
    });
    call.services.wakeEngine();
    if (saved === "requeued")
      throw new ServiceError("InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted.");
    return { ARN: saved.arn, Name: saved.name, VersionId: immediately ? token : versionWith(saved, "AWSCURRENT")?.id };
  },
});

/**
 * A token that was used is answered as the first time. A rotation that did not finish is queued again, with its own token,
 * before the request is refused: a second one cannot begin beside it.
 */
async function requeueUnfinished(tx: Sql, secret: Secret, token: string, call: Call): Promise<Secret | "requeued" | undefined> {
  const pending = versionWith(secret, "AWSPENDING");
  const unfinished = pending && isPending(secret, pending.id) ? pending.id : undefined;
  const configured = secret.rotationFunctionArn !== undefined;
  if (configured && unfinished !== undefined) await tryAgain(tx, secret, unfinished, call);
  const same = versionOf(secret, token);
  if (configured && (unfinished === token || same?.stages.includes("AWSCURRENT"))) return secret;
  if (same)
    throw new ServiceError(
      "ResourceExistsException",
      `You can't use ClientRequestToken ${token} because that value is already in use for a version of secret ${secret.arn}.`,
    );
  return unfinished === undefined ? undefined : "requeued";
}

/** From now on with the rights of this caller, who must have that to its function too: whoever configured it may be gone. */
async function tryAgain(tx: Sql, { id, arn, rotationFunctionArn = "" }: Secret, versionId: string, call: Call): Promise<void> {
  const refusal = call.may("lambda:InvokeFunction", functionResource(rotationFunctionArn, arn));
  if (refusal) throw refusal;
  const secret = await changeSecret(tx, id, (before) => ({ ...before, rotationPrincipal: rotationPrincipal(call.principal) }));
  if (!secret) throw notFound();
  const begun = await insertRotation(tx, newRotation(secret, versionId, call, { testOnly: false, origin: "retry" }));
  if (!begun) return hastenRotation(tx, id, call.startedAt);
  const detail = { versionId, origin: "retry" };
  const { generation } = secret;
  await addEvent(tx, { at: call.startedAt, type: "rotation.started", resource: arn, generation, detail });
}

function newRotation(secret: Secret, versionId: string, call: Call, how: Pick<NewRotation, "testOnly" | "origin">): NewRotation {
  const configured = secret.rotationPrincipal;
  return {
    id: randomUUID(),
    secretId: secret.id,
    versionId,
    generation: secret.generation,
    functionArn: secret.rotationFunctionArn ?? "",
    principal: configured?.session?.arn ?? configured?.arn ?? "",
    runAt: call.startedAt,
    windowEndsAt: call.startedAt + manualWindowMs,
    startedAt: call.startedAt,
    ...how,
  };
}

const cancelInput = z.object({ SecretId: secretId });

/** Turns automatic rotation off and stops the one under way; labels stay. Source: AWS API reference, CancelRotateSecret. */
export const cancelRotateSecret = defineOperation<z.infer<typeof cancelInput>, SecretResource>({
  name: "CancelRotateSecret",
  action: "secretsmanager:CancelRotateSecret",
  noun: "secrets",
  verb: "cancel-rotation",
  mode: "write",
  summary: "Turns automatic rotation off and stops the rotation under way.",
  input: cancelInput,
  resource: (request, call) => secretResource(request, call),
  async run(_request, found, call) {
    const secret = usable(found);
    if (secret.rotationEnabled === undefined)
      throw new ServiceError(
        "InvalidRequestException",
        "You can't cancel rotation for a secret that doesn't have rotation configured.",
      );
    const { saved, versionId } = await call.transaction(async (tx) => {
      let changed = await changeSecret(tx, secret.id, (before) => {
        requireWritable(before);
        const off = { rotationEnabled: false, nextRotationAt: undefined, rotationDueAt: undefined };
        return { ...before, ...off, switchingUntil: undefined };
      });
      if (!changed) throw notFound();
      const stopped = await cancelRotation(tx, secret.id, call.startedAt);
      if (stopped?.testOnly)
        changed = (await changeSecret(tx, secret.id, (before) => withoutTestCopy(before, stopped.versionId))) ?? changed;
      const { arn: resource, generation } = changed;
      if (!stopped) await addEvent(tx, { at: call.startedAt, type: "rotation.canceled", resource, generation, detail: {} });
      return { saved: changed, versionId: stopped?.versionId };
    });
    return { ARN: saved.arn, Name: saved.name, VersionId: versionId };
  },
});

/** The secret as the request configures it; what it leaves out stays. @throws ServiceError for rules that AWS refuses */
export function configure(secret: Secret, request: RotateInput, call: Call): Secret {
  const rules = newRules(request);
  if (rules) parseRotationRules(rules, { extended: call.services.extendedSchedules });
  const { ExternalSecretRotationMetadata: metadata, ExternalSecretRotationRoleArn: roleArn } = request;
  return {
    ...secret,
    rotationEnabled: true,
    rotationFunctionArn: request.RotationLambdaARN || secret.rotationFunctionArn,
    rotationRules: rules ?? secret.rotationRules,
    rotationPrincipal: rotationPrincipal(call.principal),
    externalRotation:
      metadata === undefined && roleArn === undefined
        ? secret.externalRotation
        : { ...(roleArn === undefined ? {} : { roleArn }), ...(metadata === undefined ? {} : { metadata }) },
  };
}

export function newRules({ RotationRules: rules }: RotateInput): RotationRules | undefined {
  if (!rules) return undefined;
  return {
    automaticallyAfterDays: rules.AutomaticallyAfterDays,
    duration: rules.Duration,
    scheduleExpression: rules.ScheduleExpression,
  };
}

export async function checkFunction(secret: Secret, call: Call): Promise<void> {
  const arn = secret.rotationFunctionArn;
  if (arn === undefined)
    throw new ServiceError("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.");
  if (!functionArn.test(arn))
    throw new ServiceError(
      "InvalidParameterException",
      "Invalid rotation Lambda ARN. Ensure the ARN matches format arn:aws:lambda:<region>:<account>:function:<functionName>.",
    );
  // The function's own policy may deny the caller what policies of its own allow.
  const policy = await call.services.functions.policyOf(arn);
  const denied = policy && call.may("lambda:InvokeFunction", { ...functionResource(arn, secret.arn), policy });
  if (denied) throw denied;
  const refusal = await call.services.functions.refusal(arn, secret);
  if (refusal) throw refusal;
}

export function functionResource(arn: string, secretArn: string): Resource {
  return { arn, shown: arn, context: { "aws:SourceArn": [secretArn] } };
}
