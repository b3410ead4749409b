import type { Command } from "commander";
import { callApi, callPages, rowsOf } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import { addConfigNoun, type ConfigCommand, confirmed, wrapped } from "./config-command.ts";
import { endingOf, inConfig } from "./dynamic.ts";
import { type Answer, type Columns, cell, printFields, printLine, printTable } from "./output.ts";
import { numberOf, secondsOf } from "./typed-values.ts";

/** Commands on leases. */
export function addLeaseCommands(program: Command): void {
  addConfigNoun(program, "lease", "Credentials that were made from dynamic secrets, each for a time", [
    issue,
    list,
    get,
    renew,
    revoke,
    revokeAll,
    orphans,
  ]);
}

const details: Columns = {
  Lease: "id",
  "Dynamic secret": ({ project, config, dynamicSecret }) => `${project}/${config}/${dynamicSecret}`,
  User: "user",
  Target: "target",
  State: "state",
  Why: "why",
  "Issued to": "principal",
  Workload: "workload",
  Holders: "shares",
  Issued: "createdAt",
  Ends: "expiresAt",
  "At the latest": "maxExpiresAt",
  "Failed tries to end it": ({ failedTries }) => (failedTries === 0 ? undefined : failedTries),
  Reason: "reason",
  "Next try": "nextTryAt",
  Ended: "endedAt",
};

const showOne = (answer: Answer): void => printFields(wrapped(answer, "lease"), details);

const issue: ConfigCommand = {
  usage: "issue <dynamic-secret>",
  about: "make a credential, and print it",
  needs: "config",
  options: {
    "--ttl <duration>": "how long it lives, e.g. 15m",
    "--workload <name>": "which of your programs it is for: leases are shared and counted by that",
  },
  notes: "It ends by itself; rekey lease revoke ends it before.",
  examples: ["rekey lease issue DB --ttl 15m", "rekey lease issue DB --json"],
  ask: ({ args, options }, connection) =>
    callApi(
      connection,
      "leases/issue",
      {
        ...inConfig(connection),
        dynamicSecret: args[0],
        ttlSeconds: secondsOf(options.ttl, "--ttl"),
        workload: options.workload,
      },
      90_000,
    ),
  show(answer) {
    const { id, expiresAt, user } = wrapped(answer, "lease");
    const given = answer.fields as Readonly<Record<string, unknown>>;
    printFields({ ...given, Lease: id, Ends: expiresAt, User: user }, columnsOf([...Object.keys(given), "Lease", "Ends"]));
  },
};

const columnsOf = (names: readonly string[]): Columns => Object.fromEntries(names.map((name) => [name, name]));

const list: ConfigCommand = {
  usage: "list",
  about: "list leases, newest first: of everything, or of a project or config that is named",
  needs: "server",
  options: {
    "--dynamic <name>": "only those of a dynamic secret",
    "--state <state>": "only those that are creating, active, revoking or ended",
    "--principal <arn>": "only those of one principal",
    "--user <name>": "only that of a user at the target",
    "--max <number>": "how many, default 100",
  },
  examples: ["rekey lease list --state active", "rekey lease list --project shop --config prd --dynamic DB"],
  ask: ({ options }, connection) =>
    callPages(
      connection,
      "leases/list",
      "leases",
      {
        project: options.project,
        config: options.config,
        dynamicSecret: options.dynamic,
        state: options.state,
        principal: options.principal,
        user: options.user,
        limit: Math.min(numberOf(options.max, "--max") ?? 100, 1000),
      },
      numberOf(options.max, "--max") ?? 100,
    ),
  show: (answer) =>
    printTable(
      rowsOf(answer, "leases"),
      {
        LEASE: "id",
        "DYNAMIC SECRET": ({ project, config, dynamicSecret }) => `${project}/${config}/${dynamicSecret}`,
        STATE: "state",
        USER: "user",
        ENDS: ({ endedAt, expiresAt }) => endedAt ?? expiresAt,
        "ISSUED TO": "principal",
        REASON: "reason",
      },
      "no leases",
    ),
};

