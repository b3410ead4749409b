import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

/** Of all that one connection is told: far above what is asked for. */
const maxAnswerBytes = 4 * 1024 * 1024;
/** Drivers offer no way to look at what arrives; what comes in between is little. */
const lookMs = 20;

const opened = new AsyncLocalStorage<Set<Socket>>();
subscribe("net.client.socket", (message) => boundAnswers((message as { socket: Socket }).socket));

/**
 * Hangs up on every server that says too much while the work goes on: whoever writes a secret chooses the server, and drivers
 * keep what they are told until it is whole. The work gets the sockets that it opens.
 */
export async function withBoundedAnswers<T>(work: (sockets: ReadonlySet<Socket>) => Promise<T>): Promise<T> {
  const sockets = new Set<Socket>();
  const looking = setInterval(() => {
    for (const socket of sockets) if (socket.bytesRead > maxAnswerBytes) socket.destroy(new Error("the server says too much"));
  }, lookMs);
  try {
    return await opened.run(sockets, () => work(sockets));
  } finally {
    clearInterval(looking);
  }
}

/** For a socket that is opened in another way than by `net.connect`. */
export function boundAnswers(socket: Socket): void {
  opened.getStore()?.add(socket);
}
