import { z } from "zod";
import { isNarrowable } from "../../core/access-role.ts";
import { ServiceError } from "../../core/error.ts";
import { findEnvironment } from "../../store/environments.ts";
import type { Group } from "../../store/group-members.ts";
import type { User } from "../../store/identity.ts";
import type { Member, Membership } from "../../store/project-members.ts";
import type { Sql } from "../../store/sql.ts";
import { existingGroup, existingUserNamed, groupResource, namedGroup, namedUser } from "../identity/group-input.ts";
import type { Call } from "../operation.ts";

const types = ["workplace_user", "service_account", "group"] as const;
type MemberType = (typeof types)[number];
const typeOf: Readonly<Record<Member["kind"], MemberType>> = {
  person: "workplace_user",
  service_account: "service_account",
  group: "group",
};

/** Whose role in a project: a user or service account, or a group; by name or id. `Type` says of which kind it must be. */
export const memberInput = {
  UserName: namedUser.optional(),
  GroupName: namedGroup.optional(),
  Type: z.enum(types).optional(),
};
interface MemberInput {
  readonly UserName?: string | undefined;
  readonly GroupName?: string | undefined;
  readonly Type?: MemberType | undefined;
}

/** @throws ServiceError ValidationException */
export function checkMember({ UserName, GroupName, Type }: MemberInput): void {
  if ((UserName === undefined) === (GroupName === undefined))
    throw new ServiceError("ValidationException", "Name either a user or a group.");
  if (Type !== undefined && (Type === "group") !== (GroupName !== undefined))
    throw new ServiceError("ValidationException", `What is named is no ${Type}.`);
}

/** @throws ServiceError ResourceNotFoundException */
export async function memberNamed({ UserName, GroupName, Type }: MemberInput, call: Call): Promise<User | Group> {
  if (UserName === undefined) return existingGroup(await groupResource({ GroupName: GroupName ?? "" }, call));
  return existingUserNamed(call, UserName, Type === "group" ? undefined : Type);
}

export const shownMember = ({ kind, id, name, role, environments, createdAt }: Member) => ({
  Type: typeOf[kind],
  Id: id,
  ...(kind === "group" ? { GroupName: name } : { UserName: name }),
  Role: role,
  ...(environments && { Environments: environments }),
  CreatedAt: new Date(createdAt),
});

/** One of somebody's roles in projects. */
export const shownProjectRole = ({ projectId, role, environments }: Membership) => ({
  Project: projectId,
  Role: role,
  ...(environments && { Environments: environments }),
});

/** Slugs of environments, each once; `null`: all of the project. @throws ServiceError ResourceNotFoundException */
export async function checkEnvironments(
  sql: Sql,
  { projectId, role, environments }: Pick<Membership, "projectId" | "role" | "environments">,
): Promise<Membership["environments"]> {
  if (environments === null) return null;
  if (!isNarrowable(role)) {
    if (environments.length === 0) return null;
    throw new ServiceError("ValidationException", `The role ${role} is for all environments: leave them out.`);
  }
  for (const slug of environments)
    if (!(await findEnvironment(sql, projectId, slug)))
      throw new ServiceError("ResourceNotFoundException", `Could not find environment ${slug} of project ${projectId}.`);
  return [...new Set(environments)];
}
