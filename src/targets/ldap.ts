import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { distinguishedName, startTls, tlsOf } from "./ldap-names.ts";
import { type LdapLogin, passwordModifyOid, type Session, withSession } from "./ldap-session.ts";
import type { Finding, Rotator, RotatorTools, Strategy, Versions } from "./target.ts";

/** What differs between directories. */
interface Dialect {
  readonly kind: string;
  readonly engines: readonly string[];
  /** Without `old`, by the right to set anybody's. */
  setPassword(session: Session, dn: string, password: string, old?: string): Promise<void>;
  /** Which extended operation that is, if it is one. */
  readonly extension?: string;
  readonly needsTls?: boolean;
}

const keys = z.looseObject({
  username: distinguishedName,
  usernames: z.array(distinguishedName).optional(),
  starttls: startTls,
});
/** A superuser may be named as Active Directory likes it; never by a word that the client would read as another mechanism. */
const adminKeys = z.looseObject({
  username: z.union([distinguishedName, z.string().regex(/^[^\s@\\]+@[^\s@\\]+$|^[^\s@\\]+\\[^\s@\\]+$/)]),
});

function ldapRotator(dialect: Dialect): Rotator<DatabaseCredential> {
  const secret = databaseSecret({
    scheme: "ldap",
    engines: dialect.engines,
    port: 636,
    maxName: { length: 8192, of: (name) => Buffer.byteLength(name), unit: "bytes" },
    namedUsers: true,
  });

  const also = (shape: z.ZodType) =>
    secret.credential.superRefine((value, context) => {
      for (const { path, message } of shape.safeParse(value).error?.issues ?? [])
        context.addIssue({ code: "custom", path, message });
    });

  const login = (credential: DatabaseCredential): LdapLogin => {
    const { ssl, ...place } = secret.login(credential);
    if (ssl === false && dialect.needsTls) throw new RotatorError("invalid", `${dialect.kind} takes passwords over TLS only`);
    return { ...place, tls: tlsOf({ port: place.port, ssl, ...keys.pick({ starttls: true }).parse(credential) }) };
  };
  const session = async <T>(credential: DatabaseCredential, { deadlineAt }: RotatorTools, work: (db: Session) => Promise<T>) =>
    withSession(login(credential), deadlineAt, work);

  async function setOwn(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
    const { pending, admin } = versions;
    await withFirstAccepted(secret.loginsOf(versions), (candidate) =>
      session(candidate, tools, async (db) => {
        if (candidate === admin) return dialect.setPassword(db, pending.username, pending.password);
        // Set already, and proven by login: policies refuse the same password again.
        if (candidate.password === pending.password) return;
        await dialect.setPassword(db, pending.username, pending.password, candidate.password);
      }),
    );
  }

  async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
    const { pending, current } = versions;
    mustBeNamed(current);
    const admin = secret.superuserOf(versions);
    if (await logsIn(pending, tools)) return;
    await session(admin, tools, async (db) => {
      await mustBelong(db, pending, current);
      await dialect.setPassword(db, pending.username, pending.password);
    });
  }

  /** @throws RotatorError when it cannot be told */
  async function logsIn(credential: DatabaseCredential, tools: RotatorTools): Promise<boolean> {
    const outcome = await outcomeOf(rotator.test(credential, tools));
    if (outcome === "ok" || outcome === "refused" || outcome === "locked" || outcome === "expired") return outcome === "ok";
    throw new RotatorError(outcome, `${credential.username}: it is not known whether it logs in`);
  }

  function mustBeNamed(credential: DatabaseCredential): void {
    if (secret.isNamed(credential)) return;
    throw new RotatorError("invalid", "alternating users need usernames, the distinguished names of two entries");
  }

  const rotator: Rotator<DatabaseCredential> = {
    kind: dialect.kind,
    strategies: ["single-user", "alternating-users"],
    outwaited: true,
    credential: also(keys),
    admin: also(adminKeys),
    account: secret.account,
    at: secret.at,

    async create(current, strategy, tools) {
      if (strategy === "alternating-users") mustBeNamed(current);
      return secret.create(current, strategy, tools);
    },

    set: (versions, strategy, tools) => (strategy === "alternating-users" ? setOther(versions, tools) : setOwn(versions, tools)),

    test: (pending, tools) => session(pending, tools, async () => undefined), // a login is all that it may be allowed
    probe: (candidate, tools) => outcomeOf(rotator.test(candidate, tools)),

    async retire(old, { current, admin }, _strategy, tools) {
      mustBeNamed(current);
      if (old.username === current.username) return; // one password for one entry: it went with the change
      const superuser = secret.superuserOf({ current, pending: old, previous: undefined, admin });
      if (!(await logsIn(old, tools))) return;
      await session(superuser, tools, async (db) => {
        await mustBelong(db, old, current);
        await dialect.setPassword(db, old.username, secret.newPassword(tools)); // which nobody keeps
      });
    },

    check: ({ current, admin }, strategy, tools) =>
      session(strategy === "alternating-users" && admin ? admin : current, tools, (db) => findProblems(db, current, strategy)),
  };

  async function findProblems(db: Session, current: DatabaseCredential, strategy: Strategy): Promise<Finding[]> {
    const findings: Finding[] = [];
    const step = "setSecret";
    if (dialect.extension && !(await db.extensions()).includes(dialect.extension)) {
      findings.push({
        step,
        problem: "the server does not offer Password Modify (RFC 3062)",
        remedy: "allow the extended operation there",
      });
    }
    if (strategy !== "alternating-users") return findings;
    if (!secret.isNamed(current)) {
      const remedy = "put both distinguished names into usernames";
      return [...findings, { step: "createSecret", problem: "usernames does not name two entries", remedy }];
    }
    const other =
      [current.usernames]
        .flat()
        .map(String)
        .find((name) => name !== current.username) ?? "";
    for (const [one, two] of [
      [other, current.username],
      [current.username, other],
    ] as const) {
      await mustBelong(db, { ...current, username: one }, { ...current, username: two }).catch((error: unknown) => {
        if (!(error instanceof RotatorError)) throw error;
        findings.push({ step, problem: error.message, remedy: `give ${one} the attribute seeAlso: ${two}` });
      });
    }
    return findings;
  }

  return rotator;
}

/** Else whoever may write the secret could have the superuser set anybody's password. @throws RotatorError `invalid` */
async function mustBelong(db: Session, other: DatabaseCredential, current: DatabaseCredential): Promise<void> {
  const belongs = await db.compare(other.username, "seeAlso", current.username).catch((error: unknown) => {
    if (error instanceof RotatorError && error.outcome === "invalid") return false; // no such entry or attribute
    throw error;
  });
  if (belongs) return;
  throw new RotatorError("invalid", `${other.username} does not say that it belongs to ${current.username} (attribute seeAlso)`);
}

/** Directories that know Password Modify of RFC 3062: OpenLDAP, 389 Directory Server and others. */
export const ldap = ldapRotator({
  kind: "ldap",
  engines: ["ldap", "openldap"],
  setPassword: (session, name, password, old) => session.modifyPassword(name, password, old),
  extension: passwordModifyOid,
});

/** Active Directory, by `unicodePwd`. */
export const activeDirectory = ldapRotator({
  kind: "activedirectory",
  engines: ["activedirectory"],
  setPassword: (session, name, password, old) => session.modifyUnicodePwd(name, password, old),
  needsTls: true,
});
