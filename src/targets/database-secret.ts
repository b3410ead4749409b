import { z } from "zod";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import type { Endpoint, RotatorTools, Strategy, Versions } from "./target.ts";

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
  /** Whether `usernames` may name the two users that alternate. */
  readonly namedUsers?: boolean;
  /** Of the second user's name; absent: `_clone`. */
  readonly cloneSuffix?: string;
  /** What a generated password keeps to beyond what suits every consumer. */
  readonly password?: { readonly exclude?: string; readonly maxLength?: number };
}

type Compared = "host" | "port" | "username";

/** Characters that connection URLs, shells or configuration files read as their own: not in generated passwords. */
export const unsafeCharacters = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~";

/** No NUL: it would end the name on the wire and begin another setting. */
const text = z
  .string()
  .min(1)
  .refine((value) => !value.includes("\0"), "may not contain NUL");
/** The two users that alternate. */
const pair = z.tuple([text, text]).refine(([a, b]) => a !== b, "must name two different users");
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]);

/** Where and as whom to log in, by the keys that all databases share. */
export const loginMembers = (port: number) => ({
  host: text,
  port: z.coerce.number().int().min(1).max(65_535).default(port),
  username: text,
  password: text,
  ssl: flag.optional(),
  sslrootcert: z.string().min(1).optional(),
});

/**
 * The JSON of AWS's database secrets (`engine, host, port, username, password, dbname, ssl, masterarn`) for one kind of database,
 * and `usernames`, which AWS's lack.
 */
export function databaseSecret(rules: DatabaseRules) {
  const { scheme, engines, port, dbname, maxName, namedUsers, cloneSuffix = "_clone", password: shape } = rules;
  const keys = z.looseObject({
    engine: z
      .string()
      .refine((value) => engines.includes(value), `must be ${engines[0]}`)
      .optional(),
    ...loginMembers(port),
    usernames: namedUsers ? pair.optional() : z.undefined(`cannot be chosen for ${engines[0]}`).optional(),
    dbname: text.optional(),
    masterarn: z.string().optional(),
  });

  /** Checked, and kept as it was written, so that the next version differs in username and password only. */
  const credential: z.ZodType<DatabaseCredential> = z
    .looseObject({ host: z.string(), username: z.string(), password: z.string() })
    .superRefine((value, context) => {
      const checked = keys.safeParse(value);
      for (const issue of checked.error?.issues ?? [])
        context.addIssue({ code: "custom", path: issue.path, message: issue.message });
      if (checked.data?.usernames && !checked.data.usernames.includes(checked.data.username))
        context.addIssue({ code: "custom", path: ["username"], message: "must be one of usernames" });
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

  const namedPair = (value: DatabaseCredential): readonly [string, string] | undefined => pair.safeParse(value.usernames).data;

  /**
   * The other user of an alternating pair: of those that `usernames` names, or `app` and `app_clone`.
   * @throws RotatorError `invalid` when there is none, or the name is too long
   */
  function otherName(value: DatabaseCredential): string {
    const { username: name } = value;
    const named = namedPair(value);
    if (named && !named.includes(name)) throw new RotatorError("invalid", `username ${name} is none of usernames`);
    if (!named && !name.endsWith(cloneSuffix)) return checkedName(`${name}${cloneSuffix}`);
    return checkedName(named ? (named.find((one) => one !== name) ?? "") : originalName(name));
  }

  function checkedName(name: string): string {
    if (name !== "" && maxName.of(name) <= maxName.length) return name;
    throw new RotatorError("invalid", `"${name}" is no user name: a name has 1 to ${maxName.length} ${maxName.unit}`);
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

  /** @throws RotatorError `invalid` */
  function mustBeOther(pending: DatabaseCredential, current: DatabaseCredential): void {
    mustMatch(pending, current, ["host", "port"], "the pending version");
    const isOfPair = account(pending, "alternating-users") === account(current, "alternating-users");
    if (isOfPair && pending.username === otherName(current)) return;
    throw new RotatorError("invalid", `the pending user ${pending.username} is not the other one of ${current.username}`);
  }

  function account(value: DatabaseCredential, strategy: Strategy): string {
    const { host, port: at, username } = login(value);
    const alternate = strategy === "alternating-users";
    const names = (alternate && namedPair(value)) || [alternate ? originalName(username) : username];
    return `${scheme}://${host.toLowerCase()}:${at}/${[...names].sort().map(encodeURIComponent).join("+")}`;
  }

  /** @throws RotatorError `invalid` when a policy asks for more than the target takes */
  function newPassword(tools: RotatorTools): string {
    const password = tools.generatePassword({
      length: Math.min(32, shape?.maxLength ?? 32),
      exclude: `${unsafeCharacters}${shape?.exclude ?? ""}`,
    });
    if (password.length <= (shape?.maxLength ?? password.length)) return password;
    throw new RotatorError(
      "invalid",
      `a password here has at most ${shape?.maxLength} characters: ask for fewer in rotationPolicy`,
    );
  }

  return {
    credential,
    login,
    originalName,
    mustMatch,
    account,
    newPassword,
    /** Whether `usernames` says which two users alternate. */
    isNamed: (value: DatabaseCredential): boolean => namedPair(value) !== undefined,

    /** The next version: a new password, for the other user where users alternate. */
    async create(current: DatabaseCredential, strategy: Strategy, tools: RotatorTools): Promise<DatabaseCredential> {
      const username = strategy === "alternating-users" ? otherName(current) : current.username;
      return { ...current, username, password: newPassword(tools) };
    },

    /** The same login at a replica or a pooler. */
    at: (value: DatabaseCredential, { host, port: at }: Endpoint): DatabaseCredential => ({
      ...value,
      host,
      ...(at !== undefined && { port: at }),
    }),

    /** The superuser that sets the other user's password. @throws RotatorError `invalid` when the versions do not belong together */
    superuserOf({ pending, current, admin }: Versions<DatabaseCredential>): DatabaseCredential {
      mustBeOther(pending, current);
      if (!admin) throw new RotatorError("invalid", "alternating users need masterarn, the ARN of a superuser's secret");
      mustMatch(admin, current, ["host", "port"], "the superuser's secret");
      return admin;
    },

    /** What the other user of a named pair may log in with where no superuser sets its password; `undefined`: nothing is known. */
    othersOf({ pending, current, previous, admin }: Versions<DatabaseCredential>): DatabaseCredential[] | undefined {
      if (admin || !previous || previous.username !== pending.username || !namedPair(pending)) return undefined;
      mustBeOther(pending, current);
      mustMatch(previous, current, ["host", "port"], "the previous version");
      return [previous, pending];
    },

    /** What may log in as a single user, likeliest first; the superuser last. @throws RotatorError `invalid` likewise */
    loginsOf({ pending, current, previous, admin }: Versions<DatabaseCredential>): DatabaseCredential[] {
      const names = ["host", "port", "username"] as const;
      mustMatch(pending, current, names, "the pending version");
      if (admin) mustMatch(admin, current, ["host", "port"], "the superuser's secret");
      const isOfAccount = previous && names.every((name) => same(previous, pending, name));
      return [current, pending, ...(isOfAccount ? [previous] : []), ...(admin ? [admin] : [])];
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
