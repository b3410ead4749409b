import type { Command } from "commander";
import { callApi, callPages, rowsOf } from "./api-client.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { addConfigNoun, type ConfigCommand, confirmed, wrapped } from "./config-command.ts";
import { endingOf } from "./dynamic.ts";
import { networkIn, networkOptions } from "./network.ts";
import { type Answer, type Columns, cell, printFields, printJson, printLine, printTable } from "./output.ts";
import { memberOptions, membersOf, secretMemberOptions } from "./typed-members.ts";

/** Commands on integrations. */
export function addIntegrationCommands(program: Command): void {
  const noun = addConfigNoun(program, "integration", "Connections to targets, for dynamic and rotated secrets", [
    create,
    list,
    get,
    update,
    verify,
    remove,
    externalId,
  ]);
  addPolicy(noun);
}

const details: Columns = {
  Name: "name",
  Id: "id",
  Type: "type",
  Network: "network",
  Target: "target",
  Data: ({ data }) => dataText(data),
  "Logs in as": "identity",
  Verified: "verifiedAt",
  Outcome: "outcome",
  Reason: "reason",
  "Dynamic secrets": ({ dynamicSecrets }) => namesOf(dynamicSecrets),
  "Rotated secrets": "rotatedSecrets",
  Changed: "updatedAt",
};

const dataText = (data: unknown): string | undefined =>
  typeof data === "object" && data !== null
    ? Object.entries(data)
        .map(([name, value]) => `${name}=${cell(value)}`)
        .join(" ")
    : undefined;

const namesOf = (secrets: unknown): string[] | undefined =>
  Array.isArray(secrets) ? secrets.map(({ project, config, name }: Answer) => `${project}/${config}/${name}`) : undefined;

const showOne = (answer: Answer): void => printFields({ ...wrapped(answer, "integration"), identity: answer.identity }, details);

const create: ConfigCommand = {
  usage: "create <name>",
  about: "keep a connection to a target; it is tried first, and not kept when it does not work",
  needs: "server",
  options: {
    "--type <type>": "postgres, mysql, redis, mongodb, ldap, aws-iam, aws-sts or http-api",
    "--network <name>": "where the target is: reached through that network's agents or functions",
    ...memberOptions("how the managing user gets there"),
    ...secretMemberOptions,
  },
  examples: [
    "rekey integration create main --type postgres --set host=db.example.com --set username=rekey_manager --secret-file password=manager.txt",
    "rekey integration create aws --type aws-iam --file connection.json",
  ],
  async ask({ args, options }, connection) {
    if (options.type === undefined) throw new CommandError(2, "give --type: what the target is, e.g. postgres");
    const data = (await membersOf(options)) ?? {};
    return callApi(connection, "integrations/create", { name: args[0], type: options.type, data, network: options.network });
  },
  show: showOne,
};

const list: ConfigCommand = {
  usage: "list",
  about: "list integrations",
  needs: "server",
  options: { "--type <type>": "only those of a type" },
  examples: ["rekey integration list"],
  ask: ({ options }, connection) =>
    callPages(connection, "integrations/list", "integrations", { type: options.type, limit: 1000 }),
  show: (answer) =>
    printTable(
      rowsOf(answer, "integrations"),
      { NAME: "name", TYPE: "type", TARGET: "target", VERIFIED: "verifiedAt", OUTCOME: "outcome" },
      "no integrations",
    ),
};

const get: ConfigCommand = {
  usage: "get <integration>",
  about: "show an integration, by name or id, and what uses it",
  needs: "server",
  examples: ["rekey integration get main"],
  ask: ({ args }, connection) => callApi(connection, "integrations/get", { integration: args[0] }),
  show: showOne,
};

const update: ConfigCommand = {
  usage: "update <integration>",
  about: "change an integration's name or members; it is tried first, and what is not named stays",
  needs: "server",
  options: {
    "--name <name>": "another name",
    ...networkOptions,
    ...memberOptions("members that change"),
    ...secretMemberOptions,
    "--remove <member...>": "a member to take away",
  },
  notes:
    "When anything but a secret member changes, or the network, the secret members are given again: they go nowhere that they were not meant for.",
  examples: [
    "rekey integration update main --secret-file password=new.txt",
    "rekey integration update main --network office --secret-file password=manager.txt",
  ],
  async ask({ args, options }, connection) {
    const data = await membersOf(options);
    const { name, remove: removeData } = options;
    const network = networkIn(options);
    return callApi(connection, "integrations/update", { integration: args[0], name, data, removeData, network });
  },
  show: showOne,
};

const verify: ConfigCommand = {
  usage: "verify <integration>",
  about: "log in as an integration does, and say who it is there or what is wrong",
  needs: "server",
  notes: "Exit code 1 means that it does not work.",
  examples: ["rekey integration verify main"],
  async ask({ args }, connection) {
    const answer = await callApi(connection, "integrations/verify", { integration: args[0] });
    if (answer.works !== true) process.exitCode = 1;
    return answer;
  },
  show: ({ works, identity, outcome, reason }) =>
    printLine(works === true ? `it works: ${cell(identity)}` : `it does not work (${cell(outcome)}): ${cell(reason)}`),
};

const remove: ConfigCommand = {
  usage: "delete <integration>",
  about: "delete an integration that nothing uses",
  needs: "server",
  options: { "--force": "also its dynamic secrets, and end all their leases", "--yes": "without being asked" },
  examples: ["rekey integration delete main", "rekey integration delete main --force --yes"],
  async ask({ args, options }, connection) {
    if (options.force === true) await confirmed(options, `Delete ${args[0]} with its dynamic secrets, and end all their leases?`);
    return callApi(connection, "integrations/delete", { integration: args[0], force: options.force });
  },
  show: ({ dynamicSecretsDeleted, leasesEnding }, { args }) =>
    printLine(
      `${args[0]} is deleted; dynamic secrets deleted with it: ${cell(dynamicSecretsDeleted)}; ${endingOf(leasesEnding)}`,
    ),
};

const externalId: ConfigCommand = {
  usage: "external-id",
  about: "make an external id, for the trust policy of a role that one integration is to take on",
  needs: "server",
  examples: ["rekey integration external-id"],
  ask: (_typed, connection) => callApi(connection, "integrations/generate-external-id", {}),
  show: ({ externalId: id }) => printLine(cell(id)),
};

function addPolicy(noun: Command): void {
  const command = noun
    .command("policy <type>")
    .description("Print the least policy that a managing user or role needs: of aws-iam")
    .option("--path <path>", "where leased users stand: /rekey/ or /doppler/, default /rekey/")
    .option("--group <name...>", "a group that they join")
    .option("--permissions-boundary <arn>", "managed policy without which none can be made")
    .option("--partition <name>", "aws, aws-cn or aws-us-gov, default aws")
    .addHelpText(
      "after",
      exampleText(["rekey integration policy aws-iam", "rekey integration policy aws-iam --path /doppler/ > policy.json"]),
    );
  command.action(async (type: string) => {
    const { leasePaths, managingPolicy } = await import("../targets/lease-aws-iam-policy.ts");
    if (type !== "aws-iam") throw new CommandError(2, "there is such a policy for aws-iam alone");
    const { path: asked = leasePaths[0], group, permissionsBoundary, partition } = command.opts();
    const path = leasePaths.find((each) => each === asked);
    if (!path) throw new CommandError(2, `--path must be ${leasePaths.join(" or ")}`);
    printJson(managingPolicy({ path, groups: group, permissionsBoundary, partition }));
  });
}
