import { rmSync } from "node:fs";
import { ConfigError } from "./core/error.ts";
import { Questions } from "./questions.ts";
import { type RunningNode, startNode } from "./server-node.ts";
import type { FromWorker, ToWorker } from "./worker-messages.ts";

// A child process of the supervisor: told over its channel what to be. Signals sent to the whole group are for the
// supervisor to act on; when the supervisor is gone, so is the address, and this process ends in order.
const tell = (message: FromWorker): void => {
  if (process.connected) process.send?.(message);
};
let node: Promise<RunningNode> | undefined;
let ending = false;
/** To the supervisor: its own wait for each process is shorter. */
const questions = new Questions();
const longestQuestionMs = 5_000;

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => undefined);
process.on("message", (message: ToWorker) => {
  if (message.tell === "start") void start(message);
  else if (message.tell === "stop") void end();
  else
    void node?.then(
      (running) => pass(message, running),
      () => undefined,
    ); // why it failed was told
});

function pass(message: Exclude<ToWorker, { tell: "start" | "stop" }>, running: RunningNode): void {
  if (message.tell === "wake") running.wakeEngine();
  else if (message.tell === "reload TLS") running.reloadTls();
  else if (message.tell === "drain") void running.drain();
  else if (message.tell === "measure") void sayMetrics(message.id, running);
  else questions.answer(message.id, message.text);
}

async function sayMetrics(id: number, running: RunningNode): Promise<void> {
  tell({ tell: "measured", id, text: await running.metrics() });
}

async function start({ config, role, socketFolder }: Extract<ToWorker, { tell: "start" }>): Promise<void> {
  const onLost = () => void end(socketFolder);
  process.once("disconnect", onLost);
  try {
    const metrics = async () => (await questions.ask((id) => tell({ tell: "measure all", id }), longestQuestionMs)) ?? "";
    node = startNode(config, { role, socketFolder, wakeEngine: () => tell({ tell: "wake" }), metrics });
    tell({ tell: "ready", endpoint: (await node).endpoint });
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : [error instanceof Error ? error.message : String(error)];
    tell({ tell: "failed", problems });
    process.off("disconnect", onLost); // the folder is the other processes' still
    process.once("disconnect", () => process.exit(1));
    process.disconnect?.();
  }
}

/** `left`: what the supervisor cannot remove any more. */
async function end(left?: string): Promise<void> {
  if (ending) return;
  ending = true;
  let code = 1;
  try {
    await (await node)?.close();
    code = 0;
  } finally {
    if (left !== undefined) rmSync(left, { recursive: true, force: true });
    process.exit(code);
  }
}
