import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { allNodes, atAll, type Node, nodeList, persistence, placeOf } from "./redis-nodes.ts";
import { type Session, withSession } from "./redis-session.ts";
import { changePasswords, findProblems, hashOf, passwordsOf } from "./redis-users.ts";
import type { Access, Finding, Rotator, RotatorTools } from "./target.ts";

const secret = databaseSecret({
  scheme: "redis",
  engines: ["redis", "valkey"],
  port: 6379,
  maxName: { length: 1024, of: (name) => Buffer.byteLength(name), unit: "bytes" },
});

/** What only such users have. Quotes in a name the server takes, and then does not start again from the file that it wrote. */
const keys = z.looseObject({
  username: z.string().regex(/^[^\s"'\\]+$/, "may not contain blanks, quotes or backslashes"),
  nodes: nodeList,
  persist: persistence,
});

/** Users of Redis and Valkey, from version 6: they may have several passwords, which the server keeps, and is told, as hashes. */
export const redis: Rotator<DatabaseCredential> = {
  kind: "redis",
  strategies: ["dual-slot", "single-user"],
  credential: secret.credential.superRefine((value, context) => {
    for (const { path, message } of keys.safeParse(value).error?.issues ?? [])
      context.addIssue({ code: "custom", path, message });
  }),
  account: secret.account,
  create: secret.create,

  async set(versions, strategy, tools) {
    const { pending, current, previous } = versions;
    if (strategy === "single-user" && nodesOf(pending).length > 1) {
      throw new RotatorError("invalid", "several nodes cannot change a password at one instant: use the dual-slot strategy");
    }
    const wanted = hashOf(pending);
    await asManager(versions, tools, async (db) => {
      const passwords = await passwordsOf(db, pending.username);
      const others = strategy === "single-user" ? [] : [current, ...(previous ? [previous] : [])].map(hashOf);
      const inForce = others.find((hash) => passwords.includes(hash)); // it has the other slot
      const difference = {
        add: passwords.includes(wanted) ? [] : [wanted],
        remove: passwords.filter((hash) => hash !== wanted && hash !== inForce),
      };
      await changePasswords(db, pending.username, difference, persists(pending));
    });
  },

  test: (pending, tools) =>
    atNodes(pending, (node) =>
      withSession({ ...secret.login(pending), ...node }, tools.deadlineAt, async (db) => {
        await db.read(["PING"]).catch(ignoreDenied); // it has logged in: not every user may say more
      }),
    ),

  probe: (candidate, tools) => outcomeOf(redis.test(candidate, tools)),

  async retire(old, access, _strategy, tools) {
    const { current } = access;
    secret.mustMatch(old, current, ["host", "port", "username"], "the version to end");
    const ended = hashOf(old);
    if (ended === hashOf(current)) throw new RotatorError("invalid", "the password to end is the current one");
    await asManager(access, tools, async (db) => {
      const remove = (await passwordsOf(db, current.username)).filter((hash) => hash === ended);
      await changePasswords(db, current.username, { add: [], remove }, persists(current));
    });
  },

  at({ nodes: _, ...credential }, { host, port }) {
    return { ...(credential as DatabaseCredential), host, ...(port === undefined ? {} : { port }) };
  },

  async check(access, _strategy, tools) {
    const { current, previous } = access;
    const known = [current, ...(previous ? [previous] : [])].map(hashOf);
    const findings: Finding[] = [];
    await asManager(access, tools, async (db, manager) => {
      const { username } = current;
      findings.push(...(await findProblems(db, { username, manager, persist: persists(current), known })));
    });
    return findings;
  },
};

const persists = (credential: DatabaseCredential): boolean => keys.parse(credential).persist;

/** The secret's `host` is the first. */
const nodesOf = (credential: DatabaseCredential): Node[] => allNodes(secret.login(credential), keys.parse(credential).nodes);

const atNodes = async (credential: DatabaseCredential, work: (node: Node) => Promise<void>): Promise<void> => {
  await atAll(nodesOf(credential), work);
};

interface Opened extends Access<DatabaseCredential> {
  readonly pending?: DatabaseCredential;
  readonly previous?: DatabaseCredential | undefined;
}

/** At every node, as whoever may set passwords: the superuser where there is one, else the user itself. */
async function asManager(
  { current, admin, pending = current, previous }: Opened,
  { deadlineAt }: RotatorTools,
  work: (db: Session, name: string) => Promise<void>,
): Promise<void> {
  const own = secret.loginsOf({ current, pending, previous, admin: undefined });
  if (admin) mustServe(admin, pending);
  await atNodes(pending, (node) =>
    withFirstAccepted([...(admin ? [admin] : []), ...own], (candidate) =>
      withSession({ ...secret.login(candidate), ...node }, deadlineAt, (db) => work(db, candidate.username)),
    ),
  );
}

/** Else a secret could have the superuser's password sent to any server. @throws RotatorError `invalid` */
function mustServe(admin: DatabaseCredential, credential: DatabaseCredential): void {
  secret.mustMatch(admin, credential, ["host", "port"], "the superuser's secret");
  const allowed = new Set(nodesOf(admin).map(placeOf));
  const foreign = nodesOf(credential).find((node) => !allowed.has(placeOf(node)));
  if (foreign) throw new RotatorError("invalid", `${placeOf(foreign)} is not among the nodes of the superuser's secret`);
}

function ignoreDenied(error: unknown): void {
  if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
}
