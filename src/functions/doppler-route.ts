import { randomBytes, randomUUID } from "node:crypto";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { writeBareRequest } from "../crypto/messages.ts";
import type { FarCall, FarRoute } from "../targets/far.ts";
import type { LambdaFunction } from "./lambda.ts";
import { askLambda, audienceOf, type LambdaFarParts, signed } from "./lambda-far.ts";
import { farRefusal } from "./lambda-far-refusal.ts";

/** Kinds that Doppler's published agents know, with the port that their secrets may leave out. */
const dopplerKinds: Readonly<Record<string, number>> = { mysql: 3306, postgres: 5432, sqlserver: 1433 };

const text = z.string().min(1);
const credential = z.looseObject({
  host: text,
  port: z.coerce.number().int().min(1).max(65_535).optional(),
  username: text,
  password: text,
  dbname: text.optional(),
  ssl: z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]).optional(),
  sslrootcert: z.string().optional(),
});
type Credential = z.infer<typeof credential>;

const setInput = z.object({
  versions: z.object({ current: credential, pending: credential, previous: credential.optional(), admin: credential.optional() }),
  strategy: z.string(),
});
const oneInput = z.object({ credential });
const verifyInput = z.object({ connection: credential });

/** One of their requests. Source: what Doppler's published agents accept. */
interface AgentRequest {
  readonly type: "testCredentials" | "updateCredential";
  readonly body: object;
}

/**
 * Doppler's published agents as a far side: they set and test passwords of users that are there, and nothing else. Their
 * messages are signed and not sealed, so what carries them sees the passwords: AWS does.
 */
export function createDopplerRoute(parts: LambdaFarParts, record: LambdaFunction): FarRoute {
  const ask = async (call: FarCall, { type, body }: AgentRequest): Promise<Answer> => {
    const signing = await signed(parts);
    const request = {
      type,
      body,
      audience: audienceOf(record),
      id: randomUUID(),
      subject: call.subject,
      step: call.verb,
      fence: call.fence,
      notBeforeAt: signing.nowMs,
      expiresAt: call.deadlineAt,
    };
    const answer = await askLambda(parts, record, await writeBareRequest(request, signing), call.deadlineAt);
    if ("status" in answer && answer.status === "ok") return { ok: answer.body };
    if ("metadata" in answer) {
      const { message = "" } = answer.metadata;
      if (message === notValid) return { notValid: true };
      throw connectionFailure(record, message) ?? farRefusal(record, answer.metadata);
    }
    throw new RotatorError("unknown", `function ${record.name} answered as Rekey's own functions do: give --protocol rekey`);
  };
  const logsIn = async (call: FarCall, login: Credential): Promise<boolean> => {
    const { username, password } = login;
    const body = { ...addressOf(call.kind, login), users: [{ username, password }] };
    const answer = await ask(call, { type: "testCredentials", body });
    const said = "ok" in answer ? answer.ok.type : undefined;
    if (said === "valid" || said === "invalid") return said === "valid";
    throw new RotatorError("unknown", `function ${record.name} did not say whether user ${username} logs in`);
  };
  const verbs: Readonly<Record<string, (call: FarCall) => Promise<unknown>>> = {
    "rotator.set": (call) => set(call, (request) => ask(call, request)),
    "rotator.probe": async (call) => ((await logsIn(call, read(oneInput, call).credential)) ? "ok" : "refused"),
    // Of an integration, whose user manages others.
    "lease.verify": async (call) => {
      const { connection } = read(verifyInput, call);
      if (await logsIn(call, connection)) return { identity: connection.username };
      throw new RotatorError("refused", `user ${connection.username} is refused`);
    },
    "rotator.test": async (call) => {
      const { credential: pending } = read(oneInput, call);
      if (!(await logsIn(call, pending))) throw new RotatorError("refused", `user ${pending.username} is refused`);
      // Where everyone is let in, nothing was changed by a change.
      if (await logsIn(call, { ...pending, password: randomBytes(24).toString("base64url") }))
        throw new RotatorError("invalid", `${pending.host} lets user ${pending.username} in with any password`);
      return null;
    },
  };
  return {
    async call(call) {
      const verb = verbs[call.verb];
      if (!verb || !Object.hasOwn(dopplerKinds, call.kind))
        throw new RotatorError(
          "invalid",
          `Doppler's agents cannot do ${call.verb} at ${call.kind}: they set and test passwords of users at ${Object.keys(dopplerKinds).join(", ")}. Rekey's own functions can.`,
        );
      return { answer: await verb(call) };
    },
  };
}

