import { RotatorError } from "../core/error.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { accountsOf, atLeast, definition, isMariaDb } from "./mysql-accounts.ts";
import { accountOf, keepsTwo, mayRetain } from "./mysql-dual.ts";
import { type Pair, requireSettable } from "./mysql-pair.ts";
import { type Session, withSession } from "./mysql-session.ts";
import type { Finding, Strategy } from "./target.ts";

/** The logins that a rotation would use, and the user that it would change, with a password such as it would get. */
export interface Checked {
  readonly own: DatabaseLogin;
  readonly admin: DatabaseLogin | undefined;
  readonly pair: Pair;
  readonly deadlineAt: number;
}

/** What at the server stands against a rotation. Reads only. @throws RotatorError */
export async function checkMysql({ own, admin, pair, deadlineAt }: Checked, strategy: Strategy): Promise<Finding[]> {
  const mayAdmin = async () => admin !== undefined && (await withSession(admin, deadlineAt, (db) => mayRetain(db, "any")));
  const findings = await withSession(own, deadlineAt, async (db) => {
    const server = await readServer(db);
    const single =
      strategy === "alternating-users" ? [] : [...(await checkOwn(db, own, server)), ...(await checkTwo(db, own, mayAdmin))];
    const name = strategy === "alternating-users" ? checkName(db, pair.name) : [];
    return [...checkServer(db, server, own), ...checkPolicy(db, server, pair.password), ...single, ...name];
  });
  if (strategy !== "alternating-users" || !admin) return findings;
  const others = await withSession(admin, deadlineAt, (db) => checkAdmin(db, admin, pair));
  return [...findings, ...others];
}

const watched = [
  "read_only",
  "super_read_only",
  "innodb_read_only",
  "port",
  "version_comment",
  "strict_password_validation",
  "validate_password.length",
  "validate_password.special_char_count",
  "validate_password.mixed_case_count",
  "validate_password.number_count",
  "validate_password_length",
  "validate_password_special_char_count",
  "simple_password_check_minimal_length",
] as const;

export interface Server {
  /** Of those that the server has, in lower case. */
  readonly variables: ReadonlyMap<string, string>;
  /** Active plugins that look at new passwords. */
  readonly validators: readonly string[];
  /** Cipher of this session; empty: none. */
  readonly cipher: string;
  /** Rights for everything, as this login has them. */
  readonly rights: readonly string[];
}

export async function readServer(db: Session): Promise<Server> {
  const names = watched.map((name) => `'${name}'`).join(", ");
  const variables = await db.read<{ Variable_name: string; Value: string }>(
    `show global variables where variable_name in (${names})`,
  );
  const validators = await db.read<{ name: string }>(
    `select plugin_name as name from information_schema.plugins where plugin_status = 'ACTIVE'
       and (plugin_type = 'PASSWORD VALIDATION' or plugin_name = 'validate_password')`,
  );
  const [cipher] = await db.read<{ Value: string }>("show session status like 'Ssl_cipher'");
  const grants = await db.read<object>("show grants");
  return {
    variables: new Map(variables.map((row) => [row.Variable_name.toLowerCase(), String(row.Value)])),
    validators: validators.map(({ name }) => name),
    cipher: cipher?.Value ?? "",
    rights: grants.map((row) => String(Object.values(row)[0])),
  };
}

const isOn = ({ variables }: Server, name: string): boolean => /^(on|1|true)$/i.test(variables.get(name) ?? "");
const numberOf = ({ variables }: Server, name: string): number => Number(variables.get(name) ?? 0);

/** Whether one of these is granted for everything. */
export function mayAll({ rights }: Server, ...wanted: readonly string[]): boolean {
  return rights.some((text) => {
    const [, given = ""] = /^GRANT (.*) ON \*\.\* TO /s.exec(text) ?? [];
    const held = given.split(/,\s*/);
    return held.includes("ALL PRIVILEGES") || wanted.some((right) => held.includes(right));
  });
}

export function checkServer(db: Session, server: Server, own: DatabaseLogin): Finding[] {
  const findings: Finding[] = [];
  const warn = (step: Finding["step"], problem: string, remedy: string) =>
    findings.push({ step, problem, remedy, warning: true });
  const least = isMariaDb(db) ? [10, 4] : [5, 7, 6];
  if (!atLeast(db.version, least)) {
    const problem = `the server's version ${db.version} is older than ${least.join(".")}`;
    findings.push({ step: "setSecret", problem, remedy: "Upgrade the server." });
  }
  if (server.cipher === "" && !db.confidential) {
    if (isMariaDb(db)) warn("testSecret", "the connection is not encrypted", "Give the server TLS, and set ssl to true.");
    else {
      const problem = "MySQL must be told the new password itself, over verified TLS only";
      findings.push({ step: "setSecret", problem, remedy: "Give the server TLS, and set ssl to true." });
    }
  }
  const port = numberOf(server, "port");
  const between = /proxysql|maxscale/i.exec(server.variables.get("version_comment") ?? "")?.[0];
  if (between !== undefined || (port > 0 && port !== own.port)) {
    const what = between ?? `something: the server itself listens on port ${port}, not ${own.port}`;
    const remedy = "A proxy that keeps passwords of its own must get the new ones too; else name the server itself.";
    warn("setSecret", `between Rekey and the server stands ${what}`, remedy);
  }
  return findings;
}

