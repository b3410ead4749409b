import type { Worker } from "node:cluster";

/** More than can be under way to one process: one for each address that it listens on. */
const maxHanded = 8;

interface Handle {
  close(): void;
}

/**
 * Closes the connections that were just being handed to a process when it died. Node forgets them without closing them, and
 * whoever sent a request there would wait for ever; so its client is told, and may try again. Closing twice is harmless.
 */
export function closeLostConnections(worker: Worker): void {
  const handed: Handle[] = [];
  const child = worker.process;
  const send = child.send.bind(child) as (...sent: unknown[]) => boolean;
  child.send = (...sent: unknown[]) => {
    const [, handle] = sent;
    if (isHandle(handle)) handed.push(handle);
    if (handed.length > maxHanded) handed.shift();
    return send(...sent);
  };
  worker.once("exit", () => {
    for (const handle of handed) handle.close();
  });
}

function isHandle(value: unknown): value is Handle {
  return typeof value === "object" && value !== null && "close" in value && typeof value.close === "function";
}
