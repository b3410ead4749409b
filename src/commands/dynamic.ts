import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { callApi, rowsOf } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import { addConfigNoun, type ConfigCommand, confirmed, wrapped } from "./config-command.ts";
import { networkIn, networkOptions } from "./network.ts";
import { type Answer, type Columns, cell, printFields, printLine, printTable } from "./output.ts";
import type { ConfigConnection } from "./scope.ts";
import { memberOptions, membersOf } from "./typed-members.ts";
import { numberOf, secondsOf } from "./typed-values.ts";

/** Commands on dynamic secrets. */
export function addDynamicCommands(program: Command): void {
  addConfigNoun(program, "dynamic", "Recipes for credentials that are made just in time and end by themselves", [
    create,
    list,
    get,
    update,
    check,
    remove,
  ]);
}

const details: Columns = {
  Name: "name",
  Project: "project",
  Config: "config",
  Integration: ({ integration }) => (integration as Answer | undefined)?.name ?? (integration as Answer | undefined)?.id,
  Network: "network",
  Settings: "settings",
  Gives: "fieldNames",
  "Life of a lease": ({ defaultTtlSeconds, maxTtlSeconds }) => `${defaultTtlSeconds} s, at most ${maxTtlSeconds} s`,
  "Leases at once": ({ maxLeases, maxLeasesPerPrincipal }) =>
    `${maxLeases}, of one principal's workload ${maxLeasesPerPrincipal}`,
  Shared: ({ shareSeconds }) => (shareSeconds === 0 ? "no" : `with whoever of the same workload asks within ${shareSeconds} s`),
  "Live leases": "liveLeases",
  Changed: "updatedAt",
};

/** The config that is meant; a token of one config names it by itself. */
export const inConfig = ({ project, config }: ConfigConnection) => ({ project, config });

function showOne(answer: Answer): void {
  printFields(wrapped(answer, "dynamicSecret"), details);
  for (const { problem, remedy } of rowsOf(answer, "warnings")) printLine(`Warning: ${cell(problem)} (${cell(remedy)})`);
}

const settingOptions = {
  "--integration <integration>": "where the credentials are made, by name or id",
  "--network <name>": "make them in this network, and not in the integration's",
  ...memberOptions("its settings: statements, roles, policies"),
  "--ttl <duration>": "life of a lease that asks for none, default 30m",
  "--max-ttl <duration>": "longest life, renewals included, default 24h",
  "--max-leases <number>": "live at once, default 1000",
  "--max-per-principal <number>": "live at once of one principal's workload, default 50",
  "--share <duration>": "a workload that asks again within this gets the same lease, default 0s: never",
  "--skip-check": "without looking at the target first",
};

const settingsOf = async (options: Flags) => ({
  integration: options.integration,
  network: networkIn(options),
  settings: await membersOf(options),
  defaultTtlSeconds: secondsOf(options.ttl, "--ttl"),
  maxTtlSeconds: secondsOf(options.maxTtl, "--max-ttl"),
  maxLeases: numberOf(options.maxLeases, "--max-leases"),
  maxLeasesPerPrincipal: numberOf(options.maxPerPrincipal, "--max-per-principal"),
  shareSeconds: secondsOf(options.share, "--share"),
  skipCheck: options.skipCheck,
});

const create: ConfigCommand = {
  usage: "create <name>",
  about: "make a dynamic secret in a config; the target is looked at first, and left as it is",
  needs: "config",
  options: settingOptions,
  examples: [
    "rekey dynamic create DB --integration main --set 'roles=[\"readers\"]' --ttl 1h",
    "rekey dynamic create AWS --integration aws --file policy-settings.json",
  ],
  async ask({ args, options }, connection) {
    if (options.integration === undefined) throw new CommandError(2, "give --integration: where the credentials are made");
    const given = await settingsOf(options);
    return callApi(connection, "dynamic-secrets/create", {
      ...inConfig(connection),
      name: args[0],
      ...given,
      settings: given.settings ?? {},
    });
  },
  show: showOne,
};

const list: ConfigCommand = {
  usage: "list",
  about: "list the dynamic secrets of a config",
  needs: "config",
  examples: ["rekey dynamic list"],
  ask: (_typed, connection) => callApi(connection, "dynamic-secrets/list", inConfig(connection)),
  show: (answer) =>
    printTable(
      rowsOf(answer, "dynamicSecrets"),
      {
        NAME: "name",
        TYPE: ({ integration }) => (integration as Answer | undefined)?.type,
        INTEGRATION: ({ integration }) => (integration as Answer | undefined)?.name,
        LIFE: ({ defaultTtlSeconds }) => `${defaultTtlSeconds} s`,
        GIVES: "fieldNames",
      },
      "no dynamic secrets",
    ),
};

const get: ConfigCommand = {
  usage: "get <name>",
  about: "show a dynamic secret, and how many of its leases live",
  needs: "config",
  examples: ["rekey dynamic get DB"],
  ask: ({ args }, connection) => callApi(connection, "dynamic-secrets/get", { ...inConfig(connection), name: args[0] }),
  show: showOne,
};

const update: ConfigCommand = {
  usage: "update <name>",
  about: "change a dynamic secret; what is not named stays, and live leases keep what they were made with",
  needs: "config",
  options: { ...settingOptions, ...networkOptions },
  notes: "Settings are replaced as a whole.",
  examples: ["rekey dynamic update DB --max-leases 20"],
  ask: async ({ args, options }, connection) =>
    callApi(connection, "dynamic-secrets/update", { ...inConfig(connection), name: args[0], ...(await settingsOf(options)) }),
  show: showOne,
};

const check: ConfigCommand = {
  usage: "check <name>",
  about: "look at the target, without changing anything, for what would keep leases from being issued or ended",
  needs: "config",
  notes: "Exit code 1 means that something would fail.",
  examples: ["rekey dynamic check DB"],
  async ask({ args }, connection) {
    const answer = await callApi(connection, "dynamic-secrets/check", { ...inConfig(connection), name: args[0] });
    if (answer.works !== true) process.exitCode = 1;
    return answer;
  },
  show: (answer) =>
    printTable(
      rowsOf(answer, "findings"),
      { FINDING: ({ warning }) => (warning === true ? "warning" : "problem"), WHAT: "problem", REMEDY: "remedy" },
      "nothing stands in the way",
    ),
};

/** How many leases are being ended, in words. */
export const endingOf = (count: unknown): string =>
  count === 1 ? "1 lease is being ended" : `${cell(count)} leases are being ended`;

const remove: ConfigCommand = {
  usage: "delete <name>",
  about: "delete a dynamic secret and end all its leases",
  needs: "config",
  options: { "--yes": "without being asked" },
  examples: ["rekey dynamic delete DB --yes"],
  async ask({ args, options }, connection) {
    await confirmed(options, `Delete ${args[0]} and end all its leases?`);
    return callApi(connection, "dynamic-secrets/delete", { ...inConfig(connection), name: args[0] });
  },
  show: ({ leasesEnding }, { args }) => printLine(`${args[0]} is deleted; ${endingOf(leasesEnding)}`),
};
