import { randomInt } from "node:crypto";
import type { z } from "zod";
import { RotatorError, ServiceError } from "../../core/error.ts";
import { kindThroughLambda } from "../../core/lambda-integration.ts";
import { generatePassword, rotationPasswordOptions } from "../../core/password.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { type Integration, type IntegrationVersion, integrationVersionContext, newestVersion } from "../../store/integrations.ts";
import type { LeaseTarget, LeaseTools } from "../../targets/lease-target.ts";
import { leaseTargetKinds } from "../../targets/lease-targets.ts";
import type { Services } from "../services.ts";

/** Members as callers gave them. */
export type Members = Readonly<Record<string, unknown>>;

const callMs = 15_000;

/** For a call at a target that a caller waits for. */
export const toolsFor = (ms = callMs): LeaseTools => ({
  deadlineAt: Date.now() + ms,
  generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
});

/** `network`: where it is, when not here. @throws ServiceError ValidationException naming the kinds that there are. */
export async function targetOf({ findLeaseTarget }: Services, type: string, network?: string): Promise<LeaseTarget> {
  const found = await findLeaseTarget(type, network);
  if (found) return found;
  if (kindThroughLambda(type) !== undefined)
    throw new ServiceError(
      "ValidationException",
      "The integration is a function of AWS Lambda, which rotates secrets of configs and makes no leases.",
    );
  throw new ServiceError("ValidationException", `Type must be one of ${leaseTargetKinds().join(", ")}.`);
}

/** @throws ServiceError ValidationException naming each member and its rule, never its value. */
export function parseMembers<T>(schema: z.ZodType<T>, given: unknown, what: "Data" | "Settings" | "Parameters"): T {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${[what, ...path.map(String)].join(".")}: ${message}`);
  throw new ServiceError("ValidationException", problems.slice(0, 20).join("; "));
}

/** The data of an integration: what is shown of it, and what is not. */
export interface SplitData {
  readonly shown: Members;
  readonly secret: Members;
}

export function splitData({ secretMembers }: LeaseTarget, data: Members): SplitData {
  const isSecret = ([name]: [string, unknown]) => secretMembers.includes(name);
  const entries = Object.entries(data);
  return {
    shown: Object.fromEntries(entries.filter((entry) => !isSecret(entry))),
    secret: Object.fromEntries(entries.filter(isSecret)),
  };
}

/** An integration as it is now. */
export interface OpenIntegration {
  /** All of its data, its secret members included. */
  readonly data: Members;
  /** Where its target is; absent: reached from here. */
  readonly network?: string | undefined;
}

/** @throws ServiceError DecryptionFailure */
export async function openIntegration(services: Services, integration: Integration): Promise<OpenIntegration> {
  const version = await newestVersion(services.sql, integration);
  if (!version) throw new Error(`integration ${integration.id} has no version ${integration.version}`);
  const opened = await services.envelope.open(version, integrationVersionContext(version.id));
  return { data: { ...JSON.parse(version.settings), ...JSON.parse(opened.revealText()) }, network: version.network };
}

/** A version of an integration to be kept. @throws ServiceError EncryptionFailure */
export async function sealVersion(
  { envelope, keys, region }: Services,
  place: Pick<IntegrationVersion, "integrationId" | "number" | "network">,
  { shown, secret }: SplitData,
  target: string,
): Promise<IntegrationVersion> {
  const id = `${place.integrationId}/${place.number}`;
  const key = await keys.resolve(undefined, region);
  const sealed = await envelope.seal(new Plaintext(JSON.stringify(secret)), integrationVersionContext(id), key.id);
  return { id, ...place, settings: JSON.stringify(shown), target, ...sealed };
}

/** What a target did not do, told to whoever asked. Anything else is thrown on. */
export function targetRefusal(error: unknown, what: string): ServiceError {
  if (!(error instanceof RotatorError)) throw error;
  return new ServiceError("InvalidRequestException", `${what}: ${error.message}`, { cause: error });
}