const get: ConfigCommand = {
  usage: "get <lease>",
  about: "show how a lease stands",
  needs: "server",
  examples: ["rekey lease get 3f0c2a6e-0f54-4e1c-9d5b-8f3f5f8f0b11"],
  ask: ({ args }, connection) => callApi(connection, "leases/get", { leaseId: args[0] }),
  show: showOne,
};

const renew: ConfigCommand = {
  usage: "renew <lease>",
  about: "let a lease live for longer, up to the maximum that it began with",
  needs: "server",
  options: { "--ttl <duration>": "from now on, default as long as before" },
  examples: ["rekey lease renew 3f0c2a6e-0f54-4e1c-9d5b-8f3f5f8f0b11 --ttl 1h"],
  ask: ({ args, options }, connection) =>
    callApi(connection, "leases/renew", { leaseId: args[0], ttlSeconds: secondsOf(options.ttl, "--ttl") }),
  show: (answer, { args }) => printLine(`${args[0]} ends at ${cell(wrapped(answer, "lease").expiresAt)}`),
};

const revoke: ConfigCommand = {
  usage: "revoke <lease>",
  about: "end a lease now; what cannot be ended now is tried for ever",
  needs: "server",
  options: { "--unless-shared": "leave it to others that hold it" },
  examples: ["rekey lease revoke 3f0c2a6e-0f54-4e1c-9d5b-8f3f5f8f0b11"],
  ask: ({ args, options }, connection) =>
    callApi(connection, "leases/revoke", { leaseId: args[0], unlessShared: options.unlessShared }),
  show(answer, { args }) {
    const { state, reason } = wrapped(answer, "lease");
    if (state === "ended") printLine(`${args[0]} has ended`);
    else if (state === "active") printLine(`${args[0]} is left to others that hold it`);
    else printLine(`${args[0]} is being ended${reason === undefined ? "" : `, so far in vain: ${cell(reason)}`}`);
  },
};

const revokeAll: ConfigCommand = {
  usage: "revoke-all",
  about: "end all leases of a dynamic secret, of a config that is named, or of a principal",
  needs: "server",
  options: {
    "--dynamic <name>": "those of this dynamic secret",
    "--principal <arn>": "those of one principal",
    "--yes": "without being asked",
  },
  examples: [
    "rekey lease revoke-all --project shop --config prd --dynamic DB --yes",
    "rekey lease revoke-all --principal arn:aws:iam::000000000000:user/ann --yes",
  ],
  async ask({ options }, connection) {
    const { project, config, dynamic: dynamicSecret, principal } = options;
    if (config === undefined && principal === undefined)
      throw new CommandError(2, "say which: --project and --config, perhaps with --dynamic, or --principal");
    await confirmed(options, "End all these leases?");
    return callApi(connection, "leases/revoke-all", { project, config, dynamicSecret, principal });
  },
  show: ({ leasesEnding }) => printLine(endingOf(leasesEnding)),
};

const orphans: ConfigCommand = {
  usage: "orphans <integration>",
  about: "look for users at an integration's target that bear this deployment's mark and have no lease, and end them",
  needs: "server",
  notes: "Rekey does this every hour by itself.",
  examples: ["rekey lease orphans main"],
  ask: ({ args }, connection) => callApi(connection, "leases/find-orphans", { integration: args[0] }),
  show(answer) {
    if (answer.canList !== true) return printLine("this kind of target cannot say which users it has");
    printTable(rowsOf(answer, "orphans"), { USER: "user", "BEING ENDED BY LEASE": "leaseId" }, "every user has a lease");
    const byHand = answer.removeByHand as readonly string[];
    if (byHand.length > 0) printLine(`To be removed by hand, since nothing is known of how they were made: ${cell(byHand)}`);
  },
};
