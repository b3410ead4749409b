import { type AccessRole, projectRolePolicy, workplaceRolePolicy } from "../core/access-role.ts";
import { ServiceError } from "../core/error.ts";
import { identityLimits, nameInArn, roleArn, rootPrincipal, userArn } from "../core/identity.ts";
import type { PolicyText, Principal } from "../core/principal.ts";
import { groupsOf } from "./group-members.ts";
import { type Membership, memberships } from "./project-members.ts";
import type { Sql } from "./sql.ts";

export interface User {
  readonly id: string;
  readonly name: string;
  readonly arn: string;
  readonly kind: "person" | "service_account";
  /** What it may do in the whole deployment, beside its policies; `null`: no more than they say. */
  readonly role: AccessRole | null;
  readonly createdAt: number;
}

export interface Role {
  readonly id: string;
  readonly name: string;
  readonly arn: string;
  readonly trustPolicy: string;
  readonly maxSessionSeconds: number;
  readonly description: string | undefined;
  readonly createdAt: number;
}

/** One page of a list in the order of names (or ids), after `after`. */
export interface Page {
  readonly after: string;
  readonly limit: number;
}

const userColumns = `id, name, arn, kind, role, created_at as "createdAt"`;
const roleColumns = `id, name, arn, trust_policy as "trustPolicy", max_session_seconds as "maxSessionSeconds", description,
  created_at as "createdAt"`;

interface RoleRow extends Omit<Role, "description"> {
  readonly description: string | null;
}
const toRole = (row: RoleRow): Role => ({ ...row, description: row.description ?? undefined });

/**
 * Says that users, keys, roles or policies change: first statement of every transaction that does so. It makes all
 * caches of principals read again, on every node, and lets such transactions pass one at a time, so that limits hold.
 */
export async function raiseIdentityVersion(tx: Sql): Promise<void> {
  await tx.query(
    `insert into meta (key, value) values ('identity_version', '1')
       on conflict (key) do update set value = cast(cast(meta.value as bigint) + 1 as text)`,
  );
}

/** The version of identities, and with it the revision of the ring keys, so that one look tells of changes to both. */
export async function readVersions(sql: Sql): Promise<{ identity: string; keyRevision: number }> {
  const rows = await sql.query<{ key: string; value: string }>(
    "select key, value from meta where key in ('identity_version', 'key_revision')",
  );
  const stored = (name: string) => rows.find(({ key }) => key === name)?.value ?? "0";
  return { identity: stored("identity_version"), keyRevision: Number(stored("key_revision")) };
}

async function countRows(tx: Sql, table: "users" | "roles"): Promise<number> {
  const [row] = await tx.query<{ count: number }>(`select count(*) as count from ${table}`);
  return Number(row?.count ?? 0);
}

