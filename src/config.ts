import { join } from "node:path";
import { ConfigError } from "./core/error.ts";
import { isRegion } from "./core/region.ts";
import {
  choice,
  count,
  type Listen,
  list,
  listen,
  onOff,
  path,
  postgresUrl,
  rootKey,
  type Setting,
  text,
  userRange,
  webUrl,
} from "./setting.ts";

/** Neither empty nor with characters that could not be meant: the server knows the rest. */
const isConfigName = (value: string): boolean => /^[^\p{Cc}/]{1,128}$/u.test(value);

/**
 * Every setting of server and client. `databaseUrl` is the flag `--database-url` and the variable `REKEY_DATABASE_URL`;
 * a flag wins over the variable. `parts` says who reads it: the server, commands that work on the store, clients, clients
 * of the config API, and agents.
 */
export const settings = {
  data: path("DIR", {
    parts: ["server", "store", "agent"],
    default: "./.rekey",
    about: "folder of the embedded store and its keys, or of an agent's own",
  }),
  databaseUrl: postgresUrl({ parts: ["server", "store"], about: "keep everything in this PostgreSQL instead" }),
  listen: listen({ parts: ["server"], default: "127.0.0.1:7353", about: "where to answer; port 0 picks a free one" }),
  region: text("REGION", isRegion, {
    parts: ["server", "store", "client"],
    default: "us-east-1",
    range: "an AWS region such as eu-central-1",
    about: "region of secrets when a request names none",
  }),
  account: text("ID", (value) => /^\d{12}$/.test(value), {
    parts: ["server", "store"],
    default: "000000000000",
    range: "12 digits",
    about: "account number in every ARN",
  }),
  rootKey: rootKey({ parts: ["server", "store"], about: "where the root key is (default: file:DIR/root.key)" }),
  metricsListen: listen({ parts: ["server"], about: "answer GET /metrics here (default: on --listen, to loopback only)" }),
  engine: onOff({ parts: ["server"], default: "on", about: "run what is due: rotations, purges" }),
  processes: count("N", 1, 64, { parts: ["server"], default: "1", about: "processes that share the work on this machine" }),
  extendedSchedules: onOff({ parts: ["server"], default: "off", flag: true, about: "allow minutes and seconds in rate()" }),
  tlsCert: path("FILE", { parts: ["server"], about: "certificate chain in PEM" }),
  tlsKey: path("FILE", { parts: ["server"], about: "its private key in PEM" }),
  insecureListen: onOff({ parts: ["server"], default: "off", flag: true, about: "allow plain HTTP beyond loopback" }),
  logLevel: choice("LEVEL", ["trace", "debug", "info", "warn", "error", "fatal"], {
    parts: ["server", "agent"],
    default: "info",
    about: "least important log lines shown: trace, debug, info, warn, error, fatal",
  }),
  maxBodyBytes: count("BYTES", 131_072, 16_777_216, { parts: ["server"], default: "1048576", about: "largest request body" }),
  maxConnections: count("N", 16, 65_536, { parts: ["server"], default: "2048", about: "most open connections" }),
  requestTimeoutSeconds: count("N", 1, 600, { parts: ["server"], default: "30", about: "longest wait for a request to arrive" }),
  maxRequestsPerSecond: count("N", 1, 1_000_000, {
    parts: ["server"],
    default: "10000",
    about: "most requests of one principal in a second, to one process",
  }),
  maxFailedLoginsPerMinute: count("N", 1, 1_000_000, {
    parts: ["server"],
    default: "60",
    about: "most refused logins of one address in a minute",
  }),
  historyDays: count("N", 1, 3650, {
    parts: ["server"],
    default: "400",
    about: "days for which ended rotations and events are kept",
  }),
  rotationsAtOnce: count("N", 1, 256, { parts: ["server"], default: "8", about: "most rotations at the same time" }),
  rotationsPerTarget: count("N", 1, 256, {
    parts: ["server"],
    default: "10",
    about: "most rotations at the same time at one target",
  }),
  settleMs: count("MS", 0, 10_000, { parts: ["server"], default: "100", about: "wait before a password is switched" }),
  readBarrierMs: count("MS", 0, 10_000, { parts: ["server"], default: "1000", about: "longest wait of a read during a switch" }),
  drainSeconds: count("N", 0, 600, {
    parts: ["server", "agent"],
    default: "20",
    about: "longest wait for open requests when stopping, or for jobs",
  }),
  functionsDir: path("DIR", {
    parts: ["server"],
    about: "folder of the programs that functions may run (default: they run none)",
  }),
  functionsUsers: userRange({
    parts: ["server"],
    about: "users of the operating system that they run as; same: the server's own, whose files and keys they can read",
  }),
  functionsPython: path("FILE", { parts: ["server"], default: "python3", about: "program that runs Python functions" }),
  codeSigning: choice("MODE", ["off", "warn", "enforce"], {
    parts: ["server"],
    default: "off",
    about: "signatures of the programs that functions run; enforce: none runs without one, warn: it does, and is on record",
  }),
  codePublishers: path("PATH", {
    parts: ["server"],
    about: "public keys of those whose programs may run: a file or a folder of PEM or JWK",
  }),
  functionsLambda: onOff({
    parts: ["server"],
    default: "off",
    flag: true,
    about: "let functions call AWS Lambda with this server's AWS credentials",
  }),
  functionsReleases: path("DIR", {
    parts: ["server"],
    about:
      "folder with the newest code of Rekey's own functions of AWS Lambda: manifest.json and zips (default: those of this version)",
  }),
  functionsReleaseKey: path("FILE", {
    parts: ["server"],
    about: "public key, a JWK, that must have signed that manifest.json",
  }),
  functionsLambdaPrefix: text("TEXT", (value) => /^[A-Za-z0-9_-]{1,64}$/.test(value), {
    parts: ["server"],
    range: "1 to 64 letters, digits, - and _",
    about: "call those functions of AWS Lambda only whose names begin so, such as rekey- (default: any)",
  }),
  server: webUrl({ parts: ["agent"], about: "address of the server that an agent works for" }),
  enroll: text("TOKEN", (value) => /^rekey-enrol\.[\w-]{40,4096}$/.test(value), {
    parts: ["agent"],
    range: "a token of rekey agent enroll-token, rekey-enrol and what follows",
    about: "make this an agent, with a token of rekey agent enroll-token; needed once",
  }),
  network: text("NAME", isConfigName, {
    parts: ["agent"],
    range: "the name of a network",
    about: "refuse to work in another network than this one",
  }),
  name: text("NAME", isConfigName, {
    parts: ["agent"],
    range: "at most 128 characters, without slash",
    about: "what lists call the agent (default: the machine's name)",
  }),
  allow: list("RULE", {
    parts: ["agent"],
    range: "rules such as postgres://db.internal:5432",
    about: "let the agent connect to KIND://HOST:PORT; may be repeated (default: the rules in DIR/allow)",
  }),
  ca: path("FILE", { parts: ["agent"], about: "authorities in PEM to trust in place of those of the system" }),
  insecure: onOff({ parts: ["agent"], default: "off", flag: true, about: "allow plain http to a server beyond loopback" }),
  jobsAtOnce: count("N", 1, 64, { parts: ["agent"], default: "8", about: "most jobs that an agent works on at the same time" }),
  project: text("NAME", isConfigName, {
    parts: ["config"],
    short: "p",
    range: "the id or name of a project",
    about: "project; default what .rekey.yaml says here or in a folder above",
  }),
  config: text("NAME", isConfigName, {
    parts: ["config"],
    short: "c",
    range: "the name of a config",
    about: "config of the project; default what .rekey.yaml says",
  }),
  endpoint: webUrl({ parts: ["client", "config"], about: "address of the server" }),
  token: text("TOKEN", (value) => /^dp\.[a-z]+\.[\w.-]{40,4096}$/.test(value), {
    parts: ["client", "config"],
    range: "a token that begins with dp.",
    about: "who you are",
  }),
} satisfies Record<string, Setting<unknown>>;

