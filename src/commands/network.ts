import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { type ApiCommand, addNoun, fields, sentence, type Typed, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import type { Answer, Columns } from "./output.ts";

interface Reached {
  readonly kind: string;
  readonly functionArn: string;
}

const functionsOf = ({ functions }: Answer): string =>
  (functions as readonly Reached[]).map(({ kind, functionArn }) => `${kind}=${functionArn}`).join(" ") ||
  "none: through its agents";

const details: Columns = {
  Name: "name",
  Description: "description",
  Functions: functionsOf,
  Created: "createdAt",
  Changed: "updatedAt",
};

/** Of what may be moved to a network, and out of it. */
export const networkOptions = {
  "--network <name>": "where the target is: reached through that network's agents or functions",
  "--no-own-network": "of no network of its own any more",
};

/** As the API takes it: empty for none. @throws CommandError for usage */
export function networkIn({ network, ownNetwork }: Flags): unknown {
  if (ownNetwork !== false) return network;
  if (network !== undefined) throw new CommandError(2, "--network and --no-own-network do not go together");
  return "";
}

/** Commands on networks. */
export function addNetworkCommands(program: Command): void {
  addNoun(program, "network", "Places that are reached only through agents or functions in them", [
    create,
    list,
    show,
    update,
    remove,
  ]);
}

const settingOptions = {
  "--function <kind=name...>": "function of AWS Lambda that reaches one kind of target there, such as postgres=rotate-office",
  "--description <text>": "what it is",
};

/** `postgres=rotate-office`. @throws CommandError for usage */
function functionsIn(given: unknown): Record<string, string> | undefined {
  if (!Array.isArray(given)) return undefined;
  return Object.fromEntries(
    given.map((text: unknown) => {
      const [, kind, name] = /^([a-z-]+)=(.+)$/.exec(String(text)) ?? [];
      if (kind === undefined || name === undefined)
        throw new CommandError(2, "--function is written KIND=NAME, as postgres=rotate-office");
      return [kind, name];
    }),
  );
}

const given = ({ args, options }: Typed) => ({
  name: args[0],
  description: options.description,
  functions: functionsIn(options.function),
});

const create: ApiCommand = {
  usage: "create <name>",
  about: "name a place that is reached through agents in it, or through functions of AWS Lambda",
  examples: ["rekey network create office", "rekey network create vpc --function postgres=rekey-postgres"],
  notes: "Kinds of targets without a function are reached through the network's agents: see rekey agent.",
  operation: "networks/create",
  options: settingOptions,
  input: given,
  show: fields(details, "network"),
};

const list: ApiCommand = {
  usage: "list",
  about: "list networks",
  examples: ["rekey network list"],
  operation: "networks/list",
  pages: "networks",
  show: table(
    "networks",
    { NAME: "name", FUNCTIONS: functionsOf, CHANGED: "updatedAt", DESCRIPTION: "description" },
    "no networks",
  ),
};

const show: ApiCommand = {
  usage: "show <name>",
  about: "show a network",
  examples: ["rekey network show office"],
  operation: "networks/describe",
  input: ({ args }) => ({ name: args[0] }),
  show: fields(details, "network"),
};

const update: ApiCommand = {
  usage: "update <name>",
  about: "change a network; what is not named stays",
  examples: ["rekey network update vpc --function mysql=rekey-mysql", "rekey network update vpc --remove-function mysql"],
  operation: "networks/update",
  options: { ...settingOptions, "--remove-function <kind...>": "reach this kind of target through agents again" },
  input: (typed) => ({ ...given(typed), removeFunctions: typed.options.removeFunction }),
  show: fields(details, "network"),
};

const remove: ApiCommand = {
  usage: "delete <name>",
  about: "delete a network that nothing uses",
  examples: ["rekey network delete office"],
  operation: "networks/delete",
  input: ({ args }) => ({ name: args[0] }),
  show: sentence((_answer, { args }) => `network ${args[0]} is deleted`),
};
