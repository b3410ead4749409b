import { z } from "zod";
import { accessRoles, roleNames } from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { userArn } from "../../core/identity.ts";
import { workplaceArn } from "../../core/rekey-arn.ts";
import { logActivity } from "../../store/activity.ts";
import { findUserOrId, type User } from "../../store/identity.ts";
import { listPeople, setWorkplaceRole } from "../../store/service-accounts.ts";
import { paging, readPage } from "../configs/paging.ts";
import { userResource } from "../identity/principal-resource.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { actor } from "./access-input.ts";

/** Its id or its name. */
const userId = z.string().min(1).max(64);
const ofUser = z.object({ Id: userId });
const listInput = z.object({ ...paging, Name: z.string().min(1).max(64).optional() });
const roleInput = z.object({ Id: userId, Role: z.enum(accessRoles) });

/** A person as authorization sees it, whether there is one or not. */
interface PersonResource extends Resource {
  readonly person: User | undefined;
}

async function personResource({ Id }: { Id: string }, call: Call): Promise<PersonResource> {
  const user = await findUserOrId(call.sql, Id);
  const found = await userResource({ UserName: user?.name ?? Id }, call);
  return { ...found, shown: `user ${Id}`, person: user?.kind === "person" ? user : undefined };
}

/** @throws ServiceError ResourceNotFoundException */
function existingPerson(person: User | undefined, id: string): User {
  if (!person) throw new ServiceError("ResourceNotFoundException", `There is no user ${id}.`);
  return person;
}

const shown = ({ id, name, arn, role, createdAt }: User) => ({
  Id: id,
  Name: name,
  Arn: arn,
  Role: role ?? "no_access",
  CreatedAt: new Date(createdAt),
});

const listWorkplaceUsers = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListWorkplaceUsers",
  action: "iam:ListUsers",
  noun: "workplace-users",
  verb: "list",
  mode: "read",
  summary: "Lists users that are no service accounts, with their roles in the deployment; with a name, that one if it is there.",
  input: listInput,
  resource: (_input, { account }) => ({ arn: userArn(account, ""), context: {} }),
  async run(request, _found, { sql }) {
    if (request.Name !== undefined) {
      const user = await findUserOrId(sql, request.Name);
      return { Users: user?.kind === "person" ? [shown(user)] : [] };
    }
    const { rows, ...next } = await readPage(request, {
      scope: "workplace-users",
      fetch: ({ after = "", skip, limit }) => listPeople(sql, { after, skip, limit }),
      key: ({ name }) => name,
    });
    return { Users: rows.map(shown), ...next };
  },
});

const getWorkplaceUser = defineOperation<z.infer<typeof ofUser>, PersonResource>({
  name: "GetWorkplaceUser",
  action: "iam:GetUser",
  noun: "workplace-users",
  verb: "get",
  mode: "read",
  summary: "Shows a user with the role in the deployment.",
  input: ofUser,
  resource: personResource,
  run: async ({ Id }, { person }) => ({ User: shown(existingPerson(person, Id)) }),
});

/** On the deployment, as for service accounts: a role gives all its rights. */
const setWorkplaceUserRole = defineOperation<z.infer<typeof roleInput>, PersonResource>({
  name: "SetWorkplaceUserRole",
  action: "rekey:SetWorkplaceRole",
  noun: "workplace-users",
  verb: "set-role",
  mode: "write",
  summary: "Gives a user a role in the deployment, in place of the one before; what policies allow stays.",
  input: roleInput,
  async resource(input, call) {
    const [arn, { person }] = [workplaceArn(call.services), await personResource(input, call)];
    return { arn, shown: arn, context: {}, person };
  },
  async run({ Id, Role }, { person }, call) {
    const user = existingPerson(person, Id);
    await call.transaction(async (tx) => {
      if (!(await setWorkplaceRole(tx, user.id, Role))) existingPerson(undefined, Id);
      await logActivity(tx, { ...actor(call), text: `made ${user.name} ${roleNames[Role]}` });
    });
    return { User: shown({ ...user, role: Role }) };
  },
});

export const workplaceUserOperations: readonly Operation[] = [listWorkplaceUsers, getWorkplaceUser, setWorkplaceUserRole];
