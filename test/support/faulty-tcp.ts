// Servers that are no servers, on this machine.
import { once } from "node:events";
import { createServer, type Socket } from "node:net";

export interface FaultyTcp extends AsyncDisposable {
  readonly port: number;
  /** Connections that are open now. */
  open(): number;
}

/** Accepts connections, and then says nothing at all, hangs up, or answers all that comes with `answer`. */
export async function startFaultyTcp(does: "silence" | "hang up" | Buffer): Promise<FaultyTcp> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    if (does === "hang up") socket.destroy();
    else socket.on("data", () => does !== "silence" && socket.write(does));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    open: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
