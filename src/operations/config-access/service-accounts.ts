import { randomBytes } from "node:crypto";
import { z } from "zod";
import { type AccessRole, isAccessRole, roleNames } from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { identityId, userArn } from "../../core/identity.ts";
import { logActivity } from "../../store/activity.ts";
import { createUser, deleteUser, type User } from "../../store/identity.ts";
import { attachedPolicyArns } from "../../store/policies.ts";
import { memberships } from "../../store/project-members.ts";
import { listServiceAccounts, setWorkplaceRole } from "../../store/service-accounts.ts";
import { paging, readPage } from "../configs/paging.ts";
import { userName } from "../identity/identity-input.ts";
import { defineOperation, type Operation, type Resource } from "../operation.ts";
import { actor } from "./access-input.ts";
import { shownRole, workplaceRolePermission } from "./access-roles.ts";
import { type AccountResource, accountName, accountResource, existingAccount } from "./account-resource.ts";
import { shownProjectRole } from "./member-input.ts";

const role = z.object({
  Identifier: z.string().min(1).max(64).optional(),
  Permissions: z.array(z.string().max(128)).max(100).optional(),
});
const ofAccount = z.object({ Id: accountName });
const createInput = z.object({ Name: userName, WorkplaceRole: role.optional() });
const updateInput = z.object({ Id: accountName, Name: userName.optional(), WorkplaceRole: role.optional() });
const listInput = z.object(paging);

interface WithRole {
  readonly WorkplaceRole?: z.infer<typeof role> | undefined;
}

/** @throws ServiceError ValidationException */
function checkRole({ WorkplaceRole }: WithRole): void {
  if (WorkplaceRole === undefined) return;
  const { Identifier, Permissions } = WorkplaceRole;
  if (Identifier === undefined || !isAccessRole(Identifier) || Permissions !== undefined) {
    const known = Object.keys(roleNames).join(", ");
    throw new ServiceError("ValidationException", `WorkplaceRole.Identifier must be one of ${known}; finer rights are policies.`);
  }
}

const roleIn = ({ WorkplaceRole }: WithRole): AccessRole | undefined => WorkplaceRole?.Identifier as AccessRole | undefined;

const shown = ({ id, name, arn, role: given, createdAt }: User) => ({
  Id: id,
  Name: name,
  Arn: arn,
  CreatedAt: new Date(createdAt),
  ...(given && { WorkplaceRole: shownRole(given, "workplace") }),
});

const createServiceAccount = defineOperation<z.infer<typeof createInput>, AccountResource>({
  name: "CreateServiceAccount",
  action: "rekey:CreateServiceAccount",
  noun: "service-accounts",
  verb: "create",
  mode: "write",
  summary: "Makes a user that stands for programs. Policies and roles in projects give it rights.",
  input: createInput,
  check: checkRole,
  resource: ({ Name }, call) => accountResource(Name, call),
  permissions: (input, _found, call) => workplaceRolePermission(input.WorkplaceRole, call),
  async run(input, _found, call) {
    const user = { id: identityId("AIDA", randomBytes), name: input.Name, createdAt: call.services.now() };
    const made = await call.transaction(async (tx) => {
      const account = await createUser(tx, call.account, { ...user, kind: "service_account", role: roleIn(input) ?? null });
      await logActivity(tx, { ...actor(call), text: `created service account ${account.name}` });
      return account;
    });
    return { ServiceAccount: shown(made) };
  },
});

const listServiceAccountsOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListServiceAccounts",
  action: "rekey:ListServiceAccounts",
  noun: "service-accounts",
  verb: "list",
  mode: "read",
  summary: "Lists service accounts by name.",
  input: listInput,
  resource: (_input, { account }) => ({ arn: userArn(account, "*"), context: {} }),
  async run(request, _found, { sql }) {
    const { rows, ...next } = await readPage(request, {
      scope: "service-accounts",
      fetch: ({ after = "", skip, limit }) => listServiceAccounts(sql, { after, skip, limit }),
      key: ({ name }) => name,
    });
    return { ServiceAccounts: rows.map(shown), ...next };
  },
});

const getServiceAccount = defineOperation<z.infer<typeof ofAccount>, AccountResource>({
  name: "GetServiceAccount",
  action: "rekey:GetServiceAccount",
  noun: "service-accounts",
  verb: "get",
  mode: "read",
  summary: "Shows a service account with its policies and its roles in projects.",
  input: ofAccount,
  resource: ({ Id }, call) => accountResource(Id, call),
  async run(_input, found, { sql }) {
    const account = existingAccount(found);
    const members = await memberships(sql, account.arn);
    return {
      ServiceAccount: {
        ...shown(account),
        AttachedPolicyArns: await attachedPolicyArns(sql, account.arn),
        ProjectRoles: members.map(shownProjectRole),
      },
    };
  },
});

const updateServiceAccount = defineOperation<z.infer<typeof updateInput>, AccountResource>({
  name: "UpdateServiceAccount",
  action: "rekey:UpdateServiceAccount",
  noun: "service-accounts",
  verb: "update",
  mode: "write",
  summary: "Gives a service account another role in the deployment; its name stays, policies know it by that.",
  input: updateInput,
  check: checkRole,
  resource: ({ Id }, call) => accountResource(Id, call),
  permissions: (input, _found, call) => workplaceRolePermission(input.WorkplaceRole, call),
  async run(input, found, call) {
    const account = existingAccount(found);
    if (input.Name !== undefined && input.Name !== account.name)
      throw new ServiceError(
        "ValidationException",
        "A service account keeps its name, by which policies know it; make another one.",
      );
    const given = roleIn(input);
    if (given === undefined) return { ServiceAccount: shown(account) };
    await call.transaction(async (tx) => {
      if (!(await setWorkplaceRole(tx, account.id, given))) existingAccount({ ...found, account: undefined });
      await logActivity(tx, { ...actor(call), text: `made service account ${account.name} ${roleNames[given]}` });
    });
    return { ServiceAccount: shown({ ...account, role: given }) };
  },
});

const deleteServiceAccount = defineOperation<z.infer<typeof ofAccount>, AccountResource>({
  name: "DeleteServiceAccount",
  action: "rekey:DeleteServiceAccount",
  noun: "service-accounts",
  verb: "delete",
  mode: "write",
  summary: "Removes a service account with its tokens, keys, OIDC identities and rights.",
  input: ofAccount,
  resource: ({ Id }, call) => accountResource(Id, call),
  async run(_input, found, call) {
    const account = existingAccount(found);
    await call.transaction(async (tx) => {
      await deleteUser(tx, account);
      await logActivity(tx, { ...actor(call), text: `deleted service account ${account.name}` });
    });
    return {};
  },
});

export const serviceAccountOperations: readonly Operation[] = [
  createServiceAccount,
  listServiceAccountsOperation,
  getServiceAccount,
  updateServiceAccount,
  deleteServiceAccount,
];
