// TCP proxies: one lets a test hold a connection before its first byte gets through, one looks at what is sent.
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

/** `port` 0: a free one. */
export async function startProxy(to: { readonly host: string; readonly port: number }, port = 0): Promise<HoldingProxy> {
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
  server.listen(port, "127.0.0.1");
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

export interface Tap extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Ends all connections. */
  cut(): void;
}

/**
 * Shows `see` what clients send, before it is passed on. `before`: the connection is cut instead; `after`: the server gets it,
 * and its answer is lost.
 */
export async function startTap(
  to: { readonly host: string; readonly port: number },
  see: (sent: string) => "before" | "after" | undefined,
): Promise<Tap> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(to.port, to.host);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
    }
    near.on("close", () => far.destroySoon());
    far.on("close", () => near.destroy());
    near.on("data", (chunk) => {
      const cut = see(chunk.toString("latin1"));
      if (cut !== "before") far.write(chunk);
      if (cut === undefined) return;
      far.unpipe(near);
      near.destroy();
    });
    far.pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    cut,
    async [Symbol.asyncDispose]() {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}
