import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { externalIdPattern, nameInArn } from "../../core/identity.ts";
import { findRole, principalTags, type Role } from "../../store/identity.ts";
import { type Call, defineOperation, type Permission, type Resource } from "../operation.ts";
import { arn, checkTags, requestTagContext, sessionName, tagKey, tags, toRecord } from "./identity-input.ts";
import { checkSessionPolicies, durationSeconds, issueSession, sessionPolicyMembers } from "./new-session.ts";

/** A role as its trust policy lets callers see it. */
interface AssumedResource extends Resource {
  readonly role: Role | undefined;
}

const input = z.object({
  RoleArn: arn,
  RoleSessionName: sessionName,
  DurationSeconds: durationSeconds,
  ...sessionPolicyMembers,
  ExternalId: z.string().min(2).max(1224).regex(externalIdPattern).optional(),
  Tags: tags.optional(),
  TransitiveTagKeys: z.array(tagKey).max(50).optional(),
  SourceIdentity: z.string().optional(),
});
type Input = z.infer<typeof input>;

/** The role that an ARN names, under its trust policy; one that does not exist lets nobody in. */
async function assumedRole(
  roleArn: string,
  call: Call,
  context: Readonly<Record<string, readonly string[]>>,
): Promise<AssumedResource> {
  const name = nameInArn(roleArn, call.account, "role");
  const role = name === undefined ? undefined : await findRole(call.sql, name);
  const roleTags = role ? Object.entries(await principalTags(call.sql, roleArn)) : [];
  const ofRole = roleTags.flatMap(([key, value]) => [
    [`aws:ResourceTag/${key}`, [value]],
    [`iam:ResourceTag/${key}`, [value]],
  ]);
  return {
    arn: roleArn,
    shown: roleArn,
    isTrustPolicy: true,
    ...(role ? { policy: role.trustPolicy } : {}),
    context: { ...Object.fromEntries(ofRole), ...context },
    role,
  };
}

/** Tags that the caller hands on: its own transitive ones cannot be replaced. Source: IAM User Guide, "Session tags". */
function sessionTags({ Tags = [], TransitiveTagKeys = [] }: Input, { principal }: Call) {
  const inherited = (principal.transitiveTagKeys ?? []).flatMap((key) => {
    const value = principal.tags[key];
    return value === undefined ? [] : [{ Key: key, Value: value }];
  });
  const keys = new Set(inherited.map(({ Key }) => Key.toLowerCase()));
  if (Tags.some(({ Key }) => keys.has(Key.toLowerCase()))) {
    throw new ServiceError(
      "InvalidParameterException",
      "One of the specified transitive tag keys can't be set because it is already inherited.",
    );
  }
  const missing = TransitiveTagKeys.find((key) => !Tags.some(({ Key }) => Key === key));
  if (missing !== undefined) {
    throw new ServiceError(
      "InvalidParameterException",
      "The specified transitive tag key must be included in the requested tags.",
    );
  }
  return {
    tags: toRecord([...inherited, ...Tags]),
    transitiveTagKeys: [...inherited.map(({ Key }) => Key), ...TransitiveTagKeys],
  };
}

/** Source: STS API reference, AssumeRole. */
export const assumeRoleOperation = defineOperation<Input, AssumedResource>({
  name: "AssumeRole",
  action: "sts:AssumeRole",
  noun: "sts",
  verb: "assume-role",
  mode: "read",
  summary: "Temporary credentials of a role whose trust policy lets the caller in.",
  input,
  check: ({ Tags, SourceIdentity }) => {
    checkTags(Tags);
    if (SourceIdentity !== undefined) throw new ServiceError("ValidationException", "SourceIdentity is not supported.");
  },
  resource: (request, call) =>
    assumedRole(request.RoleArn, call, {
      "sts:RoleSessionName": [request.RoleSessionName],
      ...(request.ExternalId === undefined ? {} : { "sts:ExternalId": [request.ExternalId] }),
      ...(request.TransitiveTagKeys === undefined ? {} : { "sts:TransitiveTagKeys": request.TransitiveTagKeys }),
      ...requestTagContext(request.Tags),
    }),
  permissions: ({ Tags = [] }, found): Permission[] => (Tags.length === 0 ? [] : [{ action: "sts:TagSession", resource: found }]),
  async run(request, { role }, call) {
    if (call.principal.kind === "root" || !role) {
      throw new ServiceError("AccessDeniedException", "Roles may not be assumed by root accounts.");
    }
    if (call.principal.kind === "role" && (request.DurationSeconds ?? 0) > 3600) {
      throw new ServiceError(
        "ValidationException",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
      );
    }
    await checkSessionPolicies(request, call.sql);
    return issueSession(call, role, { ...request, ...sessionTags(request, call) });
  },
});

const webInput = z.object({
  RoleArn: arn,
  RoleSessionName: sessionName,
  WebIdentityToken: z.string().min(4).max(20_000),
  DurationSeconds: durationSeconds,
  ...sessionPolicyMembers,
});

/** The caller is the token's subject: authentication has checked it. Source: STS API reference, AssumeRoleWithWebIdentity. */
export const assumeRoleWithWebIdentityOperation = defineOperation<z.infer<typeof webInput>, AssumedResource>({
  name: "AssumeRoleWithWebIdentity",
  action: "sts:AssumeRoleWithWebIdentity",
  noun: "sts",
  verb: "assume-role-with-web-identity",
  mode: "read",
  summary: "Temporary credentials of a role for the holder of an OIDC token of a configured issuer.",
  input: webInput,
  sensitive: ["WebIdentityToken"],
  resource: (request, call) => assumedRole(request.RoleArn, call, { "sts:RoleSessionName": [request.RoleSessionName] }),
  async run(request, { role, arn }, call) {
    const { principal } = call;
    if (principal.kind !== "federated" || !role) {
      throw new ServiceError("AccessDeniedException", `Not authorized to perform sts:AssumeRoleWithWebIdentity on ${arn}.`);
    }
    await checkSessionPolicies(request, call.sql);
    const answer = issueSession(call, role, { ...request, tags: {}, transitiveTagKeys: [] });
    const ofToken = Object.entries(principal.context ?? {});
    const claim = (name: string) => ofToken.find(([key]) => key.endsWith(`:${name}`))?.[1][0];
    return {
      ...answer,
      Provider: principal.arn,
      ...(claim("sub") === undefined ? {} : { SubjectFromWebIdentityToken: claim("sub") }),
      ...(claim("aud") === undefined ? {} : { Audience: claim("aud") }),
    };
  },
});
