import { ServiceError } from "../../core/error.ts";
import { nameInArn, roleArn, rootArn, userArn } from "../../core/identity.ts";
import { findRole, findUser, principalTags, type Role, type User } from "../../store/identity.ts";
import type { Call, Resource } from "../operation.ts";

type Context = Readonly<Record<string, readonly string[]>>;

/** A user as authorization sees it, whether it exists or not. */
export interface UserResource extends Resource {
  readonly user: User | undefined;
}

export interface RoleResource extends Resource {
  readonly role: Role | undefined;
}

/** Whose keys and tokens: root has some too. */
export interface HolderResource extends Resource {
  readonly holds: boolean;
}

async function resourceTags(call: Call, arn: string): Promise<Context> {
  const entries = Object.entries(await principalTags(call.sql, arn));
  return Object.fromEntries(
    entries.flatMap(([key, value]) => [
      [`aws:ResourceTag/${key}`, [value]],
      [`iam:ResourceTag/${key}`, [value]],
    ]),
  );
}

export async function userResource(
  { UserName }: { UserName: string },
  call: Call,
  parameters: Context = {},
): Promise<UserResource> {
  const arn = userArn(call.account, UserName);
  const [user, tags] = [await findUser(call.sql, UserName), await resourceTags(call, arn)];
  return { arn, shown: `user ${UserName}`, context: { ...tags, ...parameters }, user };
}

export async function roleResource(
  { RoleName }: { RoleName: string },
  call: Call,
  parameters: Context = {},
): Promise<RoleResource> {
  const arn = roleArn(call.account, RoleName);
  const [role, tags] = [await findRole(call.sql, RoleName), await resourceTags(call, arn)];
  return { arn, shown: `role ${RoleName}`, context: { ...tags, ...parameters }, role };
}

/** The named user; without a name the caller, as far as it is a user or root. */
export async function holderResource({ UserName }: { UserName?: string | undefined }, call: Call): Promise<HolderResource> {
  const name = UserName ?? nameInArn(call.principal.arn, call.account, "user");
  if (name !== undefined) {
    const found = await userResource({ UserName: name }, call);
    return { ...found, holds: found.user !== undefined };
  }
  if (call.principal.kind === "root")
    return { arn: rootArn(call.account), shown: rootArn(call.account), context: {}, holds: true };
  throw new ServiceError("ValidationException", "Must specify userName when calling with non-User credentials");
}

/** @throws ServiceError ResourceNotFoundException */
export function existingUser({ user }: UserResource, name: string): User {
  if (!user) throw new ServiceError("ResourceNotFoundException", `The user with name ${name} cannot be found.`);
  return user;
}

/** @throws ServiceError ResourceNotFoundException */
export function existingRole({ role }: RoleResource, name: string): Role {
  if (!role) throw new ServiceError("ResourceNotFoundException", `The role with name ${name} cannot be found.`);
  return role;
}

/** @throws ServiceError ResourceNotFoundException */
export function requireHolder({ holds, arn }: HolderResource): void {
  if (!holds) throw new ServiceError("ResourceNotFoundException", `The user with ARN ${arn} cannot be found.`);
}
