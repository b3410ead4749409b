import { rmSync } from "node:fs";
import { ConfigError } from "./core/error.ts";
import { type RunningNode, startNode } from "./server-node.ts";
import type { FromWorker, ToWorker } from "./supervisor.ts";

// A child process of the supervisor: told over its channel what to be. Signals sent to the whole group are for the
// supervisor to act on; when the supervisor is gone, so is the address, and this process ends in order.
const tell = (message: FromWorker): void => {
  if (process.connected) process.send?.(message);
};
let node: Promise<RunningNode> | undefined;
let ending = false;

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => undefined);
process.on("message", (message: ToWorker) => {
  if (message.tell === "start") void start(message);
  else if (message.tell === "stop") void end();
  else void node?.then((running) => (message.tell === "wake" ? running.wakeEngine() : running.reloadTls()));
});

async function start({ config, role, socketFolder }: Extract<ToWorker, { tell: "start" }>): Promise<void> {
  process.once("disconnect", () => {
    void end().finally(() => rmSync(socketFolder, { recursive: true, force: true }));
  });
  try {
    node = startNode(config, { role, socketFolder, wakeEngine: () => tell({ tell: "wake" }) });
    tell({ tell: "ready", endpoint: (await node).endpoint });
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : [error instanceof Error ? error.message : String(error)];
    tell({ tell: "failed", problems });
    process.exitCode = 1;
    process.disconnect?.();
  }
}

async function end(): Promise<void> {
  if (ending) return;
  ending = true;
  try {
    await (await node)?.close();
    process.exit(0);
  } catch {
    process.exit(1);
  }
}
