import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { callApi, callPages, rowsOf } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import { addConfigNoun, type ConfigCommand, confirmed, wrapped } from "./config-command.ts";
import { type Answer, type Columns, cell, printFields, printLine, printTable } from "./output.ts";
import type { ConfigConnection } from "./scope.ts";
import { memberOptions, membersOf } from "./typed-members.ts";
import { secondsOf, secretBytes } from "./typed-values.ts";

/** Commands on rotated secrets. */
export function addRotatedCommands(program: Command): void {
  addConfigNoun(program, "rotated", "Credentials that a config shows and that are rotated at their targets", [
    create,
    list,
    get,
    update,
    rotate,
    resume,
    history,
    remove,
  ]);
}

const inConfig = ({ project, config }: ConfigConnection) => ({ project, config });
const oneOf = (connection: ConfigConnection, name: string | undefined) => ({ ...inConfig(connection), id: name });
const integrationOf = ({ integration }: Answer) => (integration as Answer | undefined)?.name;
const rotationOf = ({ rotation }: Answer) => rotation as Answer | undefined;

const details: Columns = {
  Name: "name",
  Project: "project",
  Config: "config",
  Integration: integrationOf,
  State: "state",
  Paused: "pausedReason",
  Credential: "credential",
  Changes: "fieldNames",
  "Rotated every": ({ rotationPeriodSeconds }) => daysOf(rotationPeriodSeconds),
  "Last rotation": "lastRotatedAt",
  "Next rotation": "nextRotationAt",
  "Newest rotation": (secret) => rotationOf(secret)?.state,
  Reason: (secret) => rotationOf(secret)?.reason,
  Remedy: (secret) => rotationOf(secret)?.remedy,
  Secret: "secretArn",
};

function daysOf(seconds: unknown): string {
  const days = Number(seconds) / 86_400;
  return Number.isInteger(days) ? `${days} d` : `${cell(seconds)} s`;
}

function showOne(answer: Answer): void {
  printFields(wrapped(answer, "rotatedSecret"), details);
  for (const { problem, remedy } of rowsOf(answer, "warnings")) printLine(`Warning: ${cell(problem)} (${cell(remedy)})`);
}

const create: ConfigCommand = {
  usage: "create <name>",
  about: "have a config show a credential that is rotated; what is given is tried first, and left as it is",
  needs: "config",
  options: {
    "--integration <integration>": "whose user manages the credentials, by name or id",
    "--every <duration>": "how often it is rotated, as 30d or 12h",
    "--user <name...>": "users who take turns; their passwords are asked for",
    "--credentials <path>": "instead: a JSON list of the credentials, - for standard input",
    ...memberOptions("parameters, such as DATABASE"),
    "--rotate-now": "rotate it as soon as it is made, so that nobody knows the password in use",
  },
  notes: `A database has two users, whom nothing else uses: the config shows one of them, and each rotation gives the other a new
password and shows that one. What was fetched stays good until the rotation after the next. Redis has one user, and AWS IAM one
access key: the old password or key ends some time after the new one is shown.

The list of --credentials: [{"username": "app_1", "password": "…"}, {"username": "app_2", "password": "…"}]`,
  examples: [
    "rekey rotated create DB --integration main --every 30d --user app_1 --user app_2",
    "rekey rotated create DB --integration main --every 12h --credentials - < credentials.json",
    "rekey rotated create KEY --integration aws --every 90d --set USERNAME=deploy --credentials key.json",
  ],
  async ask({ args, options }, connection) {
    const rotationPeriodSeconds = secondsOf(options.every, "--every");
    if (options.integration === undefined || rotationPeriodSeconds === undefined)
      throw new CommandError(
        2,
        "give --integration, whose user manages the credentials, and --every, how often they are rotated",
      );
    return callApi(connection, "rotated-secrets/create", {
      ...inConfig(connection),
      name: args[0],
      integration: options.integration,
      rotationPeriodSeconds,
      parameters: await membersOf(options),
      credentials: await credentialsOf(options),
      rotateImmediately: options.rotateNow,
    });
  },
  show: showOne,
};

async function credentialsOf({ user, credentials }: Flags): Promise<unknown> {
  if (Array.isArray(user) === (credentials !== undefined)) throw new CommandError(2, "give either --user or --credentials");
  if (credentials !== undefined) return listIn(await secretBytes({ path: String(credentials), text: true, question: "" }));
  if (!process.stdin.isTTY) throw new CommandError(2, "passwords of --user are asked for on a terminal: give --credentials here");
  const found: object[] = [];
  for (const username of user as readonly string[]) {
    const bytes = await secretBytes({ path: undefined, text: true, question: `Password of ${username}` });
    found.push({ username, password: bytes.toString("utf8") });
  }
  return found;
}

