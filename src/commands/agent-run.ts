import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import type { Config } from "../config.ts";
import { type EnrolmentToken, parseEnrolmentToken } from "../core/agent.ts";
import { ServiceError } from "../core/error.ts";
import type { AgentConnection } from "../functions/agent-connection.ts";
import type { AgentIdentity, Enrolled } from "../functions/agent-identity.ts";
import type { AllowRule } from "../targets/addresses.ts";
import { type AgentFolder, identityName, openAgentFolder } from "./agent-folder.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { printLine } from "./output.ts";
import { isAbsent } from "./private-file.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey agent run`, which is also what `rekey agent` with flags does. */
export function addAgentRunCommand(noun: Command): void {
  const command = noun
    .command("run", { isDefault: true })
    .description("Run an agent: rotate and lease inside of a private network, over connections that it makes itself")
    .addHelpText(
      "after",
      `
The first start needs --server, --enroll with a token of rekey agent enroll-token, and --allow for every target; it keeps
its keys and these settings in DIR. Later starts need --data alone. It listens nowhere; HTTPS_PROXY and NO_PROXY count.
SIGTERM finishes what it works on, then stops. It ends with 1 when the server has revoked it.
Each flag is also an environment variable, as shown; a flag wins. Give the token as REKEY_ENROLL where others see arguments.
${exampleText([
  "rekey agent --server https://rekey.example.com:7353 --enroll rekey-enrol.eyJ… --data /var/lib/rekey-agent --allow postgres://db.internal:5432",
  "rekey agent --data /var/lib/rekey-agent",
])}`,
    );
  command.allowExcessArguments(); // of `rekey agent`, commander would say too little
  addSettings(command, "agent").action(async () => {
    const [other] = command.args;
    if (other !== undefined) throw new CommandError(2, `unknown command '${other}'; --help shows what there is`);
    await runAgentCommand(readSettings("agent", command.opts()), versionOf(noun));
  });
}

const versionOf = (noun: Command): string => noun.parent?.version() ?? "unknown";

async function runAgentCommand(config: Config, version: string): Promise<void> {
  const [{ createLog }, { runAgent }, { openJournal }, { writeIdentity }] = await Promise.all([
    import("../log.ts"),
    import("../functions/agent.ts"),
    import("../functions/agent-journal.ts"),
    import("../functions/agent-identity.ts"),
  ]);
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  const token = tokenOf(config);
  if (!token && !existsSync(join(config.data, identityName)))
    throw new CommandError(
      2,
      `${config.data} holds no agent yet: give --server, --enroll with a token of rekey agent enroll-token, and --allow for each target`,
    );
  const folder = openAgentFolder(config.data);
  const allow = await allowRules(config, folder);
  const journal = openJournal(folder.journalFile);
  try {
    const identity = await identityOf(config, folder, { token, version, allow });
    const { enrolled } = identity;
    const log = createLog(config.logLevel);
    const connection = await connect(identity, version);
    printLine(
      `rekey: agent ${enrolled.name} works for ${identity.server} in network ${enrolled.network}, at ${allow.map(({ text }) => text).join(" ")}`,
    );
    const end = await runAgent({
      ...{ enrolled, keys: identity.keys, connection, journal, allow, version, log },
      ...{ jobsAtOnce: config.jobsAtOnce, drainMs: config.drainSeconds * 1000, stop: stop.signal },
      ...{ now: Date.now, random: Math.random },
      saveTrust: (trust) => folder.writeIdentity(writeIdentity({ ...identity, enrolled: { ...enrolled, trust } })),
    });
    connection.close();
    endSoon();
    if (end === "replaced")
      throw new CommandError(
        1,
        `another process with the keys of this agent works in its place, as with a copy of its folder: stop one of the two and make a token for each; if you know of no other, revoke it with rekey agent revoke ${enrolled.agentId} and rotate what it was sent`,
      );
    if (end === "revoked")
      throw new CommandError(
        1,
        `the server at ${identity.server} does not know this agent, or no more; to go on, remove ${folder.identityFile} and enrol again`,
      );
  } finally {
    journal.close();
  }
}

/** A target that does not answer must not keep a stopped agent. */
function endSoon(): void {
  setTimeout(() => process.exit(), 1_000).unref();
}

/** Flags and environment, else the file in the folder. @throws CommandError for usage, also when there is none */
async function allowRules({ allow: given }: Config, folder: AgentFolder): Promise<readonly AllowRule[]> {
  const { parseAllowRule } = await import("../targets/addresses.ts");
  const texts = given ?? folder.readAllow() ?? [];
  if (texts.length === 0)
    throw new CommandError(
      2,
      `nothing is allowed, so the agent could do nothing: name each target with --allow KIND://HOST:PORT, such as --allow postgres://db.internal:5432, or in ${folder.allowFile}, a line each`,
    );
  try {
    return texts.map(parseAllowRule);
  } catch (error) {
    if (error instanceof ServiceError) throw new CommandError(2, error.message);
    throw error;
  }
}

function tokenOf({ enroll }: Config): EnrolmentToken | undefined {
  const token = enroll === undefined ? undefined : parseEnrolmentToken(enroll);
  if (enroll !== undefined && !token) throw new CommandError(2, "--enroll is not a whole enrolment token; copy all of it");
  return token;
}

interface Introduction {
  readonly token: EnrolmentToken | undefined;
  readonly version: string;
  readonly allow: readonly AllowRule[];
}
type Known = AgentIdentity & { readonly enrolled: Enrolled };

