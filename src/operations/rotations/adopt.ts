import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { planRotation } from "../../core/rotation-schedule.ts";
import { versionWith } from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { changeSecret } from "../../store/secrets.ts";
import { isRotating } from "../../store/target-jobs.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { checkFunction, configure, functionResource, newRules, rotateInput } from "../secrets/rotate-secret.ts";
import {
  notFound,
  parameterContext,
  requireWritable,
  type SecretResource,
  secretResource,
  usable,
} from "../secrets/secret-resource.ts";
import { requestJob } from "./job-requests.ts";
import { functionInput, type JobResource, jobResource, noJob, rotationPermissions } from "./jobs.ts";

const planInput = z.object({
  SecretId: secretId,
  RotationLambdaARN: z.string().min(1).max(2048),
  RotationRules: rotateInput.shape.RotationRules,
});
type PlanInput = z.infer<typeof planInput>;

/** The condition keys of the RotateSecret that adopting stands in for. */
function contextOf({ RotationLambdaARN, RotationRules }: Pick<PlanInput, "RotationLambdaARN" | "RotationRules">) {
  const ModifyRotationRules = RotationRules === undefined ? undefined : true;
  return parameterContext({ RotationLambdaARN, ModifyRotationRules, RotateImmediately: false });
}

const planAdoption = defineOperation<PlanInput, SecretResource>({
  name: "PlanAdoption",
  noun: "rotations",
  verb: "adopt",
  mode: "write",
  summary:
    "Begins a plan for rotating an account that is there already, which changes nothing; GetJob shows it, ApplyAdoption configures it.",
  input: planInput,
  resource: (request, call) => secretResource(request, call, contextOf(request)),
  permissions: ({ RotationLambdaARN }, found) => rotationPermissions(RotationLambdaARN, found),
  async run(request, found, call) {
    const secret = usable(found);
    requireWritable(secret);
    configure(secret, request, call); // refuses rules that cannot be followed
    const rules = newRules(request);
    return requestJob(call, secret, "adopt", {
      ...(await functionInput(secret, request.RotationLambdaARN, call)),
      ...(rules && { rules, givenRules: request.RotationRules }),
    });
  },
});

const applyInput = z.object({ JobId: z.string().min(1).max(64) });

/** What a plan that is no older says still holds. */
const planHoldsMs = 3_600_000;

interface Plan {
  readonly request: PlanInput;
  readonly versionId: unknown;
}

/** The plan behind a job. @throws ServiceError when it is none that can be applied */
function planOf({ job, secret }: JobResource, nowMs: number): Plan {
  if (!job || !secret) throw noJob();
  if (job.kind !== "adopt") throw new ServiceError("InvalidRequestException", "That job is no plan for an adoption.");
  if (job.state !== "done") {
    throw new ServiceError("InvalidRequestException", `The plan is not ready: its job is ${job.state}.`);
  }
  if (job.result?.ok !== true)
    throw new ServiceError(
      "InvalidRequestException",
      "The plan found what would make a rotation fail; put that right and plan again.",
    );
  if ((job.endedAt ?? 0) < nowMs - planHoldsMs)
    throw new ServiceError("InvalidRequestException", "The plan is more than an hour old: plan again.");
  const { functionArn, givenRules } = job.input;
  const RotationRules = givenRules as PlanInput["RotationRules"];
  const request = { SecretId: secret.arn, RotationLambdaARN: String(functionArn), RotationRules };
  return { request, versionId: job.result.versionId };
}

const applyAdoption = defineOperation<z.infer<typeof applyInput>, JobResource>({
  name: "ApplyAdoption",
  noun: "rotations",
  verb: "apply-adoption",
  mode: "write",
  summary: "Configures rotation as a plan says, without rotating or testing now.",
  input: applyInput,
  async resource(request, call) {
    const found = await jobResource(request, call);
    if (!found.job || !found.secret) return found;
    const { functionArn, givenRules } = found.job.input;
    const context = contextOf({
      RotationLambdaARN: String(functionArn),
      RotationRules: givenRules as PlanInput["RotationRules"],
    });
    return { ...found, context: { ...found.context, ...context } };
  },
  permissions: (_request, found) => {
    const functionArn = found.job?.input.functionArn;
    const invoke = { action: "lambda:InvokeFunction", resource: functionResource(String(functionArn), found.arn) };
    return [{ action: "secretsmanager:RotateSecret", resource: found }, ...(functionArn === undefined ? [] : [invoke])];
  },
  async run(_request, found, call) {
    const { request, versionId } = planOf(found, call.startedAt);
    if (found.secret) await checkFunction(configure(found.secret, request, call), call);
    const saved = await apply(call, found, request, versionId);
    call.services.wakeEngine();
    return {
      ARN: saved.arn,
      Name: saved.name,
      NextRotationDate: saved.nextRotationAt === undefined ? undefined : new Date(saved.nextRotationAt),
    };
  },
});

async function apply(call: Call, { secret }: JobResource, request: PlanInput, versionId: unknown) {
  if (!secret) throw notFound();
  const { id } = secret;
  await checkFunction(configure(secret, request, call), call);
  return call.transaction(async (tx) => {
    const saved = await changeSecret(tx, id, (before) => {
      requireWritable(before);
      if (versionWith(before, "AWSCURRENT")?.id !== versionId)
        throw new ServiceError("InvalidRequestException", "The secret has another value than the plan is for: plan again.");
      const configured = configure(before, request, call);
      return planRotation(configured, call.startedAt, Math.random());
    });
    if (!saved) throw notFound();
    if (await isRotating(tx, id))
      throw new ServiceError("InvalidRequestException", `A rotation of ${saved.name} is running: it is rotated already.`);
    const { arn, generation, rotationFunctionArn = "" } = saved;
    const detail = { functionArn: rotationFunctionArn };
    await addEvent(tx, { at: call.startedAt, type: "rotation.adopted", resource: arn, generation, detail });
    return saved;
  });
}

export const adoptOperations = [planAdoption, applyAdoption];
