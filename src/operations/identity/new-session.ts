import { randomBytes } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { identityId, identityLimits, newSecretAccessKey, sessionArn } from "../../core/identity.ts";
import { parsePolicy } from "../../core/policy.ts";
import type { Role } from "../../store/identity.ts";
import { findPolicy } from "../../store/policies.ts";
import type { Sql } from "../../store/sql.ts";
import type { Call } from "../operation.ts";
import { arn } from "./identity-input.ts";

/** From the query protocol it comes as text. */
export const durationSeconds = z.coerce.number().int().min(900).max(43_200).optional();

export const sessionPolicyMembers = {
  Policy: z.string().min(1).max(identityLimits.sessionPolicyChars).optional(),
  PolicyArns: z.array(z.object({ arn })).max(identityLimits.sessionPolicyArns).optional(),
};

interface SessionPolicies {
  readonly Policy?: string | undefined;
  readonly PolicyArns?: readonly { readonly arn: string }[] | undefined;
}

interface SessionRequest extends SessionPolicies {
  readonly RoleSessionName: string;
  readonly DurationSeconds?: number | undefined;
  readonly tags: Readonly<Record<string, string>>;
  readonly transitiveTagKeys: readonly string[];
}

/** What session policies, their names and tags may take together. Source: STS API reference, PackedPolicyTooLarge. */
const packedChars = 6144;

/** @throws ServiceError MalformedPolicyDocumentException, ValidationException for a policy that does not exist. */
export async function checkSessionPolicies({ Policy, PolicyArns = [] }: SessionPolicies, sql: Sql): Promise<void> {
  if (Policy !== undefined) parsePolicy(Policy, "session");
  for (const one of PolicyArns) {
    if (!(await findPolicy(sql, one.arn))) throw new ServiceError("ValidationException", `Policy ${one.arn} does not exist.`);
  }
}

/** Seals a session of the role: whoever holds the answer is the role until it expires. */
export function issueSession(call: Call, role: Role, request: SessionRequest) {
  const { Policy: policy, PolicyArns = [], RoleSessionName: name, tags, transitiveTagKeys } = request;
  const seconds = request.DurationSeconds ?? 3600;
  if (seconds > role.maxSessionSeconds) {
    throw new ServiceError(
      "ValidationException",
      "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    );
  }
  const policyArns = PolicyArns.map((one) => one.arn);
  const packed = packedPercent([policy ?? "", ...policyArns, ...Object.entries(tags).flat()]);
  const issuedAt = call.services.now();
  const accessKeyId = identityId("ASIA", randomBytes);
  const secretAccessKey = newSecretAccessKey(randomBytes);
  const expiresAt = issuedAt + seconds * 1000;
  const token = call.services.sessionTokens.seal({
    accessKeyId,
    secretAccessKey,
    roleId: role.id,
    roleName: role.name,
    sessionName: name,
    issuedAt,
    expiresAt,
    ...(policy === undefined ? {} : { policy }),
    ...(policyArns.length === 0 ? {} : { policyArns }),
    ...(Object.keys(tags).length === 0 ? {} : { tags, transitiveTagKeys }),
  });
  return {
    Credentials: {
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      SessionToken: token,
      Expiration: new Date(expiresAt),
    },
    AssumedRoleUser: { AssumedRoleId: `${role.id}:${name}`, Arn: sessionArn(call.account, role.name, name) },
    ...(packed === 0 ? {} : { PackedPolicySize: packed }),
  };
}

function packedPercent(texts: readonly string[]): number {
  const chars = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  const percent = Math.ceil((chars / packedChars) * 100);
  if (percent > 100) {
    throw new ServiceError(
      "PackedPolicyTooLarge",
      `Packed size of session policies and tags consumes ${percent}% of allotted space.`,
    );
  }
  return percent;
}
