import { z } from "zod";
import { mysqlDialect, renderStatement, statementList } from "./lease-statements.ts";
import type { LeasedUser } from "./lease-target.ts";
import { type Account, accountText, quoted } from "./mysql-accounts.ts";

const name = z
  .string()
  .min(1)
  .max(64)
  .refine((value) => !value.includes("\0"), "may not contain NUL");

/** What may be given on tables, databases and routines; rights over the server need creationStatements. */
const privileges = [
  "ALL PRIVILEGES",
  "ALTER",
  "ALTER ROUTINE",
  "CREATE",
  "CREATE ROUTINE",
  "CREATE TEMPORARY TABLES",
  "CREATE VIEW",
  "DELETE",
  "DROP",
  "EVENT",
  "EXECUTE",
  "INDEX",
  "INSERT",
  "LOCK TABLES",
  "REFERENCES",
  "SELECT",
  "SHOW VIEW",
  "TRIGGER",
  "UPDATE",
] as const;

/** `app.*`, `app.orders`, and with all its consequences `*.*`. */
const place = z.string().regex(/^(\*\.\*|[^.*\0]{1,64}\.(\*|[^*\0]{1,64}))$/, "must be database.table, database.* or *.*");

const lasting = ["username", "usernameText"] as const;
const renewable = [...lasting, "expiration"] as const;
const all = [...renewable, "password"] as const;

export const mysqlSettings = z
  .strictObject({
    /** From where the user may log in, as in the server's account names. */
    host: name.default("%"),
    /** Roles that the user gets, and has on at each login. */
    roles: z.array(name).min(1).max(20).optional(),
    grants: z
      .array(z.strictObject({ privileges: z.array(z.enum(privileges)).min(1), on: place }))
      .min(1)
      .max(100)
      .optional(),
    /** In place of `roles` and `grants`: they make the account. */
    creationStatements: statementList(mysqlDialect, all, ["username", "password"]).optional(),
    /** Run at each renewal, of which the server knows nothing else. */
    renewalStatements: statementList(mysqlDialect, renewable).optional(),
    /** Run when the user can log in no more and its sessions have ended, before it is dropped. */
    revocationStatements: statementList(mysqlDialect, lasting).optional(),
  })
  .superRefine(({ roles, grants, creationStatements }, context) => {
    if ((roles === undefined && grants === undefined) === (creationStatements === undefined))
      context.addIssue({ code: "custom", message: "needs either roles or grants, or creationStatements" });
  });

export type MysqlLeaseSettings = z.output<typeof mysqlSettings>;
export type Grant = NonNullable<MysqlLeaseSettings["grants"]>[number];

/** A statement, and what to call it when it fails. */
export interface Labelled {
  readonly label: string;
  readonly text: string;
}

const identifier = (text: string): string => `\`${text.replaceAll("`", "``")}\``;

/** Database and table of a grant; `*` stands for all. */
export function placeOf(on: string): { readonly database: string; readonly table: string } {
  const at = on.indexOf(".");
  return { database: on.slice(0, at), table: on.slice(at + 1) };
}

/** In a grant on a whole database `_` and `%` are wildcards. Source: MySQL manual, GRANT. */
function placeText(on: string): string {
  const { database, table } = placeOf(on);
  if (database === "*") return "*.*";
  if (table !== "*") return `${identifier(database)}.${identifier(table)}`;
  return `${identifier(database.replace(/[_%\\]/g, "\\$&"))}.*`;
}

/** `identified`: how the password is told, e.g. `identified by 'x'`. */
export function defaultCreationOf(
  { roles = [], grants = [] }: MysqlLeaseSettings,
  account: Account,
  identified: string,
): Labelled[] {
  const to = accountText(account);
  return [
    { label: "creation", text: `create user ${to} ${identified}` },
    ...roles.map((role, index) => ({ label: `roles[${index}]`, text: `grant ${quoted(role)} to ${to}` })),
    ...grants.map((grant, index) => ({
      label: `grants[${index}]`,
      text: `grant ${grant.privileges.join(", ")} on ${placeText(grant.on)} to ${to}`,
    })),
  ];
}

/** `password`: as SQL. */
export const creationOf = (settings: MysqlLeaseSettings, user: LeasedUser, account: Account, password: string): Labelled[] =>
  rendered("creationStatements", settings.creationStatements, { ...valuesOf(user, account), password });

export const renewalOf = (settings: MysqlLeaseSettings, user: LeasedUser, account: Account): Labelled[] =>
  rendered("renewalStatements", settings.renewalStatements, valuesOf(user, account));

export const revocationOf = (settings: MysqlLeaseSettings, user: LeasedUser, account: Account): Labelled[] =>
  rendered("revocationStatements", settings.revocationStatements, valuesOf(user, account));

const valuesOf = (user: LeasedUser, account: Account) => ({
  username: accountText(account),
  usernameText: quoted(user.name),
  expiration: quoted(new Date(user.expiresAt).toISOString().slice(0, 19).replace("T", " ")),
});

function rendered(list: string, statements: readonly string[] = [], values: Readonly<Record<string, string>>): Labelled[] {
  return statements.map((statement, index) => ({
    label: `${list}[${index}]`,
    text: renderStatement(statement, mysqlDialect, values),
  }));
}
