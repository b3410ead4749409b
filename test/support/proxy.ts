// A TCP proxy that lets a test hold a connection before its first byte gets through.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface HoldingProxy extends AsyncDisposable {
  readonly port: number;
  /** Holds the n-th connection from now on, counted from 1; resolves when it is there. */
  hold(nth: number): Promise<HeldConnection>;
}

interface HeldConnection {
  release(): void;
  /** Ends it without an answer. */
  cut(): void;
}

export async function startProxy(to: { readonly host: string; readonly port: number }): Promise<HoldingProxy> {
  const sockets = new Set<Socket>();
  let waiting: { left: number; found(held: HeldConnection): void } | undefined;
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy()).on("close", () => sockets.delete(socket));
    return socket;
  };
  const pass = (near: Socket): void => {
    const far = keep(connect(to.port, to.host));
    near.pipe(far).pipe(near);
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  };
  const server = createServer((near) => {
    keep(near);
    if (waiting) waiting.left -= 1;
    if (waiting?.left !== 0) return pass(near);
    waiting.found({ release: () => pass(near), cut: () => near.destroy() });
    waiting = undefined;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    hold: (nth) =>
      new Promise((found) => {
        waiting = { left: nth, found };
      }),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
