import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { rotationPrincipal } from "../../core/rotation-principal.ts";
import { type Secret, versionOf, versionWith } from "../../core/secret.ts";
import { loadSecret } from "../../store/secrets.ts";
import { findJob, type TargetJob } from "../../store/target-jobs.ts";
import { secretId, versionId } from "../input.ts";
import { type Call, defineOperation, type Permission, type Resource } from "../operation.ts";
import { functionResource } from "../secrets/rotate-secret.ts";
import { parameterContext, requireWritable, SecretResource, secretResource, usable } from "../secrets/secret-resource.ts";
import { requestJob } from "./job-requests.ts";

const functionArn = z.string().min(1).max(2048).optional();
const checkInput = z.object({
  SecretId: secretId,
  RotationLambdaARN: functionArn,
  /** As if the value named this superuser's secret in `masterarn`. */
  SuperuserSecretArn: z
    .string()
    .max(2048)
    .regex(/^arn:aws:secretsmanager:[^*?\s]+$/)
    .optional(),
  /** `host:port` for a superuser's value that has no host. */
  SuperuserAddress: z.string().min(1).max(300).optional(),
  /** The function is still to be made: whether it may be invoked is not asked. */
  FunctionPlanned: z.boolean().optional(),
});

/** Who may have a secret rotated by a function may have its rotation looked at: the same is read and logged in to. */
export function rotationPermissions(given: string | undefined, found: SecretResource): Permission[] {
  const arn = given ?? found.secret?.rotationFunctionArn;
  const invoke = arn === undefined ? [] : [{ action: "lambda:InvokeFunction", resource: functionResource(arn, found.arn) }];
  return [{ action: "secretsmanager:RotateSecret", resource: found }, ...invoke];
}

/** What a job needs to know of the function that the engine cannot ask: whether the service may invoke it. */
export async function functionInput(secret: Secret, given: string | undefined, { services, principal }: Call) {
  const arn = given ?? secret.rotationFunctionArn;
  if (arn === undefined) return {};
  const refusal = await services.functions.refusal(arn, {
    ...secret,
    rotationFunctionArn: arn,
    rotationPrincipal: rotationPrincipal(principal),
  });
  return { functionArn: arn, ...(refusal && { functionRefusal: refusal.message }) };
}

const checkRotation = defineOperation<z.infer<typeof checkInput>, SecretResource>({
  name: "CheckRotation",
  noun: "rotations",
  verb: "check",
  mode: "write",
  summary: "Begins a pre-flight of a secret's rotation, which changes nothing: GetJob tells which step would fail, and why.",
  input: checkInput,
  resource: (request, call) => secretResource(request, call, parameterContext({ RotationLambdaARN: request.RotationLambdaARN })),
  permissions: ({ RotationLambdaARN }, found) => rotationPermissions(RotationLambdaARN, found),
  async run({ RotationLambdaARN, SuperuserSecretArn, SuperuserAddress, FunctionPlanned = false }, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    const planned = { functionArn: RotationLambdaARN ?? "", functionPlanned: true };
    return requestJob(call, secret, "check", {
      ...(FunctionPlanned ? planned : await functionInput(secret, RotationLambdaARN, call)),
      ...(SuperuserSecretArn !== undefined && { superuserArn: SuperuserSecretArn }),
      ...(SuperuserAddress !== undefined && { superuserAddress: SuperuserAddress }),
    });
  },
});

const rollbackInput = z.object({ SecretId: secretId, VersionId: versionId.optional(), SetAgain: z.boolean().optional() });

const rollbackSecret = defineOperation<z.infer<typeof rollbackInput>, SecretResource>({
  name: "RollbackSecret",
  noun: "rotations",
  verb: "rollback",
  mode: "write",
  summary:
    "Begins to make an older version current again: it must log in, or is set again at the target where that is asked for.",
  input: rollbackInput,
  resource: (request, call) => secretResource(request, call, parameterContext({ VersionStage: "AWSCURRENT" })),
  permissions: (_request, found) => [
    { action: "secretsmanager:UpdateSecretVersionStage", resource: found },
    ...rotationPermissions(undefined, found),
  ],
  async run({ VersionId, SetAgain = false }, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    const version = VersionId === undefined ? versionWith(secret, "AWSPREVIOUS") : versionOf(secret, VersionId);
    if (!version) throw noVersion(secret, VersionId);
    if (version.stages.includes("AWSCURRENT"))
      throw new ServiceError("InvalidRequestException", `Version ${version.id} is the current one already.`);
    const job = await requestJob(call, secret, "rollback", { versionId: version.id, setAgain: SetAgain });
    return { ...job, VersionId: version.id };
  },
});

function noVersion({ name }: Secret, versionId: string | undefined): ServiceError {
  const what = versionId === undefined ? "no version is AWSPREVIOUS" : `there is no version ${versionId}`;
  return new ServiceError(
    "ResourceNotFoundException",
    `${name} cannot go back: ${what}. rekey secret versions ${name} lists what there is; VersionId (--to) names one of them.`,
  );
}

const parityInput = z.object({ SecretId: secretId });

const reportParity = defineOperation<z.infer<typeof parityInput>, SecretResource>({
  name: "ReportParity",
  noun: "rotations",
  verb: "parity",
  mode: "write",
  summary: "Begins a comparison of the two users of an alternating pair at the target, which changes nothing; GetJob shows it.",
  input: parityInput,
  resource: (request, call) => secretResource(request, call),
  permissions: (_request, found) => rotationPermissions(undefined, found),
  async run(_request, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    return requestJob(call, secret, "parity", await functionInput(secret, undefined, call));
  },
});

const getInput = z.object({ JobId: z.string().min(1).max(64) });

/** A job, with the secret that it is of. */
export interface JobResource extends Resource {
  readonly job?: TargetJob;
  readonly secret?: Secret;
}

/** Whoever may describe the secret may see its jobs; of a job that is not there nobody learns that. */
export async function jobResource({ JobId }: { JobId: string }, call: Call): Promise<JobResource> {
  const job = await findJob(call.sql, JobId);
  const secret = job && (await loadSecret(call.sql, job.secretId));
  if (!job || secret?.region !== call.region) {
    return { arn: `arn:aws:rekey:${call.region}:${call.account}:job/${JobId}`, context: {} };
  }
  const { arn, policy, context } = new SecretResource(secret.arn, secret, call, {});
  return { arn, policy, context, job, secret };
}

const getJob = defineOperation<z.infer<typeof getInput>, JobResource>({
  name: "GetJob",
  noun: "rotations",
  verb: "get-job",
  mode: "read",
  summary: "Shows how a check, rollback, adoption or comparison stands, and what it found.",
  input: getInput,
  resource: jobResource,
  permissions: (_request, found) => [{ action: "secretsmanager:DescribeSecret", resource: found }],
  async run(_request, { job, secret }, { startedAt }) {
    if (!job || !secret) throw noJob();
    const expired = job.state === "queued" && job.expiresAt < startedAt;
    return {
      JobId: job.id,
      Kind: job.kind,
      SecretName: secret.name,
      SecretArn: secret.arn,
      State: expired ? "failed" : job.state,
      Error: expired ? "No engine began it in time: ask again." : job.error,
      CreatedDate: new Date(job.createdAt),
      EndedDate: job.endedAt === undefined ? undefined : new Date(job.endedAt),
      Result: job.result,
    };
  },
});

export function noJob(): ServiceError {
  return new ServiceError("ResourceNotFoundException", "There is no such job; ended ones are kept as long as other history.");
}

export const jobOperations = [checkRotation, rollbackSecret, reportParity, getJob];
