import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { attachPolicy, detachPolicy, findPolicy } from "../../store/policies.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { arn, roleName, userName } from "./identity-input.ts";
import { unknownPolicy } from "./policies.ts";
import {
  existingRole,
  existingUser,
  type RoleResource,
  roleResource,
  type UserResource,
  userResource,
} from "./principal-resource.ts";

const input = z.object({ PolicyArn: arn, UserName: userName.optional(), RoleName: roleName.optional() });
type Input = z.infer<typeof input>;

async function attachedResource(
  { PolicyArn, UserName, RoleName }: Input,
  call: Call,
): Promise<Resource & Partial<UserResource & RoleResource>> {
  const context = { "iam:PolicyARN": [PolicyArn] };
  if (UserName !== undefined) return userResource({ UserName }, call, context);
  return roleResource({ RoleName: RoleName ?? "" }, call, context);
}

/** One operation for IAM's two: the permission is that of the kind of principal. */
function attachmentOperation(
  name: "Attach" | "Detach",
  summary: string,
  change: (tx: Call["sql"], principalArn: string, policyArn: string) => Promise<void>,
): Operation {
  return defineOperation<Input, Awaited<ReturnType<typeof attachedResource>>>({
    name: `${name}Policy`,
    noun: "policies",
    verb: name.toLowerCase(),
    mode: "write",
    summary,
    input,
    check: ({ UserName, RoleName }) => {
      if ((UserName === undefined) === (RoleName === undefined)) {
        throw new ServiceError("ValidationException", "Name either a user or a role.");
      }
    },
    resource: attachedResource,
    permissions: ({ UserName }, found) => [
      { action: `iam:${name}${UserName === undefined ? "Role" : "User"}Policy`, resource: found },
    ],
    run: async ({ PolicyArn, UserName, RoleName = "" }, { user, role, ...found }, call) => {
      if (UserName === undefined) existingRole({ ...found, role }, RoleName);
      else existingUser({ ...found, user }, UserName);
      await call.transaction((tx) => change(tx, found.arn, PolicyArn));
      return {};
    },
  });
}

/** Source: IAM API reference, AttachUserPolicy, AttachRolePolicy. */
export const attachPolicyOperation = attachmentOperation(
  "Attach",
  "Gives a user or a role the rights of a policy; again changes nothing.",
  async (tx, principalArn, policyArn) => {
    if (!(await findPolicy(tx, policyArn))) throw unknownPolicy(policyArn);
    await attachPolicy(tx, principalArn, policyArn);
  },
);

/** Source: IAM API reference, DetachUserPolicy, DetachRolePolicy. */
export const detachPolicyOperation = attachmentOperation(
  "Detach",
  "Takes a policy from a user or a role, from the next request on.",
  async (tx, principalArn, policyArn) => {
    if (!(await detachPolicy(tx, principalArn, policyArn))) {
      throw new ServiceError("ResourceNotFoundException", `Policy ${policyArn} was not found attached.`);
    }
  },
);
