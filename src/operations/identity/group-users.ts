import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { identityLimits } from "../../core/identity.ts";
import { logActivity } from "../../store/activity.ts";
import { addToGroup, type Group, groupUsers, isInGroup, removeFromGroup } from "../../store/group-members.ts";
import { raiseIdentityVersion, type User } from "../../store/identity.ts";
import type { Sql } from "../../store/sql.ts";
import { actor } from "../config-access/access-input.ts";
import { paging, readPage } from "../configs/paging.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import {
  existingGroup,
  existingUserNamed,
  type GroupResource,
  groupResource,
  namedGroup,
  namedUser,
  userType,
} from "./group-input.ts";

const membership = { GroupName: namedGroup, UserName: namedUser, Type: userType };
const ofMembership = z.object(membership);
/** `OnlyNew`: refuse who is in it already. */
const addInput = z.object({ ...membership, OnlyNew: z.boolean().default(false) });
const listInput = z.object({ ...paging, GroupName: namedGroup });
const setInput = z.object({ GroupName: namedGroup, UserNames: z.array(namedUser).max(identityLimits.usersPerGroup) });

const shown = ({ id, name, kind }: User) => ({ UserId: id, UserName: name, Kind: kind });

function notIn(name: string, group: Group): ServiceError {
  return new ServiceError("ResourceNotFoundException", `User ${name} is not in group ${group.name}.`);
}

/** First of all, so that changes pass one at a time and limits hold. @throws ServiceError ResourceNotFoundException */
async function begin(tx: Sql, found: GroupResource): Promise<Group> {
  await raiseIdentityVersion(tx);
  const group = existingGroup(found);
  const [there] = await tx.query("select 1 as found from user_groups where id = $1", [group.id]);
  return existingGroup({ ...found, group: there && group });
}

async function add(tx: Sql, call: Call, group: Group, user: User): Promise<boolean> {
  if (!(await addToGroup(tx, group, user.arn, call.services.now()))) return false;
  await logActivity(tx, { ...actor(call), text: `put ${user.name} into group ${group.name}` });
  return true;
}

async function remove(tx: Sql, call: Call, group: Group, user: User): Promise<boolean> {
  if (!(await removeFromGroup(tx, group.id, user.arn))) return false;
  await logActivity(tx, { ...actor(call), text: `took ${user.name} out of group ${group.name}` });
  return true;
}

/** Source: IAM API reference, AddUserToGroup. */
const addUser = defineOperation<z.infer<typeof addInput>, GroupResource>({
  name: "AddUserToGroup",
  action: "iam:AddUserToGroup",
  noun: "groups",
  verb: "add-user",
  mode: "write",
  summary: "Puts a user into a group, whose policies and roles then count for it, from the next request on.",
  input: addInput,
  resource: groupResource,
  async run({ UserName, Type, OnlyNew }, found, call) {
    existingGroup(found);
    const user = await existingUserNamed(call, UserName, Type);
    await call.transaction(async (tx) => {
      const group = await begin(tx, found);
      if (!(await add(tx, call, group, user)) && OnlyNew)
        throw new ServiceError("ResourceExistsException", `User ${user.name} is in group ${group.name} already.`);
    });
    return {};
  },
});

/** Source: IAM API reference, RemoveUserFromGroup. */
const removeUser = defineOperation<z.infer<typeof ofMembership>, GroupResource>({
  name: "RemoveUserFromGroup",
  action: "iam:RemoveUserFromGroup",
  noun: "groups",
  verb: "remove-user",
  mode: "write",
  summary: "Takes a user out of a group, and with that what it had through it, from the next request on.",
  input: ofMembership,
  resource: groupResource,
  async run({ UserName, Type }, found, call) {
    existingGroup(found);
    const user = await existingUserNamed(call, UserName, Type);
    await call.transaction(async (tx) => {
      const group = await begin(tx, found);
      if (!(await remove(tx, call, group, user))) throw notIn(user.name, group);
    });
    return {};
  },
});

const getUser = defineOperation<z.infer<typeof ofMembership>, GroupResource>({
  name: "GetGroupUser",
  action: "iam:GetGroup",
  noun: "groups",
  verb: "get-user",
  mode: "read",
  summary: "Tells whether a user is in a group.",
  input: ofMembership,
  resource: groupResource,
  async run({ UserName, Type }, found, call) {
    const group = existingGroup(found);
    const user = await existingUserNamed(call, UserName, Type);
    if (!(await isInGroup(call.sql, group.id, user.arn))) throw notIn(user.name, group);
    return { User: shown(user) };
  },
});

const listUsers = defineOperation<z.infer<typeof listInput>, GroupResource>({
  name: "ListGroupUsers",
  action: "iam:GetGroup",
  noun: "groups",
  verb: "list-users",
  mode: "read",
  summary: "Lists the users of a group by name.",
  input: listInput,
  resource: groupResource,
  async run(request, found, { sql }) {
    const group = existingGroup(found);
    const { rows, ...next } = await readPage(request, {
      scope: `users of ${group.id}`,
      fetch: ({ after = "", skip, limit }) => groupUsers(sql, group.id, { after, skip, limit }),
      key: ({ name }) => name,
    });
    return { Users: rows.map(shown), ...next };
  },
});

const setUsers = defineOperation<z.infer<typeof setInput>, GroupResource>({
  name: "SetGroupUsers",
  action: "iam:AddUserToGroup",
  noun: "groups",
  verb: "set-users",
  mode: "write",
  summary: "Makes these the users of a group, all of them or none: who is not named is taken out.",
  input: setInput,
  resource: groupResource,
  permissions: (_input, found) => [{ action: "iam:RemoveUserFromGroup", resource: found }],
  async run({ UserNames }, found, call) {
    existingGroup(found);
    const wanted = new Map<string, User>();
    for (const name of UserNames) {
      const user = await existingUserNamed(call, name);
      wanted.set(user.arn, user);
    }
    await call.transaction(async (tx) => {
      const group = await begin(tx, found);
      for (const user of await groupUsers(tx, group.id, { after: "", limit: identityLimits.usersPerGroup }))
        if (!wanted.has(user.arn)) await remove(tx, call, group, user);
      for (const user of wanted.values()) await add(tx, call, group, user);
    });
    return {};
  },
});

export const groupUserOperations: readonly Operation[] = [addUser, removeUser, getUser, listUsers, setUsers];
