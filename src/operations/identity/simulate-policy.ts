import { z } from "zod";
import { compiling, decide } from "../../core/decide.ts";
import { ServiceError } from "../../core/error.ts";
import { accessDeniedMessage } from "../../core/evaluate.ts";
import { nameInArn } from "../../core/identity.ts";
import type { Principal } from "../../core/principal.ts";
import { findRole, loadPrincipal } from "../../store/identity.ts";
import { findSecret } from "../../store/secrets.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { arn, policyDocument } from "./identity-input.ts";

const input = z.object({
  PrincipalArn: arn.optional(),
  /** Identity policies to suppose: besides those of the principal, or alone. */
  PolicyDocuments: z.array(policyDocument).max(50).optional(),
  Action: z.string().min(3).max(128),
  ResourceArn: z.string().min(1).max(2048).default("*"),
  /** A resource policy to suppose; without one the secret's own counts. */
  ResourcePolicy: policyDocument.optional(),
  ContextEntries: z
    .array(z.object({ Key: z.string().min(1).max(320), Values: z.array(z.string().max(2048)).max(100) }))
    .max(100)
    .optional(),
});
type Input = z.infer<typeof input>;

interface SimulationResource extends Resource {
  /** What the simulated request acts on. */
  readonly target: Resource;
  /** Actions on it that tell as much of it as the simulation may. */
  readonly shownBy: readonly string[];
}

/** Answers what authorization would, and by which statement. Source: IAM API reference, SimulatePrincipalPolicy. */
export const simulatePolicyOperation = defineOperation<Input, SimulationResource>({
  name: "SimulatePolicy",
  noun: "policies",
  verb: "simulate",
  mode: "read",
  summary: "Tells whether a principal, or whoever has given policies, may do something, and which statement decides.",
  input,
  check: ({ PrincipalArn, PolicyDocuments = [] }) => {
    if (PrincipalArn === undefined && PolicyDocuments.length === 0) {
      throw new ServiceError("ValidationException", "Give a principal's ARN, policy documents, or both.");
    }
  },
  async resource(request, call) {
    const { PrincipalArn = "*" } = request;
    return { arn: PrincipalArn, shown: PrincipalArn, context: {}, ...(await supposedResource(request, call)) };
  },
  permissions: ({ PrincipalArn }, found) => [
    { action: PrincipalArn === undefined ? "iam:SimulateCustomPolicy" : "iam:SimulatePrincipalPolicy", resource: found },
    ...found.shownBy.map((action) => ({ action, resource: looking(found.target) })),
  ],
  run: async (request, { target: resource }, call) => {
    const principal = await supposedPrincipal(request, call);
    const assumed = Object.fromEntries((request.ContextEntries ?? []).map(({ Key, Values }) => [Key, Values]));
    const facts = {
      sourceIp: call.sourceIp,
      userAgent: call.userAgent,
      secure: call.secure,
      region: call.region,
      now: call.startedAt,
    };
    const decision = decide({ principal, action: request.Action, resource, facts, assumed }, compiling);
    const { allowed, reason, by } = decision;
    const named = { principalArn: principal.arn, action: request.Action, resource: request.ResourceArn };
    return {
      Decision: allowed ? "allowed" : reason,
      Allowed: allowed,
      ...(by && {
        MatchedStatement: {
          PolicyType: by.policyKind,
          PolicyName: by.policyName,
          StatementIndex: by.statementIndex,
          ...(by.sid === undefined ? {} : { Sid: by.sid }),
        },
      }),
      ...(allowed ? {} : { Message: accessDeniedMessage(decision, named) }),
    };
  },
});

/** A trust policy has no say in who may look at its role. */
function looking({ isTrustPolicy, ...target }: Resource): Resource {
  return isTrustPolicy ? { ...target, policy: undefined } : target;
}

async function supposedPrincipal({ PrincipalArn, PolicyDocuments = [] }: Input, { sql, account }: Call): Promise<Principal> {
  const supposed = PolicyDocuments.map((document, index) => ({ name: `PolicyDocuments[${index}]`, document }));
  if (PrincipalArn === undefined) {
    const arn = `arn:aws:iam::${account}:user/simulated`;
    return { kind: "user", arn, accountId: account, userId: "simulated", userName: "simulated", tags: {}, policies: supposed };
  }
  const principal = await loadPrincipal(sql, account, PrincipalArn);
  if (!principal) throw new ServiceError("ResourceNotFoundException", `${PrincipalArn} is no user or role here.`);
  return { ...principal, policies: [...principal.policies, ...supposed] };
}

async function supposedResource(
  { Action, ResourceArn, ResourcePolicy }: Input,
  { sql, account, region }: Call,
): Promise<Pick<SimulationResource, "target" | "shownBy">> {
  const target = { arn: ResourceArn, shown: ResourceArn, context: {} };
  const isSts = /^sts:/i.test(Action);
  if (ResourcePolicy !== undefined) return { target: { ...target, policy: ResourcePolicy, isTrustPolicy: isSts }, shownBy: [] };
  const roleName = nameInArn(ResourceArn, account, "role");
  if (roleName !== undefined && isSts) {
    const role = await findRole(sql, roleName);
    return { target: { ...target, isTrustPolicy: true, ...(role && { policy: role.trustPolicy }) }, shownBy: ["iam:GetRole"] };
  }
  if (!ResourceArn.startsWith("arn:aws:secretsmanager:")) return { target, shownBy: [] };
  const shownBy = ["secretsmanager:GetResourcePolicy", "secretsmanager:DescribeSecret"];
  const secret = await findSecret(sql, region, ResourceArn);
  if (!secret) return { target, shownBy };
  const tags = Object.entries(secret.tags ?? {}).map(([key, value]) => [`aws:ResourceTag/${key}`, [value]]);
  const context = { "secretsmanager:SecretId": [secret.arn], ...Object.fromEntries(tags) };
  return { target: { ...target, context, ...(secret.policy === undefined ? {} : { policy: secret.policy }) }, shownBy };
}
