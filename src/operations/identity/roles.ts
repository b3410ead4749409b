import { randomBytes } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { identityId, roleArn } from "../../core/identity.ts";
import { parsePolicy } from "../../core/policy.ts";
import {
  createRole,
  deleteRole,
  listRoles,
  principalTags,
  type Role,
  setTrustPolicy,
  tagPrincipal,
  untagPrincipal,
} from "../../store/identity.ts";
import { attachedPolicyArns } from "../../store/policies.ts";
import { defineOperation } from "../operation.ts";
import {
  checkTags,
  description,
  pageAfter,
  paging,
  policyDocument,
  requestTagContext,
  roleName,
  tagKey,
  tags,
  toPage,
  toRecord,
  toTags,
} from "./identity-input.ts";
import { existingRole, type RoleResource, roleResource } from "./principal-resource.ts";

const shown = ({ id, name, arn, description, maxSessionSeconds, createdAt }: Role) => ({
  RoleName: name,
  RoleId: id,
  Arn: arn,
  ...(description === undefined ? {} : { Description: description }),
  MaxSessionDuration: maxSessionSeconds,
  CreateDate: new Date(createdAt),
});

const named = z.object({ RoleName: roleName });
const createInput = z.object({
  RoleName: roleName,
  AssumeRolePolicyDocument: policyDocument,
  Description: description,
  MaxSessionDuration: z.number().int().min(3600).max(43_200).default(3600),
  Tags: tags.optional(),
});

/** Source: IAM API reference, CreateRole. */
export const createRoleOperation = defineOperation<z.infer<typeof createInput>, RoleResource>({
  name: "CreateRole",
  action: "iam:CreateRole",
  noun: "roles",
  verb: "create",
  mode: "write",
  summary: "Makes a role without rights; the trust policy says who may assume it.",
  input: createInput,
  check: ({ Tags }) => checkTags(Tags),
  resource: (input, call) => roleResource(input, call, requestTagContext(input.Tags)),
  permissions: ({ Tags = [] }, found) => (Tags.length === 0 ? [] : [{ action: "iam:TagRole", resource: found }]),
  run: async ({ Tags = [], ...input }, _found, call) => {
    parsePolicy(input.AssumeRolePolicyDocument, "trust");
    return call.transaction(async (tx) => {
      const role = await createRole(tx, call.account, {
        id: identityId("AROA", randomBytes),
        name: input.RoleName,
        trustPolicy: input.AssumeRolePolicyDocument,
        maxSessionSeconds: input.MaxSessionDuration,
        description: input.Description,
        createdAt: call.services.now(),
      });
      if (Tags.length > 0) await tagPrincipal(tx, role.arn, toRecord(Tags));
      return { ...shown(role), Tags };
    });
  },
});

const listInput = z.object(paging);

/** Source: IAM API reference, ListRoles. */
export const listRolesOperation = defineOperation<z.infer<typeof listInput>, { arn: string; context: Record<string, never> }>({
  name: "ListRoles",
  action: "iam:ListRoles",
  noun: "roles",
  verb: "list",
  mode: "read",
  summary: "Lists roles by name.",
  input: listInput,
  resource: (_input, call) => ({ arn: roleArn(call.account, ""), context: {} }),
  run: async ({ MaxResults, NextToken }, _found, { sql }) => {
    const roles = await listRoles(sql, { after: pageAfter(NextToken), limit: MaxResults + 1 });
    const { rows, ...next } = toPage(roles, MaxResults, (role) => role.name);
    return { Roles: rows.map(shown), ...next };
  },
});

/** Source: IAM API reference, GetRole, ListAttachedRolePolicies. */
export const getRoleOperation = defineOperation<z.infer<typeof named>, RoleResource>({
  name: "GetRole",
  action: "iam:GetRole",
  noun: "roles",
  verb: "get",
  mode: "read",
  summary: "Shows a role with its trust policy, tags and attached policies.",
  input: named,
  resource: roleResource,
  run: async ({ RoleName }, found, { sql }) => {
    const role = existingRole(found, RoleName);
    return {
      ...shown(role),
      AssumeRolePolicyDocument: role.trustPolicy,
      Tags: toTags(await principalTags(sql, role.arn)),
      AttachedPolicyArns: await attachedPolicyArns(sql, role.arn),
    };
  },
});

const trustInput = z.object({ RoleName: roleName, PolicyDocument: policyDocument });

/** Source: IAM API reference, UpdateAssumeRolePolicy. */
export const setTrustOperation = defineOperation<z.infer<typeof trustInput>, RoleResource>({
  name: "UpdateAssumeRolePolicy",
  action: "iam:UpdateAssumeRolePolicy",
  noun: "roles",
  verb: "set-trust",
  mode: "write",
  summary: "Replaces the policy that says who may assume the role. Sessions made before go on.",
  input: trustInput,
  resource: roleResource,
  run: async ({ RoleName, PolicyDocument }, found, call) => {
    existingRole(found, RoleName);
    parsePolicy(PolicyDocument, "trust");
    const done = await call.transaction((tx) => setTrustPolicy(tx, RoleName, PolicyDocument));
    if (!done) throw new ServiceError("ResourceNotFoundException", `The role with name ${RoleName} cannot be found.`);
    return {};
  },
});

const tagInput = z.object({ RoleName: roleName, Tags: tags.min(1) });

/** Source: IAM API reference, TagRole. */
export const tagRoleOperation = defineOperation<z.infer<typeof tagInput>, RoleResource>({
  name: "TagRole",
  action: "iam:TagRole",
  noun: "roles",
  verb: "tag",
  mode: "write",
  summary: "Adds tags to a role, or changes their values; policies read them as aws:PrincipalTag.",
  input: tagInput,
  check: ({ Tags }) => checkTags(Tags),
  resource: (input, call) => roleResource(input, call, requestTagContext(input.Tags)),
  run: async ({ RoleName, Tags }, found, call) => {
    const { arn } = existingRole(found, RoleName);
    await call.transaction((tx) => tagPrincipal(tx, arn, toRecord(Tags)));
    return {};
  },
});

const untagInput = z.object({ RoleName: roleName, TagKeys: z.array(tagKey).min(1).max(50) });

/** Source: IAM API reference, UntagRole. */
export const untagRoleOperation = defineOperation<z.infer<typeof untagInput>, RoleResource>({
  name: "UntagRole",
  action: "iam:UntagRole",
  noun: "roles",
  verb: "untag",
  mode: "write",
  summary: "Removes tags from a role.",
  input: untagInput,
  resource: (input, call) => roleResource(input, call, { "aws:TagKeys": input.TagKeys }),
  run: async ({ RoleName, TagKeys }, found, call) => {
    const { arn } = existingRole(found, RoleName);
    await call.transaction((tx) => untagPrincipal(tx, arn, TagKeys));
    return {};
  },
});

/** Source: IAM API reference, DeleteRole; here its attachments go with it, and its sessions end. */
export const deleteRoleOperation = defineOperation<z.infer<typeof named>, RoleResource>({
  name: "DeleteRole",
  action: "iam:DeleteRole",
  noun: "roles",
  verb: "delete",
  mode: "write",
  summary: "Removes a role with its tags and policy attachments; its sessions end at once.",
  input: named,
  resource: roleResource,
  run: async ({ RoleName }, found, call) => {
    const role = existingRole(found, RoleName);
    await call.transaction((tx) => deleteRole(tx, role));
    return {};
  },
});
