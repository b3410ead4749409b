import { createHash } from "node:crypto";
import pg from "pg";
import { leasePrefix } from "./lease-name.ts";
import { change } from "./lease-postgres-session.ts";
import type { Session } from "./postgres-session.ts";

interface Leased {
  readonly name: string;
  readonly oid: string;
  readonly since16: boolean;
}

/**
 * A role that gets what leased roles own where nobody else is to: one that cannot log in, and has what their groups have and
 * nothing more. Functions, triggers and rules act with their owner's rights: the managing user's own would be the leased
 * role's for the asking. Its name is none of a lease, so that it stays.
 */
export async function powerlessHeir(db: Session, { name, oid, since16 }: Leased): Promise<string> {
  const groups = await db.read<{ name: string }>(
    `select distinct g.rolname as name from pg_auth_members m join pg_roles g on g.oid = m.roleid
       join pg_roles a on a.rolname = current_user
     where m.member = $1::oid and (a.rolsuper or pg_has_role(g.oid, 'member with admin option')
       or (a.rolcreaterole and not g.rolsuper and current_setting('server_version_num')::int < 160000)) order by 1`,
    [oid],
  );
  const [manager] = await db.read<{ name: string }>("select current_user::text as name");
  const heir = heirName(name, [manager?.name ?? "", ...groups.map((group) => group.name)]);
  const role = pg.escapeIdentifier(heir);
  // Another revocation may make it at the same moment.
  const text = `do $make$ begin create role ${role} nologin; exception when duplicate_object or unique_violation then null; end $make$`;
  const [there] = await db.read<{ acts: boolean }>("select pg_has_role(oid, 'usage') as acts from pg_roles where rolname = $1", [
    heir,
  ]);
  if (!there) await change(db, { label: "heir", text });
  if (!there?.acts)
    await change(db, { label: "heir", text: `grant ${role} to current_user${since16 ? " with inherit true" : ""}` });
  const joined = await db.read<{ name: string }>(
    `select g.rolname as name from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles h on h.oid = m.member
     where h.rolname = $1`,
    [heir],
  );
  const missing = groups.filter((group) => !joined.some((one) => one.name === group.name));
  for (const group of missing) await change(db, { label: "heir", text: `grant ${pg.escapeIdentifier(group.name)} to ${role}` });
  return heir;
}

/** The same for all leases of the same groups and managing user. */
function heirName(leased: string, of: readonly string[]): string {
  const [, installation = ""] = leased.split("_");
  return `${leasePrefix(installation)}heir_${createHash("sha256").update(of.join("\0")).digest("hex").slice(0, 8)}`;
}