/** Names are unique without regard to case, as in IAM. */
async function assertNameFree(tx: Sql, table: "users" | "roles", name: string): Promise<void> {
  const [taken] = await tx.query(`select 1 as found from ${table} where lower(name) = $1`, [name.toLowerCase()]);
  const kind = table === "users" ? "User" : "Role";
  if (taken) throw new ServiceError("ResourceExistsException", `${kind} with name ${name} already exists.`);
  const limit = identityLimits[table];
  if ((await countRows(tx, table)) >= limit) {
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for ${kind}sPerAccount: ${limit}`);
  }
}

/** @throws ServiceError ResourceExistsException when a user of this name exists in any case; LimitExceededException. */
export async function createUser(
  tx: Sql,
  account: string,
  given: Pick<User, "id" | "name" | "createdAt"> & Partial<Pick<User, "kind" | "role">>,
): Promise<User> {
  const user = { kind: "person", role: null, ...given } as const;
  await raiseIdentityVersion(tx);
  await assertNameFree(tx, "users", user.name);
  const arn = userArn(account, user.name);
  await deleteBelongings(tx, arn); // given to an earlier one of this name while it was deleted
  await tx.query("insert into users (id, name, arn, kind, role, created_at) values ($1, $2, $3, $4, $5, $6)", [
    user.id,
    user.name,
    arn,
    user.kind,
    user.role,
    user.createdAt,
  ]);
  return { ...user, arn };
}

export async function findUser(sql: Sql, name: string): Promise<User | undefined> {
  const [row] = await sql.query<User>(`select ${userColumns} from users where name = $1`, [name]);
  return row;
}

/** By id or name. */
export async function findUserOrId(sql: Sql, idOrName: string): Promise<User | undefined> {
  const [row] = await sql.query<User>(
    `select ${userColumns} from users where id = $1 or name = $1 order by id = $1 desc limit 1`,
    [idOrName],
  );
  return row;
}

export function listUsers(sql: Sql, { after, limit }: Page): Promise<User[]> {
  return sql.query<User>(`select ${userColumns} from users where name > $1 order by name limit $2`, [after, limit]);
}

/** Takes the keys, tokens, tags and attachments with it. False when there was no such user. */
export async function deleteUser(tx: Sql, user: User): Promise<boolean> {
  await raiseIdentityVersion(tx);
  await deleteBelongings(tx, user.arn);
  const rows = await tx.query("delete from users where id = $1 returning id", [user.id]);
  return rows.length > 0;
}

/** @throws ServiceError ResourceExistsException when a role of this name exists in any case; LimitExceededException. */
export async function createRole(tx: Sql, account: string, role: Omit<Role, "arn">): Promise<Role> {
  await raiseIdentityVersion(tx);
  await assertNameFree(tx, "roles", role.name);
  const arn = roleArn(account, role.name);
  await deleteBelongings(tx, arn); // given to an earlier one of this name while it was deleted
  await tx.query(
    `insert into roles (id, name, arn, trust_policy, max_session_seconds, description, created_at)
       values ($1, $2, $3, $4, $5, $6, $7)`,
    [role.id, role.name, arn, role.trustPolicy, role.maxSessionSeconds, role.description ?? null, role.createdAt],
  );
  return { ...role, arn };
}

export async function findRole(sql: Sql, name: string): Promise<Role | undefined> {
  const [row] = await sql.query<RoleRow>(`select ${roleColumns} from roles where name = $1`, [name]);
  return row && toRole(row);
}

export async function listRoles(sql: Sql, { after, limit }: Page): Promise<Role[]> {
  const rows = await sql.query<RoleRow>(`select ${roleColumns} from roles where name > $1 order by name limit $2`, [
    after,
    limit,
  ]);
  return rows.map(toRole);
}

/** False when there is no such role. */
export async function setTrustPolicy(tx: Sql, name: string, trustPolicy: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("update roles set trust_policy = $2 where name = $1 returning id", [name, trustPolicy]);
  return rows.length > 0;
}

export async function deleteRole(tx: Sql, role: Role): Promise<boolean> {
  await raiseIdentityVersion(tx);
  await deleteBelongings(tx, role.arn);
  const rows = await tx.query("delete from roles where id = $1 returning id", [role.id]);
  return rows.length > 0;
}

const belongings = [
  "access_keys",
  "tokens",
  "policy_attachments",
  "principal_tags",
  "group_members",
  "project_members",
  "oidc_identities",
];

/** What users, roles and groups have, by their ARN. */
export async function deleteBelongings(tx: Sql, principalArn: string): Promise<void> {
  for (const table of belongings) {
    await tx.query(`delete from ${table} where principal_arn = $1`, [principalArn]);
  }
}

export async function principalTags(sql: Sql, principalArn: string): Promise<Record<string, string>> {
  const rows = await sql.query<{ key: string; value: string }>(
    "select key, value from principal_tags where principal_arn = $1 order by key",
    [principalArn],
  );
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]));
}

/** Adds tags, or gives new values to those there. @throws ServiceError LimitExceededException above 50. */
export async function tagPrincipal(tx: Sql, principalArn: string, tags: Readonly<Record<string, string>>): Promise<void> {
  await raiseIdentityVersion(tx);
  for (const [key, value] of Object.entries(tags)) {
    // Keys that differ in case only are one key, as in IAM: the newest spelling stays.
    await tx.query("delete from principal_tags where principal_arn = $1 and lower(key) = $2", [principalArn, key.toLowerCase()]);
    await tx.query("insert into principal_tags (principal_arn, key, value) values ($1, $2, $3)", [principalArn, key, value]);
  }
  const [row] = await tx.query<{ count: number }>("select count(*) as count from principal_tags where principal_arn = $1", [
    principalArn,
  ]);
  if (Number(row?.count) > identityLimits.tagsPerPrincipal) {
    throw new ServiceError("LimitExceededException", "The number of tags has reached the maximum limit.");
  }
}

export async function untagPrincipal(tx: Sql, principalArn: string, keys: readonly string[]): Promise<void> {
  await raiseIdentityVersion(tx);
  for (const key of keys) {
    await tx.query("delete from principal_tags where principal_arn = $1 and lower(key) = $2", [principalArn, key.toLowerCase()]);
  }
}

/** Default versions of the policies attached to a principal, by name. */
function attachedPolicies(sql: Sql, principalArn: string): Promise<PolicyText[]> {
  return sql.query<PolicyText>(
    `select p.name, v.document from policy_attachments a join policies p on p.arn = a.policy_arn
       join policy_versions v on v.policy_arn = p.arn and v.version = p.default_version
       where a.principal_arn = $1 order by p.name`,
    [principalArn],
  );
}

/**
 * A principal as it is now, by the ARN of root, a user or a role (not of a session). A role comes as its own kind with
 * the role's ARN; whoever assumed it adds the session. Undefined when there is none.
 */
export async function loadPrincipal(sql: Sql, account: string, arn: string): Promise<Principal | undefined> {
  if (arn === rootPrincipal(account).arn) return rootPrincipal(account);
  const userName = nameInArn(arn, account, "user");
  const roleName = nameInArn(arn, account, "role");
  const found =
    userName === undefined ? (roleName === undefined ? undefined : await findRole(sql, roleName)) : await findUser(sql, userName);
  if (!found) return undefined;
  const policies = await policiesOf(sql, account, found);
  const common = { arn, accountId: account, userId: found.id, tags: await principalTags(sql, arn), policies };
  if (!("kind" in found)) return { kind: "role", roleArn: arn, ...common };
  return { kind: "user", userName: found.name, ...(found.kind === "service_account" && { serviceAccount: true }), ...common };
}

/** Own ones and those of groups: attached policies, and what roles in the deployment and in projects mean. */
async function policiesOf(sql: Sql, account: string, found: User | Role): Promise<PolicyText[]> {
  const own = { arn: found.arn, role: "kind" in found ? found.role : null };
  const holders = "kind" in found ? [own, ...(await groupsOf(sql, found.arn))] : [own];
  const policies: PolicyText[] = [];
  for (const { arn, role } of holders) {
    policies.push(...(await attachedPolicies(sql, arn)));
    const overall = role === null ? undefined : workplaceRolePolicy(account, role);
    if (overall !== undefined) policies.push({ name: `workplace ${role}`, document: overall });
    policies.push(...(await memberships(sql, arn)).map((membership) => policyOfMembership(account, membership)));
  }
  return policies;
}

const policyOfMembership = (account: string, { projectId, role, environments }: Membership): PolicyText => ({
  name: `${role} of project ${projectId}`,
  document: projectRolePolicy(account, projectId, role, environments),
});
