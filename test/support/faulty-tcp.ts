// Servers that are no servers, on this machine.
import { once } from "node:events";
import { createServer, type Socket } from "node:net";

export interface FaultyTcp extends AsyncDisposable {
  readonly port: number;
  /** Connections that are open now. */
  open(): number;
}

/** Accepts connections, and then says nothing at all, hangs up, or answers the first that comes with these bytes, and then nothing. */
export async function startFaultyTcp(does: "silence" | "hang up" | Buffer): Promise<FaultyTcp> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    if (does === "hang up") return socket.destroy();
    socket.once("data", () => does instanceof Buffer && socket.write(does));
    socket.resume();
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