function listIn(bytes: Buffer): unknown {
  try {
    const read: unknown = JSON.parse(bytes.toString("utf8"));
    if (Array.isArray(read)) return read;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error; // its text quotes what is secret
  }
  throw new CommandError(2, "the credentials are no JSON list");
}

const list: ConfigCommand = {
  usage: "list",
  about: "list the rotated secrets of a config",
  needs: "config",
  examples: ["rekey rotated list"],
  ask: (_typed, connection) => callApi(connection, "rotated-secrets/list", inConfig(connection)),
  show: (answer) =>
    printTable(
      rowsOf(answer, "rotatedSecrets"),
      {
        NAME: "name",
        INTEGRATION: integrationOf,
        STATE: "state",
        EVERY: ({ rotationPeriodSeconds }) => daysOf(rotationPeriodSeconds),
        "LAST ROTATION": "lastRotatedAt",
        "NEXT ROTATION": "nextRotationAt",
        NEWEST: (secret) => rotationOf(secret)?.state,
      },
      "no rotated secrets",
    ),
};

const get: ConfigCommand = {
  usage: "get <name>",
  about: "show a rotated secret: how it stands, when it is rotated next, and what went wrong, if anything did",
  needs: "config",
  examples: ["rekey rotated get DB"],
  ask: ({ args }, connection) => callApi(connection, "rotated-secrets/get", oneOf(connection, args[0])),
  show: showOne,
};

const update: ConfigCommand = {
  usage: "update <name>",
  about: "change a rotated secret's name, or how often it is rotated",
  needs: "config",
  options: { "--name <name>": "its new name", "--every <duration>": "how often it is rotated, as 30d or 12h" },
  examples: ["rekey rotated update DB --every 7d"],
  ask: ({ args, options }, connection) =>
    callApi(connection, "rotated-secrets/update", {
      ...oneOf(connection, args[0]),
      name: options.name,
      rotationPeriodSeconds: secondsOf(options.every, "--every"),
    }),
  show: showOne,
};

const rotate: ConfigCommand = {
  usage: "rotate <name>",
  about: "rotate a rotated secret now",
  needs: "config",
  examples: ["rekey rotated rotate DB"],
  ask: ({ args }, connection) => callApi(connection, "rotated-secrets/rotate", oneOf(connection, args[0])),
  show: (_answer, { args }) => printLine(`${args[0]} is being rotated: rekey rotated get ${args[0]} shows how far it is`),
};

const resume: ConfigCommand = {
  usage: "resume <name>",
  about: "let rotations go on that were paused since the credential was changed outside",
  needs: "config",
  options: {
    "--password": "ask for the password that is in force now",
    "--credential <path>": "it, as a JSON object, - for standard input",
  },
  notes: "Without either, the credential that is known must log in again.",
  examples: ["rekey rotated resume DB", "rekey rotated resume DB --password"],
  async ask({ args, options }, connection) {
    return callApi(connection, "rotated-secrets/resume", {
      ...oneOf(connection, args[0]),
      credential: await credentialOf(options),
    });
  },
  show: showOne,
};

async function credentialOf({ password, credential }: Flags): Promise<object | undefined> {
  if (credential !== undefined) {
    const bytes = await secretBytes({ path: String(credential), text: true, question: "" });
    const [found] = listIn(Buffer.concat([Buffer.from("["), bytes, Buffer.from("]")])) as unknown[];
    if (typeof found === "object" && found !== null) return found;
    throw new CommandError(2, "the credential is no JSON object");
  }
  if (password !== true) return undefined;
  const bytes = await secretBytes({ path: undefined, text: true, question: "Password in force" });
  return { password: bytes.toString("utf8") };
}

const history: ConfigCommand = {
  usage: "history <name>",
  about: "list the rotations of a rotated secret, newest first",
  needs: "config",
  examples: ["rekey rotated history DB"],
  ask: ({ args }, connection) => callPages(connection, "rotated-secrets/history", "rotations", oneOf(connection, args[0])),
  show: (answer) =>
    printTable(
      rowsOf(answer, "rotations"),
      { STARTED: "startedAt", ENDED: "endedAt", STATE: "state", ORIGIN: "origin", REASON: "reason", REMEDY: "remedy" },
      "not rotated yet",
    ),
};

const remove: ConfigCommand = {
  usage: "delete <name>",
  about: "end a rotated secret; its values may be restored as a secret for 30 days",
  needs: "config",
  options: { "--yes": "without being asked" },
  examples: ["rekey rotated delete DB --yes"],
  async ask({ args, options }, connection) {
    await confirmed(options, `Delete ${args[0]}? The config shows it no more; its users stay at the target.`);
    return callApi(connection, "rotated-secrets/delete", oneOf(connection, args[0]));
  },
  show: ({ secretArn, deletionDate }, { args }) =>
    printLine(
      `${args[0]} is deleted; until ${cell(deletionDate)}, rekey secret restore ${cell(secretArn)} brings its values back`,
    ),
};
