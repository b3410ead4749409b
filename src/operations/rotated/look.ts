import { randomInt } from "node:crypto";
import { type OutcomeClass, RotatorError, ServiceError } from "../../core/error.ts";
import { generatePassword, rotationPasswordOptions } from "../../core/password.ts";
import { integrationArn } from "../../core/rekey-arn.ts";
import { findIntegration, type Integration } from "../../store/integrations.ts";
import type { AnyCredential } from "../../targets/index.ts";
import type { Finding, Rotator, RotatorTools } from "../../targets/target.ts";
import type { Call } from "../operation.ts";
import type { Recipe } from "./recipe.ts";

const callMs = 15_000;

const toolsFor = (): RotatorTools => ({
  rotationId: "check",
  deadlineAt: Date.now() + callMs,
  generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
});

/** The integration's user acts for the rotated secret: whoever makes one needs leave to use it. @throws ServiceError */
export async function usableIntegration(idOrName: string, call: Call): Promise<Integration> {
  const integration = await findIntegration(call.sql, idOrName);
  const arn = integrationArn(call.services, integration?.id ?? idOrName);
  const refusal = call.may("rekey:UseIntegration", { arn, shown: idOrName, context: {} });
  if (refusal) throw refusal;
  if (!integration) throw new ServiceError("ResourceNotFoundException", `Could not find integration ${idOrName}.`);
  return integration;
}

/** How a credential is rotated, and where its target is. */
export interface Way {
  readonly recipe: Recipe;
  /** Its integration's; absent: reached from here. */
  readonly network: string | undefined;
}

async function rotatorOf({ services }: Call, { recipe, network }: Way): Promise<Rotator<AnyCredential>> {
  const rotator = await services.findRotator(recipe.kind, undefined, network);
  if (!rotator) throw new Error(`there is no rotator ${recipe.kind}`);
  return rotator;
}

/**
 * Logs in with each credential, and looks at what a rotation would meet; changes nothing. That each logs in shows that it is
 * the caller's own: else the managing user could be made to take over anybody's.
 * @throws ServiceError InvalidRequestException in words
 */
export async function mustRotate(
  call: Call,
  way: Way,
  values: readonly AnyCredential[],
  manager: AnyCredential | undefined,
): Promise<{ readonly findings: readonly Finding[]; readonly account: string | undefined }> {
  const { strategy } = way.recipe;
  const rotator = await rotatorOf(call, way);
  const parsed = values.map((value) => parse(rotator, value));
  for (const [index, value] of parsed.entries()) {
    await tried(`Credentials[${index}] was not accepted, so nothing was made`, () => rotator.test(value, toolsFor()));
  }
  const [current = {}] = parsed;
  const admin = manager && (rotator.admin ?? rotator.credential).safeParse(manager);
  if (admin?.success === false)
    throw refused("The integration cannot manage credentials of this kind", admin.error.issues[0]?.message ?? "");
  const findings = await tried("What a rotation needs could not be looked at, so nothing was made", async () =>
    rotator.check?.({ current, admin: admin?.data, pairIsProven: true }, strategy, toolsFor()),
  );
  const bad = (findings ?? []).filter(({ warning }) => warning !== true);
  const texts = bad.map(({ problem, remedy }) => `${problem} (${remedy})`);
  if (bad.length > 0) throw refused("A rotation would fail, so nothing was made", texts.join("; "));
  return { findings: findings ?? [], account: rotator.account(current, strategy) };
}

/** Whether it logs in now. @throws ServiceError InvalidRequestException in words when it does not */
export async function mustLogIn(call: Call, way: Way, value: AnyCredential, otherwise: string): Promise<void> {
  const rotator = await rotatorOf(call, way);
  await tried(otherwise, () => rotator.test(parse(rotator, value), toolsFor()));
}

/** What its target says of it now; never throws for an answer. @throws ServiceError */
export async function loginOutcome(call: Call, way: Way, value: AnyCredential): Promise<OutcomeClass> {
  const rotator = await rotatorOf(call, way);
  return rotator.probe(parse(rotator, value), toolsFor());
}

function parse(rotator: Rotator<AnyCredential>, value: AnyCredential): AnyCredential {
  const { data, error } = rotator.credential.safeParse(value);
  if (data) return data;
  const problems = error.issues.map(({ path, message }) => `${path.join(".")} ${message}`);
  throw new ServiceError("ValidationException", `Credentials or Parameters: ${problems.slice(0, 10).join("; ")}.`);
}

async function tried<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    throw refused(what, error.message, error);
  }
}

const refused = (what: string, why: string, cause?: Error): ServiceError =>
  new ServiceError("InvalidRequestException", `${what}: ${why}.`, { cause });
