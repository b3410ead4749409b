import { RotatorError } from "../core/error.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { type Grant, type Labelled, type MysqlLeaseSettings, placeOf } from "./lease-mysql-settings.ts";
import type { LeaseFinding } from "./lease-target.ts";
import { isMariaDb } from "./mysql-accounts.ts";
import { checkPolicy, checkServer, checkWrites, mayAll, readServer, type Server } from "./mysql-check.ts";
import type { Session } from "./mysql-session.ts";

/** One after the other: the server makes each by itself. @throws RotatorError that names the one that failed */
export async function changeEach(db: Session, statements: readonly Labelled[]): Promise<void> {
  for (const { label, text } of statements) {
    try {
      await db.change(text);
    } catch (error) {
      if (!(error instanceof RotatorError)) throw error;
      throw new RotatorError(error.outcome, `${label}: ${error.message}`, { cause: error.cause });
    }
  }
}

/** What at the server stands against leases. Reads only. @throws RotatorError */
export async function checkMysqlLeases(
  db: Session,
  login: DatabaseLogin,
  settings: MysqlLeaseSettings,
  password: string,
): Promise<LeaseFinding[]> {
  const server = await readServer(db);
  const general = [
    ...checkServer(db, server, login),
    ...checkPolicy(db, server, password),
    ...checkWrites(server, `user ${login.username}`),
  ].map(({ step: _, ...found }) => found);
  const grants = (settings.grants ?? []).flatMap((grant, index) => checkGrant(server, grant, index));
  return [
    ...general,
    ...checkManager(db, server, login.username),
    ...(await checkRoles(db, settings)),
    ...grants,
    ...(await checkList(db)),
  ];
}

function checkManager(db: Session, server: Server, username: string): LeaseFinding[] {
  const ends = isMariaDb(db) ? "CONNECTION ADMIN" : "CONNECTION_ADMIN";
  const needed = [
    ["CREATE USER", "may not make users", ["CREATE USER"]],
    ["PROCESS", "cannot see the sessions of leased users, which must end with them", ["PROCESS"]],
    [ends, "may not end the sessions of leased users", [ends, "SUPER"]],
  ] as const;
  return needed
    .filter(([, , rights]) => !mayAll(server, ...rights))
    .map(([right, what]) => ({ problem: `user ${username} ${what}`, remedy: `grant ${right.toLowerCase()} on *.* to it` }));
}

async function checkRoles(db: Session, { roles = [] }: MysqlLeaseSettings): Promise<LeaseFinding[]> {
  if (roles.length === 0) return [];
  const rows = await db.read<{ name: string }>(
    "select role_name as name from information_schema.applicable_roles where is_grantable = 'YES'",
  );
  const findings: LeaseFinding[] = roles
    .filter((role) => !rows.some(({ name }) => name === role))
    .map((role) => ({
      problem: `the managing user may not give the role ${role}, or there is none`,
      remedy: "Make the role, and grant it to the managing user with admin option.",
    }));
  if (roles.length > 1 && isMariaDb(db)) {
    const problem = "MariaDB has one role of a user on at a time, and roles names several";
    findings.push({ problem, remedy: "Make one role that has the others, and name that." });
  }
  return findings;
}

const unescaped = (name: string): string => name.replace(/\\([_%\\])/g, "$1").replaceAll("``", "`");

/** Whoever gives a right must have it with grant option, there or further up. */
function checkGrant({ rights }: Server, { privileges, on }: Grant, index: number): LeaseFinding[] {
  const { database, table } = placeOf(on);
  const held = rights.flatMap((text) => {
    const [, given = "", onDatabase = "", onTable = ""] =
      /^GRANT (.*) ON (?:TABLE )?(\*|`(?:[^`]|``)+`)\.(\*|`(?:[^`]|``)+`) TO .* WITH GRANT OPTION/s.exec(text) ?? [];
    const covers =
      (onDatabase === "*" || unescaped(onDatabase.slice(1, -1)) === database) &&
      (onTable === "*" || unescaped(onTable.slice(1, -1)) === table);
    return covers ? given.split(/,\s*/) : [];
  });
  const lacking = privileges.filter((one) => !held.includes(one) && !held.includes("ALL PRIVILEGES"));
  if (lacking.length === 0) return [];
  return [
    {
      problem: `the managing user may not give ${lacking.join(", ")} on ${on} (grants[${index}])`,
      remedy: "Grant it the same with grant option, or use a role.",
    },
  ];
}

async function checkList(db: Session): Promise<LeaseFinding[]> {
  try {
    await db.read("select user, host from mysql.user limit 1");
    return [];
  } catch (error) {
    if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
    const problem = "the managing user cannot list users: users that no lease knows are not found";
    return [{ problem, remedy: "grant select on mysql.user to it", warning: true }];
  }
}
