import type { Command } from "commander";
import { callApi } from "./api-client.ts";
import { addConfigNoun, type ConfigCommand } from "./config-command.ts";
import { inConfig } from "./dynamic.ts";
import { printLine } from "./output.ts";

/** Commands on the addresses from which a config may be used. */
export function addTrustedIpCommands(program: Command): void {
  addConfigNoun(program, "trusted-ip", "Addresses from which a config's secrets may be used", [list, add, remove]);
}

const list: ConfigCommand = {
  usage: "list",
  about: "list the config's trusted addresses",
  needs: "config",
  examples: ["rekey trusted-ip list --project shop --config prd"],
  ask: (_typed, connection) => callApi(connection, "trusted-ips/list", inConfig(connection)),
  show({ ips }) {
    const all = Array.isArray(ips) ? ips.map(String) : [];
    printLine(all.length === 0 ? "none: the secrets can be used from nowhere" : all.join("\n"));
  },
};

const add: ConfigCommand = {
  usage: "add <ip>",
  about: "trust an address or CIDR range too",
  needs: "config",
  notes: "The first ones, 0.0.0.0/0 and ::/0, trust everybody: delete them for the others to matter.",
  examples: ["rekey trusted-ip add 10.0.0.0/8"],
  ask: ({ args }, connection) => callApi(connection, "trusted-ips/add", { ...inConfig(connection), ip: args[0] }),
  show: ({ added }, { args }) => printLine(added === true ? `${args[0]} is trusted` : `${args[0]} was trusted already`),
};

const remove: ConfigCommand = {
  usage: "delete <ip>",
  about: "trust an address or range no longer",
  needs: "config",
  notes: "Whoever may manage the list can do so from anywhere, so nobody is locked out for good.",
  examples: ["rekey trusted-ip delete 0.0.0.0/0"],
  ask: ({ args }, connection) => callApi(connection, "trusted-ips/delete", { ...inConfig(connection), ip: args[0] }),
  show: (_answer, { args }) => printLine(`${args[0]} is trusted no longer`),
};
