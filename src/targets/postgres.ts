import { createHash } from "node:crypto";
import pg from "pg";
import { z } from "zod";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { setCloned } from "./postgres-clone.ts";
import { type PostgresLogin, type Session, withSession } from "./postgres-session.ts";
import { scramVerifier } from "./scram.ts";
import type { Rotator, RotatorTools, Versions } from "./target.ts";

const engines = ["postgres", "postgresql", "aurora-postgresql"];
const cloneSuffix = "_clone";
/** Longer names are cut by the server without a word. Source: PostgreSQL documentation, `NAMEDATALEN`. */
const maxNameBytes = 63;

/** No NUL: it would end the name on the wire and begin another setting. */
const text = z
  .string()
  .min(1)
  .refine((value) => !value.includes("\0"), "may not contain NUL");
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]);

/** The keys of AWS's database secrets; others pass through untouched. */
const keys = z.looseObject({
  engine: z
    .string()
    .refine((value) => engines.includes(value), "must be postgres")
    .optional(),
  host: text,
  port: z.coerce.number().int().min(1).max(65_535).default(5432),
  username: text,
  password: text,
  dbname: text.default("postgres"),
  ssl: flag.optional(),
  sslrootcert: z.string().min(1).optional(),
  masterarn: z.string().optional(),
});

/** Checked, and kept as it was written, so that the next version differs in username and password only. */
const credential = z
  .looseObject({ host: z.string(), username: z.string(), password: z.string() })
  .superRefine((value, context) => {
    const checked = keys.safeParse(value);
    for (const issue of checked.error?.issues ?? [])
      context.addIssue({ code: "custom", path: issue.path, message: issue.message });
  });
export type PostgresCredential = z.infer<typeof credential>;

/** Characters that connection URLs, shells or configuration files read as their own. */
const unsafe = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~";

/** PostgreSQL, with a password verifier made here: the server is never told a password. */
export const postgres: Rotator<PostgresCredential> = {
  kind: "postgres",
  strategies: ["single-user", "alternating-users"],
  credential,

  account(current, strategy) {
    const { host, port, username } = login(current);
    const name = strategy === "alternating-users" ? originalName(username) : username;
    return `postgres://${host.toLowerCase()}:${port}/${encodeURIComponent(name)}`;
  },

  async create(current, strategy, tools) {
    const username = strategy === "alternating-users" ? otherName(current.username) : current.username;
    return { ...current, username, password: tools.generatePassword({ length: 32, exclude: unsafe }) };
  },

  async set(versions, strategy, tools) {
    const verifier = await scramVerifier(versions.pending.password);
    await (strategy === "alternating-users" ? setOther(versions, verifier, tools) : setOwn(versions, verifier, tools));
  },

  test: (pending, tools) =>
    withSession(login(pending), session(pending, tools), async (db) => {
      await db.read("select 1");
    }),

  async probe(candidate, tools): Promise<OutcomeClass> {
    try {
      await postgres.test(candidate, tools);
      return "ok";
    } catch (error) {
      if (error instanceof RotatorError) return error.outcome;
      throw error;
    }
  },
};

/** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(versions: Versions<PostgresCredential>, verifier: string, tools: RotatorTools): Promise<void> {
  const { pending, current, previous, admin } = versions;
  mustMatch(pending, current, ["host", "port", "username"], "the pending version");
  const logins = [current, pending, ...(previous && sameAccount(previous, pending) ? [previous] : [])];
  if (admin) {
    mustMatch(admin, current, ["host", "port"], "the superuser's secret");
    logins.push(admin);
  }
  const change = `alter role ${pg.escapeIdentifier(pending.username)} password ${pg.escapeLiteral(verifier)}`;
  let refusal: RotatorError | undefined;
  for (const candidate of logins) {
    try {
      await withSession(login(candidate), session(pending, tools), async (db) => {
        await endEarlierCalls(db, pending);
        await db.change(change);
      });
      return;
    } catch (error) {
      if (!(error instanceof RotatorError && error.outcome === "refused")) throw error;
      refusal ??= error;
    }
  }
  throw refusal ?? new RotatorError("refused", `role ${pending.username}: no version of the password is accepted`);
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<PostgresCredential>, verifier: string, tools: RotatorTools): Promise<void> {
  const { pending, current, admin } = versions;
  mustMatch(pending, current, ["host", "port"], "the pending version");
  if (pending.username !== otherName(current.username)) {
    throw new RotatorError("invalid", `the pending user ${pending.username} is not the other one of ${current.username}`);
  }
  if (!admin) throw new RotatorError("invalid", "alternating users need masterarn, the ARN of a superuser's secret");
  mustMatch(admin, current, ["host", "port"], "the superuser's secret");
  await withSession(login(admin), session(pending, tools), async (db) => {
    await endEarlierCalls(db, pending);
    await setCloned(db, { name: pending.username, original: originalName(current.username), verifier });
  });
}

/** A call whose caller died may still change the password: end it before deciding anything, by the account's mark. */
async function endEarlierCalls(db: Session, account: PostgresCredential): Promise<void> {
  await db.read(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where application_name like $1 and pid <> pg_backend_pid() and pg_has_role(current_user, usesysid, 'usage')`,
    [`${mark(account)}%`],
  );
}

/** One rotation at a time changes an account, so that another session with its mark is a leftover. */
function mark(credential: PostgresCredential): string {
  const account = postgres.account(credential, "alternating-users");
  return `rekey ${createHash("sha256").update(account).digest("hex").slice(0, 16)} `;
}

const session = (credential: PostgresCredential, { rotationId, deadlineAt }: RotatorTools) => ({
  applicationName: `${mark(credential)}${rotationId}`.slice(0, maxNameBytes),
  deadlineAt,
});

/** @throws RotatorError `invalid`, naming the keys that are wrong. */
function login(credential: PostgresCredential): PostgresLogin {
  const { data, error } = keys.safeParse(credential);
  if (error)
    throw new RotatorError(
      "invalid",
      `the secret's ${error.issues.map(({ path, message }) => `${path.join(".")} ${message}`).join("; ")}`,
    );
  const { host, port, username, password, dbname, ssl, sslrootcert } = data;
  return { host, port, username, password, dbname, ssl, sslrootcert };
}

const originalName = (name: string): string => (name.endsWith(cloneSuffix) ? name.slice(0, -cloneSuffix.length) : name);

function otherName(name: string): string {
  const other = name.endsWith(cloneSuffix) ? originalName(name) : `${name}${cloneSuffix}`;
  if (other === "" || Buffer.byteLength(other) > maxNameBytes) {
    throw new RotatorError("invalid", `${name}${cloneSuffix} is no role name: a name has at most ${maxNameBytes} bytes`);
  }
  return other;
}

type Compared = "host" | "port" | "username";

function same(a: PostgresCredential, b: PostgresCredential, name: Compared): boolean {
  const [x, y] = [login(a)[name], login(b)[name]];
  return name === "host" ? String(x).toLowerCase() === String(y).toLowerCase() : x === y;
}

const sameAccount = (a: PostgresCredential, b: PostgresCredential): boolean =>
  (["host", "port", "username"] as const).every((name) => same(a, b, name));

/** Else a secret could carry a superuser's password, or a change, to another server. */
function mustMatch(a: PostgresCredential, b: PostgresCredential, names: readonly Compared[], what: string): void {
  const differing = names.find((name) => !same(a, b, name));
  if (differing) throw new RotatorError("invalid", `${differing} of ${what} does not match the secret's current version`);
}