/** The agent that the folder holds, or a new one when there is a token. @throws CommandError */
async function identityOf(config: Config, folder: AgentFolder, introduction: Introduction): Promise<Known> {
  const { readIdentity } = await import("../functions/agent-identity.ts");
  const { token } = introduction;
  const text = folder.readIdentity();
  const kept = text === undefined ? undefined : await readIdentity(text);
  if (text !== undefined && !kept) throw new CommandError(1, `${folder.identityFile} is damaged; remove it and enrol again`);
  if (kept?.enrolled) {
    checkKept(kept.enrolled, config, folder, token !== undefined && token.id !== kept.enrolmentId);
    return { ...kept, ...given(config), enrolled: kept.enrolled };
  }
  if (token) return enrolNew(config, folder, { ...introduction, token, kept });
  throw new CommandError(2, `${folder.path} holds an agent whose enrolment did not end; start it again with the same --enroll`);
}

/** What was given again must be what it was. */
function checkKept({ name, network }: Enrolled, config: Config, { path, identityFile }: AgentFolder, otherToken: boolean): void {
  const is = `${path} holds agent ${name} of network ${network}`;
  if (otherToken)
    throw new CommandError(
      1,
      `${is} already: start it without --enroll, or remove ${identityFile} to enrol it anew, or take another --data`,
    );
  if (config.network !== undefined && config.network !== network)
    throw new CommandError(1, `${is}, and not of network ${config.network}: take another --data, and a token of that network`);
  if (config.name !== undefined && config.name !== name)
    throw new CommandError(1, `${is}, and not ${config.name}: an agent keeps its name`);
}

interface Beginning extends Introduction {
  readonly token: EnrolmentToken;
  readonly kept: AgentIdentity | undefined;
}

/** The keys are on disk before the server hears of them: after a lost answer the same ones are shown again. */
async function enrolNew(config: Config, folder: AgentFolder, { token, kept, version, allow }: Beginning): Promise<Known> {
  const { newIdentity, writeIdentity } = await import("../functions/agent-identity.ts");
  const at = { ...kept, ...given(config) };
  const { server } = at;
  if (server === undefined) throw new CommandError(2, "say which server: --server https://HOST:PORT");
  if (config.network !== undefined && config.network !== token.network)
    throw new CommandError(1, `the enrolment token is for network ${token.network}, not for ${config.network}`);
  const place = { server, ca: at.ca };
  const connection = await connect(place, version);
  const begun = kept?.enrolmentId === token.id ? { ...kept, ...place } : await newIdentity(place, token);
  folder.writeIdentity(writeIdentity(begun));
  if (folder.readAllow() === undefined) folder.writeAllow(allow.map(({ text }) => text));
  const name = config.name ?? hostname();
  const enrolled = await askToEnrol(token, begun, { version, allow, name, connection });
  connection.close();
  const identity = { ...begun, enrolled };
  folder.writeIdentity(writeIdentity(identity));
  printLine(
    `rekey: enrolled as agent ${enrolled.name} of network ${enrolled.network}; later starts need --data ${folder.path} alone`,
  );
  return identity;
}

async function askToEnrol(
  token: EnrolmentToken,
  { keys, server }: AgentIdentity,
  { version, allow, name, connection }: Omit<Introduction, "token"> & { name: string; connection: AgentConnection },
): Promise<Enrolled> {
  const [{ enrol }, { NoAnswer }, { MessageRefused }] = await Promise.all([
    import("../functions/agent-keys.ts"),
    import("../functions/agent-connection.ts"),
    import("../crypto/message-refused.ts"),
  ]);
  const kinds = [...new Set(allow.map(({ kind }) => kind))];
  try {
    return await enrol(token, keys, { name, version, kinds }, { connection, now: Date.now });
  } catch (error) {
    if (error instanceof NoAnswer) throw new CommandError(3, `the server at ${server} could not be asked: ${error.message}`);
    if (error instanceof ServiceError)
      throw new CommandError(1, `the server refuses the enrolment: ${error.message} Make a token with rekey agent enroll-token.`);
    if (!(error instanceof MessageRefused)) throw error;
    const other = error.reason === "unknown-key" ? ` What answers at ${server} is not the server that made the token.` : "";
    throw new CommandError(1, `the server's answer is not believed: ${error.message}${other}`);
  }
}

/** What was said of the server this time; the rest is as the folder has it. @throws CommandError for plain http elsewhere */
function given({ server, ca, insecure }: Config): { server?: string; ca?: string } {
  const { protocol, hostname: host } = new URL(server ?? "https://localhost");
  const isHere = host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
  if (protocol === "http:" && !isHere && !insecure)
    throw new CommandError(
      2,
      `${server} is plain http beyond this machine: take https, or --insecure if something else protects the way`,
    );
  return { ...(server === undefined ? {} : { server }), ...(ca === undefined ? {} : { ca: readAuthorities(ca) }) };
}

async function connect({ server, ca }: Pick<AgentIdentity, "server" | "ca">, version: string): Promise<AgentConnection> {
  const { connectTo } = await import("../functions/agent-connection.ts");
  const { HTTPS_PROXY, HTTP_PROXY, NO_PROXY, https_proxy, http_proxy, no_proxy } = process.env;
  return connectTo({
    server,
    ca,
    userAgent: `rekey-agent/${version}`,
    proxies: { HTTPS_PROXY, HTTP_PROXY, NO_PROXY, https_proxy, http_proxy, no_proxy },
  });
}

function readAuthorities(path: string): string {
  try {
    const pem = readFileSync(path, "utf8");
    if (pem.includes("-----BEGIN CERTIFICATE-----")) return pem;
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  throw new CommandError(2, `--ca ${path} is not a file with certificates in PEM`);
}
