import { randomBytes } from "node:crypto";
import { z } from "zod";
import { accessRoles } from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { groupArn, identityId, identityLimits } from "../../core/identity.ts";
import { logActivity } from "../../store/activity.ts";
import { type Group, groupUsers } from "../../store/group-members.ts";
import { createGroup, deleteGroup, findGroup, listGroups, updateGroup } from "../../store/groups.ts";
import { attachedPolicyArns } from "../../store/policies.ts";
import { memberships } from "../../store/project-members.ts";
import { actor } from "../config-access/access-input.ts";
import { workplaceRolePermission } from "../config-access/access-roles.ts";
import { shownProjectRole } from "../config-access/member-input.ts";
import { paging, readPage } from "../configs/paging.ts";
import { defineOperation, type Operation, type Resource } from "../operation.ts";
import { existingGroup, type GroupResource, groupName, groupResource, namedGroup } from "./group-input.ts";

const roles = {
  /** In the whole deployment. */
  Role: z.enum(accessRoles).optional(),
  /** Null takes it away. */
  DefaultProjectRole: z.enum(accessRoles).nullable().optional(),
};
const createInput = z.object({ GroupName: groupName, ...roles });
const updateInput = z.object({ GroupName: namedGroup, NewGroupName: z.string().min(1).max(128).optional(), ...roles });
const ofGroup = z.object({ GroupName: namedGroup });
const listInput = z.object({ ...paging, GroupName: namedGroup.optional() });

const shown = ({ id, name, arn, role, defaultProjectRole, createdAt }: Group) => ({
  GroupId: id,
  GroupName: name,
  Arn: arn,
  ...(role && { Role: role }),
  ...(defaultProjectRole && { DefaultProjectRole: defaultProjectRole }),
  CreateDate: new Date(createdAt),
});

/** Source: IAM API reference, CreateGroup. */
const createGroupOperation = defineOperation<z.infer<typeof createInput>, GroupResource>({
  name: "CreateGroup",
  action: "iam:CreateGroup",
  noun: "groups",
  verb: "create",
  mode: "write",
  summary: "Makes a group: users in it have its policies and roles beside their own.",
  input: createInput,
  resource: groupResource,
  permissions: ({ Role }, _found, call) => workplaceRolePermission(Role, call),
  async run({ GroupName, Role = null, DefaultProjectRole = null }, _found, call) {
    const id = identityId("AGPA", randomBytes);
    const group = { id, name: GroupName, role: Role, defaultProjectRole: DefaultProjectRole, createdAt: call.services.now() };
    const made = await call.transaction(async (tx) => {
      const created = await createGroup(tx, call.account, group);
      await logActivity(tx, { ...actor(call), text: `created group ${GroupName}` });
      return created;
    });
    return { Group: shown(made) };
  },
});

/** Source: IAM API reference, GetGroup, ListAttachedGroupPolicies. */
const getGroupOperation = defineOperation<z.infer<typeof ofGroup>, GroupResource>({
  name: "GetGroup",
  action: "iam:GetGroup",
  noun: "groups",
  verb: "get",
  mode: "read",
  summary: "Shows a group with its users, its policies and its roles in projects.",
  input: ofGroup,
  resource: groupResource,
  async run(_input, found, { sql }) {
    const group = existingGroup(found);
    const users = await groupUsers(sql, group.id, { after: "", limit: identityLimits.usersPerGroup });
    const projects = await memberships(sql, group.arn);
    return {
      Group: shown(group),
      Users: users.map(({ id, name, kind }) => ({ UserId: id, UserName: name, Kind: kind })),
      AttachedPolicyArns: await attachedPolicyArns(sql, group.arn),
      ProjectRoles: projects.map(shownProjectRole),
    };
  },
});

/** Source: IAM API reference, ListGroups. */
const listGroupsOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListGroups",
  action: "iam:ListGroups",
  noun: "groups",
  verb: "list",
  mode: "read",
  summary: "Lists groups by name; with a name, that one if it is there.",
  input: listInput,
  resource: (_input, { account }) => ({ arn: groupArn(account, "*"), context: {} }),
  async run(request, _found, { sql }) {
    if (request.GroupName !== undefined) {
      const group = await findGroup(sql, request.GroupName);
      return { Groups: group ? [shown(group)] : [] };
    }
    const { rows, ...next } = await readPage(request, {
      scope: "groups",
      fetch: ({ after = "", skip, limit }) => listGroups(sql, { after, skip, limit }),
      key: ({ name }) => name,
    });
    return { Groups: rows.map(shown), ...next };
  },
});

/** Source: IAM API reference, UpdateGroup; here it changes roles, and a group keeps its name. */
const updateGroupOperation = defineOperation<z.infer<typeof updateInput>, GroupResource>({
  name: "UpdateGroup",
  action: "iam:UpdateGroup",
  noun: "groups",
  verb: "update",
  mode: "write",
  summary:
    "Gives a group another role in the deployment, or another default role in projects; its name stays, policies know it by that.",
  input: updateInput,
  resource: groupResource,
  permissions: ({ Role }, _found, call) => workplaceRolePermission(Role, call),
  async run({ NewGroupName, Role, DefaultProjectRole }, found, call) {
    const group = existingGroup(found);
    if (NewGroupName !== undefined && NewGroupName !== group.name)
      throw new ServiceError("ValidationException", "A group keeps its name, by which policies know it; make another one.");
    const after: Group = {
      ...group,
      role: Role ?? group.role,
      defaultProjectRole: DefaultProjectRole === undefined ? group.defaultProjectRole : DefaultProjectRole,
    };
    await call.transaction(async (tx) => {
      if (!(await updateGroup(tx, after))) existingGroup({ ...found, group: undefined });
      await logActivity(tx, { ...actor(call), text: `changed group ${group.name}` });
    });
    return { Group: shown(after) };
  },
});

/** Source: IAM API reference, DeleteGroup; here what it has goes with it. */
const deleteGroupOperation = defineOperation<z.infer<typeof ofGroup>, GroupResource>({
  name: "DeleteGroup",
  action: "iam:DeleteGroup",
  noun: "groups",
  verb: "delete",
  mode: "write",
  summary: "Removes a group; its users stay, without what they had through it.",
  input: ofGroup,
  resource: groupResource,
  async run(_input, found, call) {
    const group = existingGroup(found);
    await call.transaction(async (tx) => {
      await deleteGroup(tx, group);
      await logActivity(tx, { ...actor(call), text: `deleted group ${group.name}` });
    });
    return {};
  },
});

export const groupOperations: readonly Operation[] = [
  createGroupOperation,
  getGroupOperation,
  listGroupsOperation,
  updateGroupOperation,
  deleteGroupOperation,
];
