import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { parsePolicy } from "../../core/policy.ts";
import { isPublic } from "../../core/policy-public.ts";
import type { Secret } from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { changeSecret } from "../../store/secrets.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { checkPrincipals } from "./policy-principals.ts";
import {
  nameArn,
  notFound,
  parameterContext,
  requirePrimary,
  requireUsable,
  SecretResource,
  secretResource,
  usable,
} from "./secret-resource.ts";

const policyText = z.string().min(1).max(20_480);
const idInput = z.object({ SecretId: secretId });

const publicAccess = "You can't attach a resource-based policy that allows broad access to the secret.";
const lockOut = "Your requested changes will not allow you to manage this secret in the future.";

/** The policy attached to a secret, if any. Source: AWS API reference, GetResourcePolicy. */
export const getResourcePolicy = defineOperation<z.infer<typeof idInput>, SecretResource>({
  name: "GetResourcePolicy",
  action: "secretsmanager:GetResourcePolicy",
  noun: "secrets",
  verb: "get-policy",
  mode: "read",
  summary: "Shows the policy attached to a secret.",
  input: idInput,
  resource: (request, call) => secretResource(request, call),
  async run(_request, found) {
    const secret = usable(found);
    return { ARN: secret.arn, Name: secret.name, ResourcePolicy: secret.policy };
  },
});

const putInput = z.object({ SecretId: secretId, ResourcePolicy: policyText, BlockPublicPolicy: z.boolean().optional() });

/** Attaches a policy to a secret, in place of the one it had. Source: AWS API reference, PutResourcePolicy. */
export const putResourcePolicy = defineOperation<z.infer<typeof putInput>, SecretResource>({
  name: "PutResourcePolicy",
  action: "secretsmanager:PutResourcePolicy",
  noun: "secrets",
  verb: "put-policy",
  mode: "write",
  summary: "Attaches a policy to a secret, in place of the one it had.",
  input: putInput,
  resource: (request, call) => secretResource(request, call, parameterContext({ BlockPublicPolicy: request.BlockPublicPolicy })),
  async run({ ResourcePolicy, BlockPublicPolicy }, found, call) {
    const secret = usable(found);
    const policy = parsePolicy(ResourcePolicy, "resource", "resource policy");
    await checkPrincipals(policy, call);
    if (BlockPublicPolicy && isPublic(policy)) throw new ServiceError("PublicPolicyException", publicAccess);
    const parameters = parameterContext({ BlockPublicPolicy });
    if (locksOut(secret, ResourcePolicy, found.shown, call, parameters))
      throw new ServiceError("InvalidParameterException", lockOut);
    return changePolicy(secret, ResourcePolicy, call);
  },
});

/** Detaches the policy; nothing happens when there is none. Source: AWS API reference, DeleteResourcePolicy. */
export const deleteResourcePolicy = defineOperation<z.infer<typeof idInput>, SecretResource>({
  name: "DeleteResourcePolicy",
  action: "secretsmanager:DeleteResourcePolicy",
  noun: "secrets",
  verb: "delete-policy",
  mode: "write",
  summary: "Detaches the policy from a secret.",
  input: idInput,
  resource: (request, call) => secretResource(request, call),
  run: (_request, found, call) => changePolicy(usable(found), undefined, call),
});

const validateInput = z.object({ SecretId: secretId.optional(), ResourcePolicy: policyText });

/** Checks a policy for syntax, broad access, and locking the caller out. Source: AWS API reference, ValidateResourcePolicy. */
export const validateResourcePolicy = defineOperation<z.infer<typeof validateInput>, SecretResource>({
  name: "ValidateResourcePolicy",
  action: "secretsmanager:ValidateResourcePolicy",
  noun: "policies",
  verb: "validate-resource-policy",
  mode: "read",
  summary: "Checks a secret's policy for syntax, broad access, and locking the caller out.",
  input: validateInput,
  resource: ({ SecretId }, call) => (SecretId === undefined ? anySecret(call) : secretResource({ SecretId }, call)),
  permissions: (_request, found) => [{ action: "secretsmanager:PutResourcePolicy", resource: found }],
  async run({ SecretId, ResourcePolicy }, found, call) {
    const secret = SecretId === undefined ? undefined : usable(found);
    const errors: { CheckName: string; ErrorMessage: string }[] = [];
    try {
      const policy = parsePolicy(ResourcePolicy, "resource", "resource policy");
      await checkPrincipals(policy, call);
      if (isPublic(policy)) errors.push({ CheckName: "PublicPolicyCheck", ErrorMessage: publicAccess });
      if (secret && locksOut(secret, ResourcePolicy, found.shown, call))
        errors.push({ CheckName: "LockOutCheck", ErrorMessage: lockOut });
    } catch (error) {
      if (!(error instanceof ServiceError && error.code === "MalformedPolicyDocumentException")) throw error;
      errors.push({ CheckName: "SyntaxCheck", ErrorMessage: error.message });
    }
    return { PolicyValidationPassed: errors.length === 0, ValidationErrors: errors };
  },
});

function anySecret(call: Call): SecretResource {
  return new SecretResource(nameArn("*", call), undefined, call, {});
}

/** Whether the caller, who may put the policy now, could not any more in the same way. */
function locksOut(secret: Secret, document: string, shown: string, call: Call, parameters = {}): boolean {
  const after = new SecretResource(shown, { ...secret, policy: document }, call, parameters);
  return call.may("secretsmanager:PutResourcePolicy", after) !== undefined;
}

async function changePolicy({ id }: Secret, policy: string | undefined, call: Call): Promise<object> {
  const saved = await call.transaction(async (tx) => {
    const secret = await changeSecret(tx, id, (before) => {
      requireUsable(before);
      requirePrimary(before);
      return { ...before, policy };
    });
    if (!secret) throw notFound();
    await addEvent(tx, {
      at: call.startedAt,
      type: "secret.policy-changed",
      resource: secret.arn,
      generation: secret.generation,
      detail: {},
    });
    return secret;
  });
  return { ARN: saved.arn, Name: saved.name };
}