type Answer = { readonly ok: Readonly<Record<string, unknown>> } | { readonly notValid: true };
/** Word for word. */
const notValid = "Unable to update credential, current credential is not valid";

/**
 * The agents want the user's present password: which of the known ones it is, is found by trying. The new one comes last: it
 * is in force when an earlier try got through, and is set once more.
 */
async function set(call: FarCall, ask: (request: AgentRequest) => Promise<Answer>): Promise<null> {
  const { versions, strategy } = read(setInput, call);
  const { pending, current, previous, admin } = versions;
  if (strategy !== "single-user" && strategy !== "alternating-users")
    throw new RotatorError("invalid", `Doppler's agents cannot rotate by ${strategy}`);
  for (const other of [current, ...(admin ? [admin] : [])]) mustBeAt(pending, other);
  if (strategy === "alternating-users" && !admin && call.kind !== "sqlserver")
    throw new RotatorError("invalid", "alternating users need masterarn, the ARN of a superuser's secret");
  const known = [current, ...(previous ? [previous] : []), pending].filter(({ username }) => username === pending.username);
  const managing = admin ?? current;
  for (const { password: currentPassword } of known) {
    const body = {
      ...addressOf(call.kind, pending),
      // SQL Server's contained users change their own.
      ...(call.kind !== "sqlserver" && {
        managingUser: {
          username: managing.username,
          password: managing === current ? currentPassword : managing.password,
        },
      }),
      rotateUser: { username: pending.username, currentPassword, newPassword: pending.password },
    };
    if ("ok" in (await ask({ type: "updateCredential", body }))) return null;
  }
  throw new RotatorError(
    "refused",
    `user ${pending.username} is refused with every password that this secret has of it, and Doppler's agents change none that they are not told`,
  );
}

/** Else a secret could carry a superuser's password to another server. */
function mustBeAt(pending: Credential, other: Credential): void {
  const same = pending.host.toLowerCase() === other.host.toLowerCase() && (pending.port ?? 0) === (other.port ?? 0);
  if (!same) throw new RotatorError("invalid", "host and port of the versions and of the superuser's secret must be the same");
}

/** What their requests have in common. TLS is verified unless the secret says `"ssl": false`: they cannot try it first. */
function addressOf(kind: string, { host, port, dbname, ssl, sslrootcert: ca }: Credential): object {
  const place = { host, port: port ?? dopplerKinds[kind] };
  if (kind === "sqlserver") return { ...place, database: dbname ?? "master" };
  if (ca !== undefined && !ca.includes("-----BEGIN CERTIFICATE-----"))
    throw new RotatorError("invalid", "sslrootcert must be PEM text where one of Doppler's agents connects: a file is not there");
  return {
    ...place,
    ...(dbname !== undefined || kind === "postgres" ? { database: dbname ?? "postgres" } : {}),
    // Spelt as they spell it.
    ...(ssl === false ? {} : { ssl: { ...(ca !== undefined && { ca }), rejectUauthorized: true } }),
  };
}

function read<T>(shape: z.ZodType<T>, { input, verb }: FarCall): T {
  const { data } = shape.safeParse(input);
  if (data !== undefined) return data;
  throw new RotatorError("invalid", `the secret lacks host, username or password that ${verb} needs`);
}

/** Their sentences are their drivers', which may quote what was sent: only what they mean is taken over. */
function connectionFailure({ name }: LambdaFunction, message: string): RotatorError | undefined {
  const reach = "See that the function's network and the security groups on both sides let it reach the database.";
  if (/ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN/.test(message))
    return new RotatorError("unreachable", `function ${name} cannot reach the database. ${reach}`);
  if (/ETIMEDOUT|timeout|timed out|ECONNRESET|terminated/i.test(message))
    return new RotatorError("unknown", `function ${name} lost the database, or waited for it in vain. ${reach}`);
  if (/certificate|self[- ]signed|SSL|TLS|altnames|secure connection/i.test(message))
    return new RotatorError(
      "tls",
      `function ${name} does not trust the database, or it speaks no TLS: set sslrootcert to its authority's PEM text, or "ssl": false.`,
    );
  return undefined;
}
