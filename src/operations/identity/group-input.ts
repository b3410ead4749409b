import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { groupArn, groupNamePattern } from "../../core/identity.ts";
import type { Group } from "../../store/group-members.ts";
import { findGroup } from "../../store/groups.ts";
import { findUserOrId, type User } from "../../store/identity.ts";
import type { Call, Resource } from "../operation.ts";

/** Of a new one. Source: IAM API reference, GroupName. */
export const groupName = z.string().min(1).max(128).regex(groupNamePattern);
/** Its name or its id. */
export const namedGroup = z.string().min(1).max(128);
export const namedUser = z.string().min(1).max(64);

/** A group as authorization sees it, whether it exists or not. */
export interface GroupResource extends Resource {
  readonly group: Group | undefined;
}

export async function groupResource({ GroupName }: { GroupName: string }, call: Call): Promise<GroupResource> {
  const group = await findGroup(call.sql, GroupName);
  return { arn: groupArn(call.account, group?.name ?? GroupName), shown: `group ${GroupName}`, context: {}, group };
}

/** @throws ServiceError ResourceNotFoundException */
export function existingGroup({ group, shown }: Pick<GroupResource, "group" | "shown">): Group {
  if (!group) throw new ServiceError("ResourceNotFoundException", `There is no ${shown}.`);
  return group;
}

/** Of which kind a user has to be. */
export const userType = z.enum(["workplace_user", "service_account"]).optional();
const kindOfType = { workplace_user: "person", service_account: "service_account" } as const;

/** By name or id; of this type, if one is given. @throws ServiceError ResourceNotFoundException */
export async function existingUserNamed({ sql }: Call, idOrName: string, type?: z.infer<typeof userType>): Promise<User> {
  const user = await findUserOrId(sql, idOrName);
  if (user && (type === undefined || user.kind === kindOfType[type])) return user;
  const what = type === "service_account" ? "service account" : "user";
  throw new ServiceError("ResourceNotFoundException", `The ${what} with name ${idOrName} cannot be found.`);
}
