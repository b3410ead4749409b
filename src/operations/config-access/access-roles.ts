import { z } from "zod";
import {
  type AccessRole,
  accessRoles,
  isAccessRole,
  projectActions,
  roleNames,
  workplaceActions,
} from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { workplaceArn } from "../../core/rekey-arn.ts";
import { type Call, defineOperation, type Operation, type Permission, type Resource } from "../operation.ts";

const scope = z.enum(["workplace", "project"]);
const actionsIn = { workplace: workplaceActions, project: projectActions } as const;

/** A role with what it allows there: in the whole deployment, or in one project. */
export const shownRole = (role: AccessRole, where: z.infer<typeof scope>) => ({
  Identifier: role,
  Name: roleNames[role],
  Permissions: actionsIn[where](role),
});

/** Who gives a role in the whole deployment gives all its rights: that is a permission apart. */
export function workplaceRolePermission(role: unknown, call: Call): readonly Permission[] {
  if (role === undefined) return [];
  const arn = workplaceArn(call.services);
  return [{ action: "rekey:SetWorkplaceRole", resource: { arn, shown: arn, context: {} } }];
}

const listInput = z.object({ Scope: scope });
const getInput = z.object({ Scope: scope, Identifier: z.string().min(1).max(64) });
const anywhere = (): Resource => ({ arn: "*", context: {} });

const listAccessRoles = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListAccessRoles",
  noun: "access-roles",
  verb: "list",
  mode: "read",
  summary: "Lists the roles that users, service accounts and groups may have, with the actions that they allow.",
  input: listInput,
  resource: anywhere,
  run: async ({ Scope }) => ({ Roles: accessRoles.map((role) => shownRole(role, Scope)) }),
});

const getAccessRole = defineOperation<z.infer<typeof getInput>, Resource>({
  name: "GetAccessRole",
  noun: "access-roles",
  verb: "get",
  mode: "read",
  summary: "Shows one of the roles that users, service accounts and groups may have.",
  input: getInput,
  resource: anywhere,
  async run({ Scope, Identifier }) {
    if (isAccessRole(Identifier)) return { Role: shownRole(Identifier, Scope) };
    throw new ServiceError("ResourceNotFoundException", `There is no role ${Identifier}: roles are ${accessRoles.join(", ")}.`);
  },
});

export const accessRoleOperations: readonly Operation[] = [listAccessRoles, getAccessRole];
