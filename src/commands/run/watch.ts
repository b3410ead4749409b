import { setTimeout as sleep } from "node:timers/promises";
import { CommandError } from "../command-error.ts";
import { refusalOf, requestConfigApi } from "../config-api.ts";
import type { ConfigConnection } from "../scope.ts";

/** What a watcher is told of; `connected` also after every interruption, during which anything may have changed. */
export type WatchEvent = "connected" | "update";

/** The server sends something at least every half minute; nothing for so long means that the connection is dead. */
const silenceMs = 100_000;
const longestPauseMs = 60_000;

/** Events of one config, for ever; a lost connection is made again, with growing pauses of random length. */
export async function* watchConfig(
  connection: ConfigConnection,
  { signal, warn }: { signal: AbortSignal; warn(text: string): void },
): AsyncGenerator<WatchEvent, void> {
  let failures = 0;
  let warned = "";
  while (!signal.aborted) {
    try {
      for await (const event of eventsOf(connection, signal)) {
        failures = 0;
        warned = "";
        yield event;
      }
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      if (signal.aborted) return;
      if (warned !== error.message) warn(`changes are not seen for now: ${error.message}`);
      warned = error.message;
    }
    await sleep(pauseMs(failures++), undefined, { signal }).catch(() => undefined);
  }
}

/** Full jitter: many watchers of a server that restarts do not come back together. */
const pauseMs = (failures: number): number => Math.max(200, Math.random() * Math.min(longestPauseMs, 1000 * 2 ** failures));

async function* eventsOf(connection: ConfigConnection, signal: AbortSignal): AsyncGenerator<WatchEvent, void> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), silenceMs);
  try {
    const response = await requestConfigApi(connection, "configs/config/secrets/watch", {
      headers: { accept: "text/event-stream" },
      waitMs: 2 ** 31 - 1,
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (!response.ok) throw refusalOf(connection, response, await response.text());
    const decoder = new TextDecoder();
    const parser = new EventParser();
    for await (const bytes of response.body ?? []) {
      timer.refresh();
      yield* parser.push(decoder.decode(bytes, { stream: true }));
    }
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(3, `the connection to ${connection.endpoint} broke`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Reads server-sent events from pieces of any size. Source: HTML Living Standard, section 9.2 "Server-sent events". */
export class EventParser {
  #rest = "";

  push(text: string): WatchEvent[] {
    const blocks = `${this.#rest}${text}`.replaceAll("\r\n", "\n").split("\n\n");
    this.#rest = blocks.pop() ?? "";
    return blocks.flatMap((block) => eventOf(block) ?? []);
  }
}

function eventOf(block: string): WatchEvent | undefined {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  const type = typeOf(lines.map((line) => line.slice("data:".length)).join("\n"));
  if (type === "connected") return type;
  return type === "secrets.update" ? "update" : undefined;
}

function typeOf(data: string): unknown {
  try {
    const read: unknown = JSON.parse(data);
    return typeof read === "object" && read !== null && "type" in read ? read.type : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined; // a comment, or nothing
    throw error;
  }
}