type Settings = typeof settings;
type SettingName = keyof Settings;
type Part = "server" | "store" | "client" | "config" | "agent";
type ValueOf<S> = S extends Setting<infer T> ? T : never;

/** All settings with their values; those of other parts than the one loaded stand at their defaults. */
export type Config = { readonly [K in Exclude<SettingName, "rootKey">]: ValueOf<Settings[K]> | Missing<Settings[K]> } & {
  readonly rootKey: string;
};
type Missing<S> = S extends { readonly default: string } ? never : undefined;
/** What commander read, by the camelCase name of the flag; `true` for a flag without value. */
export type Flags = Readonly<Record<string, unknown>>;

/** Names of variables that `rekey run` sets for its child beside settings. */
const toldToChildren = ["REKEY_ENVIRONMENT"];

export const flagOf = (name: string): string => `--${kebab(name)}`;
export const variableOf = (name: string): string => `REKEY_${kebab(name).replaceAll("-", "_").toUpperCase()}`;
const kebab = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The settings that one part reads, in the order of the table. */
export function settingsOf(part: Part): [SettingName, Setting<unknown>][] {
  const all = Object.entries(settings) as [SettingName, Setting<unknown>][];
  return all.filter(([, setting]) => setting.parts.includes(part));
}

/**
 * The settings of a part, from flags and environment.
 * @throws ConfigError with everything that is wrong: unknown REKEY_ names, values out of range, settings that contradict.
 */
