// A TCP proxy that does one connection a wrong, at a chosen moment of its conversation.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/**
 * `refuse`: closed before the server hears of it; `outage`: so are the next ones; `cut`: what is said is not passed on, the connection broken; `lose`: it is
 * passed on and the answer lost, the connection broken; `hang`: passed on, and no answer ever; `half-close`: the client is
 * told that the server will say no more, and hears nothing.
 */
export const faults = ["refuse", "outage", "cut", "lose", "hang", "half-close"] as const;
type Fault = (typeof faults)[number];

export interface Plan {
  readonly fault: Fault;
  /** Of the connections from now on, counted from 1. */
  readonly connection: number;
  /** Of the messages that the client sends on it, counted from 1; no matter for `refuse` and `outage`. */
  readonly message: number;
}

/** Connections that an outage refuses: more than one try makes. */
const outageConnections = 4;

export interface FaultProxy extends AsyncDisposable {
  readonly port: number;
  /** What goes wrong next; afterwards all goes well again. */
  plan(plan: Plan): void;
  /** From now on all goes well; whether the planned fault has happened. */
  calm(): boolean;
}

export async function startFaultProxy(to: { readonly host: string; readonly port: number }): Promise<FaultProxy> {
  const sockets = new Set<Socket>();
  let planned: Plan | undefined;
  let connections = 0;
  let happened = false;
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    return socket.on("error", () => socket.destroy()).on("close", () => sockets.delete(socket));
  };
  const pass = (near: Socket, plan: Plan | undefined): void => {
    const far = keep(connect({ port: to.port, host: to.host, allowHalfOpen: true }));
    const cut = () => {
      near.resetAndDestroy();
      far.destroy();
    };
    let messages = 0;
    let silent = false;
    near.on("data", (bytes: Buffer) => {
      messages += 1;
      if (plan?.message === messages) {
        happened = true;
        silent = true;
        if (plan.fault === "cut") return cut();
        if (plan.fault === "half-close") near.end();
      }
      far.write(bytes);
    });
    far.on("data", (bytes: Buffer) => {
      if (!silent) near.write(bytes);
      else if (plan?.fault === "lose") cut();
    });
    near.on("end", () => far.end()).on("close", () => far.destroy());
    far.on("end", () => silent || near.end()).on("close", () => silent || near.destroy());
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    keep(near);
    connections += 1;
    const nth = planned ? connections - planned.connection : -1; // counted from 0
    const isRefused =
      planned?.fault === "outage" ? nth >= 0 && nth < outageConnections : planned?.fault === "refuse" && nth === 0;
    if (!isRefused) return pass(near, nth === 0 ? planned : undefined);
    happened = true;
    near.resetAndDestroy();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    plan(plan) {
      planned = plan;
      connections = 0;
      happened = false;
    },
    calm() {
      planned = undefined;
      return happened;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
