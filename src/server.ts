import type { Config } from "./config.ts";
import { type RunningServer, startNode } from "./server-node.ts";

export type { RunningServer } from "./server-node.ts";

/**
 * Starts the server that the settings describe: in this process, or with `processes` above 1 in child processes.
 * @throws ConfigError when it cannot start, in words.
 */
export async function startServer(config: Config): Promise<RunningServer> {
  if (config.processes === 1) return startNode(config);
  const { startProcesses } = await import("./supervisor.ts");
  return startProcesses(config);
}
