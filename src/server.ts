import type { Config } from "./config.ts";
import type { RunningServer } from "./server-node.ts";

export type { RunningServer } from "./server-node.ts";

/**
 * Starts the server that the settings describe: in this process, or with `processes` above 1 in child processes, where this
 * one stays small and away from the store and its keys.
 * @throws ConfigError when it cannot start, in words.
 */
export async function startServer(config: Config): Promise<RunningServer> {
  if (config.processes === 1) return (await import("./server-node.ts")).startNode(config);
  return (await import("./supervisor.ts")).startProcesses(config);
}
