import type { Flags } from "../config.ts";
import { callApi } from "./api-client.ts";
import { type ApiCommand, pickOptions } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, type Columns, printFields } from "./output.ts";
import { numberOf, secondsOf, yesOrNo } from "./typed-values.ts";

interface Place {
  readonly host: string;
  readonly port?: number;
}

const shown: Columns = {
  Secret: "name",
  "Time zone": ofPolicy("timeZone"),
  Blackouts: ofPolicy("blackouts"),
  "Jitter, s": ofPolicy("jitterSeconds"),
  "Ended after, s": ofPolicy("retireAfterSeconds"),
  "Ended on evidence": ofPolicy("retireOnEvidence"),
  Replicas: (row) => (ofPolicy("endpoints")(row) as Place[] | undefined)?.map(placeText),
  Quorum: ofPolicy("endpointQuorum"),
  "Heartbeat, s": ofPolicy("heartbeatSeconds"),
  Repair: ofPolicy("repair"),
  Password: (row) => passwordText(ofPolicy("password")(row) as Answer | undefined),
  "Pending is read": ofPolicy("readPending"),
  "Most per target": ofPolicy("maxPerTarget"),
  Network: ofPolicy("network"),
  "Next rotation": ofNext("startDate"),
  "Window ends": ofNext("windowEndsDate"),
  Why: ofNext("reason"),
};

/** Shows the policy of a secret's rotations, or changes what options name. */
export const policy: ApiCommand = {
  usage: "policy <secret>",
  about: "show or change what a secret's rotations keep to: time zone, blackouts, retirement, replicas, passwords",
  examples: [
    "rekey rotation policy app/db",
    "rekey rotation policy app/db --time-zone Europe/Berlin --blackout sat,sun --blackout 'mon-fri 08:00-18:00'",
    "rekey rotation policy app/db --retire-after 24h --replica replica.internal:5432",
    "rekey rotation policy app/db --clear blackouts",
  ],
  notes: "Durations are written 90s, 15m, 24h or 30d. A list that is given stands in for the one before.",
  operation: "rotations/put-policy",
  options: {
    "--retire-after <duration>": "end the old credential so long after a rotation",
    "--retire-on-evidence <yes|no>": "end it sooner when all readers have moved on",
    "--time-zone <name>": "IANA zone of schedule and blackouts, such as Europe/Berlin",
    "--blackout <when...>": "start nothing then: sat,sun or mon-fri 08:00-18:00 or 2026-12-20..2027-01-03",
    "--jitter <duration>": "start in this first part of the window only; 0s: at its beginning",
    "--replica <host:port...>": "replica or pooler that must take a new credential too",
    "--quorum <number>": "how many of the replicas and poolers must; default all",
    "--heartbeat <duration>": "try the current credential at the target so often",
    "--repair <yes|no>": "let a heartbeat set anew what it finds broken",
    "--password-length <number>": "new passwords have at least so many characters",
    "--password-exclude <characters>": "characters that new passwords do not have",
    "--password-url-safe <yes|no>": "only characters that URLs show as they are",
    "--read-pending <yes|no>": "let reads of all candidates show the pending value",
    "--max-per-target <number>": "rotations at once at this secret's target",
    "--network <name>": "where the target is: reached through that network's agents or functions",
    "--clear <name...>": "back to the default, such as blackouts or timeZone",
  },
  async ask({ args, options }, connection) {
    const changes = changesOf(options);
    const verb = Object.keys(changes).length === 0 ? "get-policy" : "put-policy";
    return callApi(connection, `rotations/${verb}`, { secretId: args[0], ...changes });
  },
  show: (answer) => printFields(answer, shown),
};

function changesOf(options: Flags): Record<string, unknown> {
  const replicas = options.replica as string[] | undefined;
  const given = {
    ...pickOptions(options, { timeZone: "timeZone", blackouts: "blackout", network: "network", clear: "clear" }),
    retireAfterSeconds: secondsOf(options.retireAfter, "--retire-after"),
    retireOnEvidence: yesOrNo(options.retireOnEvidence, "--retire-on-evidence"),
    jitterSeconds: secondsOf(options.jitter, "--jitter"),
    endpoints: replicas?.map(placeOf),
    endpointQuorum: numberOf(options.quorum, "--quorum"),
    heartbeatSeconds: secondsOf(options.heartbeat, "--heartbeat"),
    repair: yesOrNo(options.repair, "--repair"),
    password: passwordOf(options),
    readPending: yesOrNo(options.readPending, "--read-pending"),
    maxPerTarget: numberOf(options.maxPerTarget, "--max-per-target"),
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function passwordOf(options: Flags): object | undefined {
  const shape = {
    length: numberOf(options.passwordLength, "--password-length"),
    exclude: options.passwordExclude,
    urlSafe: yesOrNo(options.passwordUrlSafe, "--password-url-safe"),
  };
  const given = Object.entries(shape).filter(([, value]) => value !== undefined);
  return given.length > 0 ? Object.fromEntries(given) : undefined;
}

/** `db.internal`, `db.internal:5432`, `[::1]:5432`. @throws CommandError for usage. */
function placeOf(text: string): Place {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) throw new CommandError(2, "--replica is written HOST, HOST:PORT or [ADDRESS]:PORT");
  return port === undefined ? { host } : { host, port: Number(port) };
}

function placeText({ host, port }: Place): string {
  return port === undefined ? host : `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function passwordText(shape: Answer | undefined): string | undefined {
  if (!shape) return undefined;
  const { length, exclude, urlSafe } = shape;
  const parts = [length && `at least ${length} characters`, urlSafe && "safe in URLs", exclude && `without ${exclude}`];
  return parts.filter((part) => part).join(", ");
}

function ofPolicy(name: string): (row: Answer) => unknown {
  return ({ rotationPolicy }) => (rotationPolicy as Answer | undefined)?.[name];
}

function ofNext(name: string): (row: Answer) => unknown {
  return ({ nextRotation }) => (nextRotation as Answer | undefined)?.[name];
}