export function loadConfig(part: Part, env: NodeJS.ProcessEnv, flags: Flags = {}): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(settings) as [string, Setting<unknown>][]) {
    const given = setting.parts.includes(part) ? readGiven(name, env, flags) : undefined;
    const text = given?.text ?? setting.default;
    const value = text === undefined ? undefined : setting.parse(text);
    if (text !== undefined && value === undefined) problems.push(`${given?.source} must be ${setting.range}.`);
    values[name] = value;
  }
  const config = values as unknown as Config;
  if (part === "server") problems.push(...unknownFlags(flags));
  problems.push(...unknownNames(env, config.rootKey));
  if (part === "server" && config.listen !== undefined) problems.push(...contradictions(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return { ...config, rootKey: config.rootKey ?? `file:${join(config.data, "root.key")}` };
}

function readGiven(name: string, env: NodeJS.ProcessEnv, flags: Flags): { text: string; source: string } | undefined {
  const flag = flags[name];
  if (flag !== undefined) return { text: flag === true ? "on" : String(flag), source: flagOf(name) };
  const variable = env[variableOf(name)];
  return variable === undefined || variable === "" ? undefined : { text: variable, source: variableOf(name) };
}

function unknownNames(env: NodeJS.ProcessEnv, rootKeySetting: string | undefined): string[] {
  const known = new Set([...Object.keys(settings).map(variableOf), ...toldToChildren]);
  if (rootKeySetting?.startsWith("env:")) known.add(rootKeySetting.slice("env:".length));
  return Object.keys(env)
    .filter((name) => name.startsWith("REKEY_") && !known.has(name))
    .sort()
    .map((name) => notASetting(name, known));
}

/** Other commands have flags of their own beside the settings; the server has none. */
function unknownFlags(flags: Flags): string[] {
  const known = new Set(settingsOf("server").map(([name]) => flagOf(name)));
  return Object.keys(flags)
    .map(flagOf)
    .filter((flag) => !known.has(flag))
    .map((flag) => notASetting(flag, known));
}

function notASetting(name: string, known: ReadonlySet<string>): string {
  const near = [...known].find((candidate) => isNear(candidate, name));
  return `${name} is not a setting${near ? `; did you mean ${near}?` : "; `rekey server --help` lists all of them."}`;
}

function contradictions(config: Config): string[] {
  const { listen, metricsListen, tlsCert, tlsKey, insecureListen } = config;
  const problems = functionProblems(config);
  if ((config.functionsReleases === undefined) !== (config.functionsReleaseKey === undefined))
    problems.push("--functions-releases and --functions-release-key belong together: give both.");
  if ((tlsCert === undefined) !== (tlsKey === undefined)) problems.push("--tls-cert and --tls-key belong together: give both.");
  if (!isLoopback(listen) && !tlsCert && !insecureListen)
    problems.push("--listen beyond loopback needs --tls-cert and --tls-key, or --insecure-listen if something else does TLS.");
  if (metricsListen && metricsListen.port !== 0 && metricsListen.port === listen.port && metricsListen.host === listen.host)
    problems.push("--metrics-listen must be another address than --listen.");
  return problems;
}

/** To run functions with the server's own rights is asked for by name: they could read the root key. */
function functionProblems({ functionsDir, functionsUsers, processes, codeSigning, codePublishers }: Config): string[] {
  if (codeSigning !== "off" && codeSigning !== undefined && codePublishers === undefined)
    return ["--code-signing needs --code-publishers: the public keys of those whose programs may run."];
  if (functionsDir === undefined) return [];
  if (functionsUsers === undefined)
    return [
      "--functions-dir needs --functions-users: numbers of users to run the functions as, such as 64000-64039, or same, which lets them read all that the server reads, keys too.",
    ];
  if (functionsUsers === "same") return [];
  const problems: string[] = [];
  if (process.getuid?.() !== 0)
    problems.push("--functions-users needs a server that is started as root: only root may run programs as others.");
  if (functionsUsers.last - functionsUsers.first + 1 < processes)
    problems.push("--functions-users must name at least as many users as there are --processes.");
  return problems;
}

/** Whether only this machine can reach the address. */
function isLoopback({ host }: Listen): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** One letter changed, missing or extra, or two neighbours swapped. */
function isNear(a: string, b: string): boolean {
  let start = 0;
  while (start < a.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  return (left.length <= 1 && right.length <= 1) || (left.length === 2 && left === `${right[1]}${right[0]}`);
}
