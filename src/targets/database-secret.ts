import { z } from "zod";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import type { RotatorTools, Strategy, Versions } from "./target.ts";

/** A database's credential as AWS's secrets write it; keys that are not named here pass through untouched. */
export interface DatabaseCredential {
  [key: string]: unknown;
  host: string;
  username: string;
  password: string;
}

/** Where and as whom to log in: what a connection needs of a credential, checked. */
export interface DatabaseLogin {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly dbname: string | undefined;
  /** Absent: verified TLS unless the server has none. */
  readonly ssl: boolean | undefined;
  /** A file or PEM text; absent: the system's authorities. */
  readonly sslrootcert: string | undefined;
}

/** What differs between databases in such a secret. */
export interface DatabaseRules {
  /** As in account texts: `mysql` in `mysql://host:3306/user`. */
  readonly scheme: string;
  /** Allowed in the secret's `engine` key. */
  readonly engines: readonly string[];
  readonly port: number;
  readonly dbname?: string;
  /** Longer user names are refused, or cut, by the server. */
  readonly maxName: { readonly length: number; readonly of: (name: string) => number; readonly unit: string };
}

type Compared = "host" | "port" | "username";

/** Characters that connection URLs, shells or configuration files read as their own: not in generated passwords. */
const unsafeCharacters = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~";

const cloneSuffix = "_clone";

/** No NUL: it would end the name on the wire and begin another setting. */
const text = z
  .string()
  .min(1)
  .refine((value) => !value.includes("\0"), "may not contain NUL");
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]);

/** The JSON of AWS's database secrets (`engine, host, port, username, password, dbname, ssl, masterarn`) for one kind of database. */
export function databaseSecret({ scheme, engines, port, dbname, maxName }: DatabaseRules) {
  const keys = z.looseObject({
    engine: z
      .string()
      .refine((value) => engines.includes(value), `must be ${engines[0]}`)
      .optional(),
    host: text,
    port: z.coerce.number().int().min(1).max(65_535).default(port),
    username: text,
    password: text,
    dbname: text.optional(),
    ssl: flag.optional(),
    sslrootcert: z.string().min(1).optional(),
    masterarn: z.string().optional(),
  });

  /** Checked, and kept as it was written, so that the next version differs in username and password only. */
  const credential: z.ZodType<DatabaseCredential> = z
    .looseObject({ host: z.string(), username: z.string(), password: z.string() })
    .superRefine((value, context) => {
      const checked = keys.safeParse(value);
      for (const issue of checked.error?.issues ?? [])
        context.addIssue({ code: "custom", path: issue.path, message: issue.message });
    });

  /** @throws RotatorError `invalid`, naming the keys that are wrong. */
  function login(value: DatabaseCredential): DatabaseLogin {
    const { data, error } = keys.safeParse(value);
    if (!data) {
      const problems = error.issues.map(({ path, message }) => `${path.join(".")} ${message}`);
      throw new RotatorError("invalid", `the secret's ${problems.join("; ")}`);
    }
    const { host, username, password, ssl, sslrootcert } = data;
    return { host, port: data.port, username, password, dbname: data.dbname ?? dbname, ssl, sslrootcert };
  }

  const originalName = (name: string): string => (name.endsWith(cloneSuffix) ? name.slice(0, -cloneSuffix.length) : name);

  /** The other user of an alternating pair: `app` and `app_clone`. @throws RotatorError `invalid` when the name is too long */
  function otherName(name: string): string {
    const other = name.endsWith(cloneSuffix) ? originalName(name) : `${name}${cloneSuffix}`;
    if (other === "" || maxName.of(other) > maxName.length) {
      throw new RotatorError(
        "invalid",
        `${name}${cloneSuffix} is no user name: a name has at most ${maxName.length} ${maxName.unit}`,
      );
    }
    return other;
  }

  function same(a: DatabaseCredential, b: DatabaseCredential, name: Compared): boolean {
    const [x, y] = [login(a)[name], login(b)[name]];
    return name === "host" ? String(x).toLowerCase() === String(y).toLowerCase() : x === y;
  }

  /** Else a secret could carry a superuser's password, or a change, to another server. @throws RotatorError `invalid` */
  function mustMatch(a: DatabaseCredential, b: DatabaseCredential, names: readonly Compared[], what: string): void {
    const differing = names.find((name) => !same(a, b, name));
    if (differing) throw new RotatorError("invalid", `${differing} of ${what} does not match the secret's current version`);
  }

  return {
    credential,
    login,
    originalName,
    mustMatch,

    /** The next version: a new password, for the other user where users alternate. */
    async create(current: DatabaseCredential, strategy: Strategy, tools: RotatorTools): Promise<DatabaseCredential> {
      const username = strategy === "alternating-users" ? otherName(current.username) : current.username;
      return { ...current, username, password: tools.generatePassword({ length: 32, exclude: unsafeCharacters }) };
    },

    /** The superuser that sets the other user's password. @throws RotatorError `invalid` when the versions do not belong together */
    superuserOf({ pending, current, admin }: Versions<DatabaseCredential>): DatabaseCredential {
      mustMatch(pending, current, ["host", "port"], "the pending version");
      if (pending.username !== otherName(current.username)) {
        throw new RotatorError("invalid", `the pending user ${pending.username} is not the other one of ${current.username}`);
      }
      if (!admin) throw new RotatorError("invalid", "alternating users need masterarn, the ARN of a superuser's secret");
      mustMatch(admin, current, ["host", "port"], "the superuser's secret");
      return admin;
    },

    /** What may log in as a single user, likeliest first; the superuser last. @throws RotatorError `invalid` likewise */
    loginsOf({ pending, current, previous, admin }: Versions<DatabaseCredential>): DatabaseCredential[] {
      const names = ["host", "port", "username"] as const;
      mustMatch(pending, current, names, "the pending version");
      if (admin) mustMatch(admin, current, ["host", "port"], "the superuser's secret");
      const isOfAccount = previous && names.every((name) => same(previous, pending, name));
      return [current, pending, ...(isOfAccount ? [previous] : []), ...(admin ? [admin] : [])];
    },

    account(value: DatabaseCredential, strategy: Strategy): string {
      const { host, port: at, username } = login(value);
      const name = strategy === "alternating-users" ? originalName(username) : username;
      return `${scheme}://${host.toLowerCase()}:${at}/${encodeURIComponent(name)}`;
    },
  };
}

/** Tries one login after another until one is not refused. @throws RotatorError the first refusal, or any other failure */
export async function withFirstAccepted(
  logins: readonly DatabaseCredential[],
  attempt: (login: DatabaseCredential) => Promise<void>,
): Promise<void> {
  let refusal: RotatorError | undefined;
  for (const login of logins) {
    try {
      return await attempt(login);
    } catch (error) {
      if (!(error instanceof RotatorError && error.outcome === "refused")) throw error;
      refusal ??= error;
    }
  }
  throw refusal ?? new RotatorError("refused", "no version of the password is accepted");
}

/** What a test meets, as an answer. */
export async function outcomeOf(test: Promise<void>): Promise<OutcomeClass> {
  try {
    await test;
    return "ok";
  } catch (error) {
    if (error instanceof RotatorError) return error.outcome;
    throw error;
  }
}
