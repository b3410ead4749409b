import { randomBytes } from "node:crypto";
import { z } from "zod";
import { identityId, userArn } from "../../core/identity.ts";
import { groupsOf } from "../../store/group-members.ts";
import {
  createUser,
  deleteUser,
  listUsers,
  principalTags,
  tagPrincipal,
  type User,
  untagPrincipal,
} from "../../store/identity.ts";
import { attachedPolicyArns } from "../../store/policies.ts";
import { memberships } from "../../store/project-members.ts";
import { shownProjectRole } from "../config-access/member-input.ts";
import { defineOperation } from "../operation.ts";
import {
  checkTags,
  pageAfter,
  paging,
  requestTagContext,
  tagKey,
  tags,
  toPage,
  toRecord,
  toTags,
  userName,
} from "./identity-input.ts";
import { existingUser, type UserResource, userResource } from "./principal-resource.ts";

const shown = ({ id, name, arn, createdAt }: User) => ({
  UserName: name,
  UserId: id,
  Arn: arn,
  CreateDate: new Date(createdAt),
});

const named = z.object({ UserName: userName });
const createInput = z.object({ UserName: userName, Tags: tags.optional() });

/** Source: IAM API reference, CreateUser. */
export const createUserOperation = defineOperation<z.infer<typeof createInput>, UserResource>({
  name: "CreateUser",
  action: "iam:CreateUser",
  noun: "users",
  verb: "create",
  mode: "write",
  summary: "Makes a user without any rights, key or token.",
  input: createInput,
  check: ({ Tags }) => checkTags(Tags),
  resource: (input, call) => userResource(input, call, requestTagContext(input.Tags)),
  permissions: ({ Tags = [] }, found) => (Tags.length === 0 ? [] : [{ action: "iam:TagUser", resource: found }]),
  run: ({ UserName, Tags = [] }, _found, call) =>
    call.transaction(async (tx) => {
      const id = identityId("AIDA", randomBytes);
      const user = await createUser(tx, call.account, { id, name: UserName, createdAt: call.services.now() });
      if (Tags.length > 0) await tagPrincipal(tx, user.arn, toRecord(Tags));
      return { ...shown(user), Tags };
    }),
});

/** Source: IAM API reference, GetUser, ListAttachedUserPolicies, ListGroupsForUser. */
export const getUserOperation = defineOperation<z.infer<typeof named>, UserResource>({
  name: "GetUser",
  action: "iam:GetUser",
  noun: "users",
  verb: "get",
  mode: "read",
  summary: "Shows a user with its tags, attached policies, groups and roles.",
  input: named,
  resource: userResource,
  run: async ({ UserName }, found, { sql }) => {
    const user = existingUser(found, UserName);
    return {
      ...shown(user),
      Tags: toTags(await principalTags(sql, user.arn)),
      AttachedPolicyArns: await attachedPolicyArns(sql, user.arn),
      ...(user.role && { Role: user.role }),
      Groups: (await groupsOf(sql, user.arn)).map(({ name }) => name),
      ProjectRoles: (await memberships(sql, user.arn)).map(shownProjectRole),
    };
  },
});

const listInput = z.object(paging);

/** Source: IAM API reference, ListUsers. */
export const listUsersOperation = defineOperation<z.infer<typeof listInput>, { arn: string; context: Record<string, never> }>({
  name: "ListUsers",
  action: "iam:ListUsers",
  noun: "users",
  verb: "list",
  mode: "read",
  summary: "Lists users by name.",
  input: listInput,
  resource: (_input, call) => ({ arn: userArn(call.account, ""), context: {} }),
  run: async ({ MaxResults, NextToken }, _found, { sql }) => {
    const users = await listUsers(sql, { after: pageAfter(NextToken), limit: MaxResults + 1 });
    const { rows, ...next } = toPage(users, MaxResults, (user) => user.name);
    return { Users: rows.map(shown), ...next };
  },
});

const tagInput = z.object({ UserName: userName, Tags: tags.min(1) });

/** Source: IAM API reference, TagUser. */
export const tagUserOperation = defineOperation<z.infer<typeof tagInput>, UserResource>({
  name: "TagUser",
  action: "iam:TagUser",
  noun: "users",
  verb: "tag",
  mode: "write",
  summary: "Adds tags to a user, or changes their values; policies read them as aws:PrincipalTag.",
  input: tagInput,
  check: ({ Tags }) => checkTags(Tags),
  resource: (input, call) => userResource(input, call, requestTagContext(input.Tags)),
  run: async ({ UserName, Tags }, found, call) => {
    const { arn } = existingUser(found, UserName);
    await call.transaction((tx) => tagPrincipal(tx, arn, toRecord(Tags)));
    return {};
  },
});

const untagInput = z.object({ UserName: userName, TagKeys: z.array(tagKey).min(1).max(50) });

/** Source: IAM API reference, UntagUser. */
export const untagUserOperation = defineOperation<z.infer<typeof untagInput>, UserResource>({
  name: "UntagUser",
  action: "iam:UntagUser",
  noun: "users",
  verb: "untag",
  mode: "write",
  summary: "Removes tags from a user.",
  input: untagInput,
  resource: (input, call) => userResource(input, call, { "aws:TagKeys": input.TagKeys }),
  run: async ({ UserName, TagKeys }, found, call) => {
    const { arn } = existingUser(found, UserName);
    await call.transaction((tx) => untagPrincipal(tx, arn, TagKeys));
    return {};
  },
});

/** Source: IAM API reference, DeleteUser; here its keys, tokens and attachments go with it. */
export const deleteUserOperation = defineOperation<z.infer<typeof named>, UserResource>({
  name: "DeleteUser",
  action: "iam:DeleteUser",
  noun: "users",
  verb: "delete",
  mode: "write",
  summary: "Removes a user with its access keys, tokens, tags and policy attachments.",
  input: named,
  resource: userResource,
  run: async ({ UserName }, found, call) => {
    const user = existingUser(found, UserName);
    await call.transaction((tx) => deleteUser(tx, user));
    return {};
  },
});
