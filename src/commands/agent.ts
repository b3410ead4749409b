import type { Command } from "commander";
import { addAgentAdminCommands } from "./agent-admin.ts";
import { addAgentRunCommand } from "./agent-run.ts";

/** Commands on agents, and the agent itself. */
export function addAgentCommands(program: Command): void {
  const noun = program
    .command("agent")
    .description("Agents: Rekey's hands inside of private networks")
    .usage("[options]|<command>")
    .helpCommand(false);
  addAgentRunCommand(noun);
  addAgentAdminCommands(noun);
}
