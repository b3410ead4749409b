import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { attachPolicy, detachPolicy, findPolicy } from "../../store/policies.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { existingGroup, type GroupResource, groupResource, namedGroup } from "./group-input.ts";
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

const input = z.object({
  PolicyArn: arn,
  UserName: userName.optional(),
  RoleName: roleName.optional(),
  GroupName: namedGroup.optional(),
});
type Input = z.infer<typeof input>;

async function attachedResource(
  { PolicyArn, UserName, RoleName, GroupName }: Input,
  call: Call,
): Promise<Resource & Partial<UserResource & RoleResource & GroupResource>> {
  const context = { "iam:PolicyARN": [PolicyArn] };
  if (UserName !== undefined) return userResource({ UserName }, call, context);
  if (GroupName !== undefined) return { ...(await groupResource({ GroupName }, call)), context };
  return roleResource({ RoleName: RoleName ?? "" }, call, context);
}

/** One operation for IAM's three: the permission is that of the kind of principal. */
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
    check: ({ UserName, RoleName, GroupName }) => {
      if ([UserName, RoleName, GroupName].filter((one) => one !== undefined).length !== 1)
        throw new ServiceError("ValidationException", "Name either a user, a role or a group.");
    },
    resource: attachedResource,
    permissions: ({ UserName, GroupName }, found) => {
      const kind = UserName !== undefined ? "User" : GroupName !== undefined ? "Group" : "Role";
      return [{ action: `iam:${name}${kind}Policy`, resource: found }];
    },
    run: async ({ PolicyArn, UserName, RoleName = "", GroupName }, { user, role, group, ...found }, call) => {
      if (UserName !== undefined) existingUser({ ...found, user }, UserName);
      else if (GroupName !== undefined) existingGroup({ ...found, group });
      else existingRole({ ...found, role }, RoleName);
      await call.transaction((tx) => change(tx, found.arn, PolicyArn));
      return {};
    },
  });
}

/** Source: IAM API reference, AttachUserPolicy, AttachRolePolicy, AttachGroupPolicy. */
export const attachPolicyOperation = attachmentOperation(
  "Attach",
  "Gives a user, a role or a group the rights of a policy; again changes nothing.",
  async (tx, principalArn, policyArn) => {
    if (!(await findPolicy(tx, policyArn))) throw unknownPolicy(policyArn);
    await attachPolicy(tx, principalArn, policyArn);
  },
);

/** Source: IAM API reference, DetachUserPolicy, DetachRolePolicy, DetachGroupPolicy. */
export const detachPolicyOperation = attachmentOperation(
  "Detach",
  "Takes a policy from a user, a role or a group, from the next request on.",
  async (tx, principalArn, policyArn) => {
    if (!(await detachPolicy(tx, principalArn, policyArn))) {
      throw new ServiceError("ResourceNotFoundException", `Policy ${policyArn} was not found attached.`);
    }
  },
);
