import { ServiceError } from "../core/error.ts";
import { identityLimits, policyArn } from "../core/identity.ts";
import { type Page, raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** A managed policy; its documents are its versions. */
export interface ManagedPolicy {
  readonly arn: string;
  readonly name: string;
  readonly defaultVersion: number;
  readonly description: string | undefined;
  readonly createdAt: number;
}

/** On the wire `v1`, `v2`, …: numbers are never used twice. */
export interface PolicyVersion {
  readonly version: number;
  readonly document: string;
  readonly createdAt: number;
}

type PolicyRow = Omit<ManagedPolicy, "description"> & { readonly description: string | null };
const toPolicy = (row: PolicyRow): ManagedPolicy => ({ ...row, description: row.description ?? undefined });
const columns = `arn, name, default_version as "defaultVersion", description, created_at as "createdAt"`;

/** Its first version is the default. @throws ServiceError ResourceExistsException, LimitExceededException. */
export async function createPolicy(
  tx: Sql,
  account: string,
  policy: { name: string; document: string; description: string | undefined; createdAt: number },
): Promise<ManagedPolicy> {
  await raiseIdentityVersion(tx);
  const { name, document, description, createdAt } = policy;
  const [taken] = await tx.query("select 1 as found from policies where lower(name) = $1", [name.toLowerCase()]);
  if (taken)
    throw new ServiceError("ResourceExistsException", `A policy called ${name} already exists. Duplicate names are not allowed.`);
  const [row] = await tx.query<{ count: number }>("select count(*) as count from policies");
  if (Number(row?.count) >= identityLimits.policies) {
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for PoliciesPerAccount: ${identityLimits.policies}`);
  }
  const arn = policyArn(account, name);
  await tx.query("insert into policies (arn, name, default_version, description, created_at) values ($1, $2, 1, $3, $4)", [
    arn,
    name,
    description ?? null,
    createdAt,
  ]);
  await tx.query("insert into policy_versions (policy_arn, version, document, created_at) values ($1, 1, $2, $3)", [
    arn,
    document,
    createdAt,
  ]);
  return { arn, name, defaultVersion: 1, description, createdAt };
}

export async function findPolicy(sql: Sql, arn: string): Promise<ManagedPolicy | undefined> {
  const [row] = await sql.query<PolicyRow>(`select ${columns} from policies where arn = $1`, [arn]);
  return row && toPolicy(row);
}

export async function listPolicies(sql: Sql, { after, limit }: Page): Promise<ManagedPolicy[]> {
  const rows = await sql.query<PolicyRow>(`select ${columns} from policies where name > $1 order by name limit $2`, [
    after,
    limit,
  ]);
  return rows.map(toPolicy);
}

export function policyVersions(sql: Sql, arn: string): Promise<PolicyVersion[]> {
  return sql.query<PolicyVersion>(
    `select version, document, created_at as "createdAt" from policy_versions where policy_arn = $1 order by version`,
    [arn],
  );
}

/** The document in force of a policy; undefined when the policy is gone. */
export async function defaultDocument(sql: Sql, arn: string): Promise<string | undefined> {
  const [row] = await sql.query<{ document: string }>(
    `select v.document from policies p join policy_versions v on v.policy_arn = p.arn and v.version = p.default_version
       where p.arn = $1`,
    [arn],
  );
  return row?.document;
}

/** @throws ServiceError LimitExceededException when there are five versions. */
export async function createPolicyVersion(
  tx: Sql,
  arn: string,
  { document, setAsDefault, createdAt }: { document: string; setAsDefault: boolean; createdAt: number },
): Promise<PolicyVersion> {
  await raiseIdentityVersion(tx);
  const existing = await policyVersions(tx, arn);
  if (existing.length >= identityLimits.versionsPerPolicy) {
    throw new ServiceError(
      "LimitExceededException",
      `A managed policy can have up to ${identityLimits.versionsPerPolicy} versions. Before you create a new version, you must delete an existing version.`,
    );
  }
  // The newest number ever used is kept in `meta`, so that `v3` never means two documents even after a delete.
  const key = `policy_last_version:${arn}`;
  const [last] = await tx.query<{ value: string }>("select value from meta where key = $1", [key]);
  const version = Math.max(Number(last?.value ?? 0), ...existing.map((one) => one.version)) + 1;
  await tx.query("insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value", [
    key,
    String(version),
  ]);
  await tx.query("insert into policy_versions (policy_arn, version, document, created_at) values ($1, $2, $3, $4)", [
    arn,
    version,
    document,
    createdAt,
  ]);
  if (setAsDefault) await tx.query("update policies set default_version = $2 where arn = $1", [arn, version]);
  return { version, document, createdAt };
}

/** False when the policy has no such version. */
export async function setDefaultVersion(tx: Sql, arn: string, version: number): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query(
    `update policies set default_version = $2 where arn = $1
       and exists (select 1 from policy_versions v where v.policy_arn = $1 and v.version = $2) returning arn`,
    [arn, version],
  );
  return rows.length > 0;
}

/** False when the policy has no such version. @throws ServiceError InvalidRequestException for the default version. */
export async function deletePolicyVersion(tx: Sql, policy: ManagedPolicy, version: number): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const now = await findPolicy(tx, policy.arn);
  if (now?.defaultVersion === version) {
    throw new ServiceError("InvalidRequestException", "Cannot delete the default version of a policy.");
  }
  const rows = await tx.query("delete from policy_versions where policy_arn = $1 and version = $2 returning version", [
    policy.arn,
    version,
  ]);
  return rows.length > 0;
}

/** @throws ServiceError InvalidRequestException while it is attached to anything. */
export async function deletePolicy(tx: Sql, arn: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const [attached] = await tx.query("select 1 as found from policy_attachments where policy_arn = $1 limit 1", [arn]);
  if (attached) throw new ServiceError("InvalidRequestException", "Cannot delete a policy attached to entities.");
  await tx.query("delete from meta where key = $1", [`policy_last_version:${arn}`]);
  await tx.query("delete from policy_versions where policy_arn = $1", [arn]);
  const rows = await tx.query("delete from policies where arn = $1 returning arn", [arn]);
  return rows.length > 0;
}

/** May be repeated. @throws ServiceError LimitExceededException when the principal has ten. */
export async function attachPolicy(tx: Sql, principalArn: string, arn: string): Promise<void> {
  await raiseIdentityVersion(tx);
  await tx.query("insert into policy_attachments (principal_arn, policy_arn) values ($1, $2) on conflict do nothing", [
    principalArn,
    arn,
  ]);
  const [row] = await tx.query<{ count: number }>("select count(*) as count from policy_attachments where principal_arn = $1", [
    principalArn,
  ]);
  if (Number(row?.count) > identityLimits.policiesPerPrincipal) {
    const limit = identityLimits.policiesPerPrincipal;
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for PoliciesPerPrincipal: ${limit}`);
  }
}

/** False when it was not attached. */
export async function detachPolicy(tx: Sql, principalArn: string, arn: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query(
    "delete from policy_attachments where principal_arn = $1 and policy_arn = $2 returning policy_arn",
    [principalArn, arn],
  );
  return rows.length > 0;
}

/** ARNs of users and roles that have the policy, and of policies that a principal has. */
export async function attachedPrincipals(sql: Sql, arn: string): Promise<string[]> {
  const rows = await sql.query<{ principalArn: string }>(
    `select principal_arn as "principalArn" from policy_attachments where policy_arn = $1 order by principal_arn limit 1000`,
    [arn],
  );
  return rows.map((row) => row.principalArn);
}

export async function attachedPolicyArns(sql: Sql, principalArn: string): Promise<string[]> {
  const rows = await sql.query<{ arn: string }>(
    `select policy_arn as arn from policy_attachments where principal_arn = $1 order by policy_arn`,
    [principalArn],
  );
  return rows.map((row) => row.arn);
}