/** Plugins that have a say in passwords. */
export function checkPolicy(db: Session, server: Server, password: string): Finding[] {
  if (isMariaDb(db)) {
    const [plugin] = server.validators;
    if (plugin === undefined || !isOn(server, "strict_password_validation")) return [];
    return [
      {
        step: "setSecret",
        problem: `${plugin} cannot look into a password's hash, and strict_password_validation refuses what it cannot look into`,
        remedy: "Set strict_password_validation to off; MariaDB is told no password itself.",
      },
    ];
  }
  const length = Math.max(numberOf(server, "validate_password.length"), numberOf(server, "validate_password_length"));
  const special = numberOf(server, "validate_password.special_char_count");
  const has = password.match(/[^A-Za-z0-9]/g)?.length ?? 0;
  const remedy = "Ask for such passwords in the rotation policy, or lower what validate_password asks for.";
  if (length > password.length) {
    const problem = `validate_password asks for ${length} characters, and new passwords have ${password.length}`;
    return [{ step: "setSecret", problem, remedy }];
  }
  if (special <= has) return [];
  const problem = `validate_password asks for ${special} special characters, of which a new password may have fewer`;
  return [{ step: "setSecret", problem, remedy, warning: true }];
}

/** The user sets its own password. */
async function checkOwn(db: Session, own: DatabaseLogin, server: Server): Promise<Finding[]> {
  const findings = checkWrites(server, `user ${own.username}`);
  const account = await accountOf(db);
  if (account.user !== own.username) {
    const problem = `the server takes user ${own.username} for '${account.user}'@'${account.host}', whose password would be changed`;
    findings.push({ step: "setSecret", problem, remedy: "Drop that account, or make one of the user's own name." });
  }
  const text = await definition(db, account);
  const [, plugin = ""] = /^CREATE USER .*? IDENTIFIED (?:VIA|WITH) '?(\w+)'?/s.exec(text) ?? [];
  const passwords = ["", "mysql_native_password", ...(isMariaDb(db) ? [] : ["caching_sha2_password", "sha256_password"])];
  if (!passwords.includes(plugin) || / OR (\w+)/.test(text)) {
    const problem = `user ${own.username} logs in by ${plugin}, whose passwords Rekey does not set`;
    findings.push({ step: "setSecret", problem, remedy: "Alter the user to log in by a password of the usual kind." });
  }
  return findings;
}

/** Where the server keeps two passwords of one user, somebody must be allowed to give the second. */
async function checkTwo(db: Session, own: DatabaseLogin, mayAdmin: () => Promise<boolean>): Promise<Finding[]> {
  if (!keepsTwo(db) || (await mayRetain(db, "own")) || (await mayAdmin())) return [];
  const problem = `user ${own.username} keeps one password: from the switch on, who has read the old one is refused`;
  const remedy = "Grant it APPLICATION_PASSWORD_ADMIN on *.*, or name a superuser with CREATE USER in masterarn.";
  return [{ step: "setSecret", problem, remedy, warning: true }];
}

export function checkWrites(server: Server, who: string): Finding[] {
  const setting = ["super_read_only", "innodb_read_only", "read_only"].find((name) => isOn(server, name));
  if (setting === undefined) return [];
  const may = setting === "read_only" && mayAll(server, "SUPER", "READ ONLY ADMIN", "READ_ONLY ADMIN", "CONNECTION_ADMIN");
  const problem = may
    ? `${setting} is on: the server is a replica, where ${who} can change a password all the same`
    : `${setting} is on: ${who} cannot change a password there`;
  const remedy = "Name the primary as host, and the replica as an endpoint of the policy.";
  return [{ step: "setSecret", problem, remedy, ...(may && { warning: true }) }];
}

/** MySQL takes shorter names than MariaDB. Source: MySQL manual, identifier length limits. */
function checkName(db: Session, name: string): Finding[] {
  if (isMariaDb(db) || [...name].length <= 32) return [];
  const problem = `user name ${name} has more than 32 characters`;
  return [{ step: "createSecret", problem, remedy: "Name two users in usernames, or use a shorter name." }];
}

/** A superuser sets the password of the user that is not in use. */
async function checkAdmin(db: Session, admin: DatabaseLogin, pair: Pair): Promise<Finding[]> {
  const server = await readServer(db);
  const findings = checkWrites(server, `user ${admin.username}`);
  if (!mayAll(server, "CREATE USER")) {
    const problem = `user ${admin.username} may not change users`;
    findings.push({ step: "setSecret", problem, remedy: "Grant it CREATE USER on *.*." });
  }
  try {
    await requireSettable(db, pair);
    const isNew = (await accountsOf(db, pair.name)).length === 0;
    if (isNew && !server.rights.some((text) => text.includes(" WITH GRANT OPTION"))) {
      const problem = `user ${admin.username} may give ${pair.name} no rights`;
      findings.push({ step: "setSecret", problem, remedy: `Grant it the rights of ${pair.inUse} with grant option.` });
    }
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    const remedy = "Do at the server what the reason says; the superuser must be able to read the users in the database mysql.";
    findings.push({ step: "setSecret", problem: error.message, remedy });
  }
  return findings;
}
