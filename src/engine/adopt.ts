import { ServiceError } from "../core/error.ts";
import { planRotation } from "../core/rotation-schedule.ts";
import { type RotationRules, type Secret, versionWith } from "../core/secret.ts";
import type { JobData } from "../store/target-jobs.ts";
import type { Caps } from "./caps.ts";
import { type Preflight, preflight } from "./check.ts";
import type { HeldJob } from "./held-job.ts";
import { atTarget, type OpenTarget, readAdmin } from "./job-target.ts";

/**
 * What rotating an account that is there already would do, and whether it would work. Changes nothing, here or at the target:
 * configuring is for whoever has read the plan.
 */
export async function adopt(held: HeldJob, caps: Caps): Promise<JobData> {
  const secret = await held.readSecret();
  const configured = asConfigured(held, secret);
  const found = await preflight(held, caps, configured);
  const { ok, findings, passed, target } = found;
  return {
    ok,
    findings,
    passed,
    plan: ok ? await planOf(held, caps, configured, found) : [],
    ...(target && { kind: target.rotator.kind, strategy: target.strategy, account: target.account }),
    generation: secret.generation,
    versionId: versionWith(secret, "AWSCURRENT")?.id,
  };
}

function asConfigured({ job, parts }: HeldJob, secret: Secret): Secret {
  const { functionArn, rules } = job.input;
  const rotationRules = (rules as RotationRules | undefined) ?? secret.rotationRules;
  const configured = { ...secret, rotationEnabled: true, rotationFunctionArn: String(functionArn), rotationRules };
  try {
    return planRotation(configured, parts.now(), 0);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    return configured; // told by the pre-flight
  }
}

async function planOf(held: HeldJob, caps: Caps, secret: Secret, { target }: Preflight): Promise<string[]> {
  const { nextRotationAt, rotationFunctionArn } = secret;
  const first = nextRotationAt === undefined ? "when somebody asks for it" : `by ${new Date(nextRotationAt).toISOString()}`;
  return [
    `Nothing is changed at the target now, and the value stays as it is.`,
    `The first rotation begins ${first}.`,
    ...(target
      ? await firstRotation(held, caps, target)
      : [`It has ${rotationFunctionArn} called for each of the four steps, which does there what its code says.`]),
  ];
}

async function firstRotation(held: HeldJob, caps: Caps, target: OpenTarget): Promise<string[]> {
  const { rotator, strategy, current, account } = target;
  const name = String(current.username ?? account);
  switch (strategy) {
    case "single-user":
      return [`It sets a new password for ${name}; from then on the target refuses the old one.`];
    case "dual-slot":
      return [`It gives ${name} a second password beside the one in use, which ends after its grace period.`];
    case "issuer":
      return [`It has the target make a new credential, and deletes the old one after its grace period.`];
    case "generator":
      return [`It makes a new value, which no target has to know.`];
    case "alternating-users": {
      const users = await atTarget(caps, account, async () => {
        const access = { current, admin: await readAdmin(held, target) };
        return (await rotator.compare?.(access, await held.tools()))?.users ?? [];
      });
      const other = users.find((user) => user.name !== name);
      if (!other) return [`It sets a new password for the other user and makes that one current; ${name} keeps its own.`];
      const act = other.exists
        ? `sets a new password for ${other.name}, which is there`
        : `makes the user ${other.name} like ${name}`;
      return [`It ${act}, and makes it current; ${name} keeps its password until its next turn.`];
    }
  }
}
