import mysql from "mysql2";
import { type Account, accountsOf, definition, grantsOf } from "./mysql-accounts.ts";
import type { Session } from "./mysql-session.ts";
import type { Comparison, Difference } from "./target.ts";

/** Of each kind at most so many are told. */
const most = 1_000;

const accountText = ({ user, host }: Account): string => `${mysql.escape(user)}@${mysql.escape(host)}`;

/** What the accounts of two users do not have alike, host pattern by host pattern. */
export async function compareMysql(db: Session, names: readonly [string, string]): Promise<Comparison> {
  const [first, second] = [await accountsOf(db, names[0]), await accountsOf(db, names[1])];
  const users = [
    { name: names[0], exists: first.length > 0 },
    { name: names[1], exists: second.length > 0 },
  ];
  if (users.some(({ exists }) => !exists)) return { users, differences: [], advice: [] };
  const hosts = [...new Set([...first, ...second].map(({ host }) => host))].sort();
  const differences: Difference[] = [];
  for (const host of hosts) {
    const [one, two] = [first, second].map((accounts) => accounts.find((account) => account.host === host));
    if (one && two) differences.push(...(await compareAccounts(db, one, two)));
    else differences.push({ kind: "attribute", what: `account at ${host}`, ...yes(one, two), statements: [] });
  }
  const owned = await readOwned(db, names);
  const advice = owned.length > 0 ? [ownerAdvice] : [];
  return { users, differences: [...differences, ...owned], advice };
}

const ownerAdvice =
  "What one user defined runs with its rights, and stops when it is dropped: let a user that does not log in be the definer.";

function yes(first: unknown, second: unknown): Pick<Difference, "first" | "second"> {
  return { ...(first !== undefined && { first: "yes" }), ...(second !== undefined && { second: "yes" }) };
}

async function compareAccounts(db: Session, first: Account, second: Account): Promise<Difference[]> {
  const [one, two] = [await grantsOf(db, first), await grantsOf(db, second)];
  const differing = [...new Set([...one.keys(), ...two.keys()])].filter((right) => one.has(right) !== two.has(right));
  const grants = differing.sort().map((right): Difference => {
    const give = one.get(right) ?? two.get(right);
    const [kind, text] = kindOf(right);
    const statements = [give?.(accountText(one.has(right) ? second : first)) ?? ""];
    return { kind, what: `${text} (at ${first.host})`, ...yes(one.get(right), two.get(right)), statements };
  });
  return [...(await compareOptions(db, first, second)), ...grants.slice(0, most)];
}

function kindOf(right: string): [Difference["kind"], string] {
  if (right.startsWith("SET DEFAULT ROLE")) return ["setting", right];
  if (!right.includes(" ON ")) return ["membership", right.replace(/^GRANT /, "role ")];
  return ["grant", right.replace(/^GRANT /, "")];
}

/** What an account has beside its password: requirements, limits, validity. */
const options = [
  ["attribute", "REQUIRE", / REQUIRE (.*?)(?= WITH | PASSWORD | ACCOUNT | COMMENT | ATTRIBUTE |$)/s],
  ["limit", "WITH", / WITH ((?:MAX_\w+ [\d.]+ ?)+)/s],
  ["limit", "PASSWORD EXPIRE", / PASSWORD EXPIRE( [^ ]+(?: \d+ DAY)?)?/s],
  ["attribute", "ACCOUNT", / ACCOUNT (LOCK|UNLOCK)\b/s],
] as const;

async function compareOptions(db: Session, first: Account, second: Account): Promise<Difference[]> {
  const [one, two] = [await definition(db, first), await definition(db, second)];
  return options.flatMap(([kind, name, pattern]) => {
    const [a, b] = [one, two].map((text) => normal(name, pattern.exec(text)));
    if (a === b) return [];
    const change = `alter user ${accountText(second)} ${name} ${a ?? defaults[name]}`;
    const values = { ...(a !== undefined && { first: a }), ...(b !== undefined && { second: b }) };
    return [{ kind, what: `${name} (at ${first.host})`, ...values, statements: [change] }];
  });
}

const defaults = { REQUIRE: "NONE", WITH: "MAX_USER_CONNECTIONS 0", "PASSWORD EXPIRE": "DEFAULT", ACCOUNT: "UNLOCK" } as const;

/** What is said and what goes without saying are one. */
function normal(name: keyof typeof defaults, match: RegExpExecArray | null): string | undefined {
  const value = match && (match[1] ?? "now").trim();
  return value === null || value === "" || value === defaults[name] ? undefined : value;
}

/** Views, routines, triggers and events that one of the two defined. */
async function readOwned(db: Session, [first, second]: readonly [string, string]): Promise<Difference[]> {
  const definer = `substring_index(definer, '@', 1)`;
  const mine = `${definer} in (${mysql.escape(first)}, ${mysql.escape(second)})`;
  const rows = await db.read<{ what: string; who: string }>(
    `select concat('view ', table_schema, '.', table_name) as what, ${definer} as who from information_schema.views where ${mine}
     union all select concat(lower(routine_type), ' ', routine_schema, '.', routine_name), ${definer}
       from information_schema.routines where ${mine}
     union all select concat('trigger ', trigger_schema, '.', trigger_name), ${definer}
       from information_schema.triggers where ${mine}
     union all select concat('event ', event_schema, '.', event_name), ${definer} from information_schema.events where ${mine}
     order by what limit ${most}`,
  );
  return rows.map(({ what, who }) => ({
    kind: "ownership",
    what,
    ...(who === first ? { first: "is its definer" } : { second: "is its definer" }),
    statements: [],
  }));
}
