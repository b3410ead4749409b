import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A host with its port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A door in front of the target, through which the function goes without knowing. */
export interface ContractGate extends AsyncDisposable {
  readonly address: Address;
  /** From now on nobody listens, or whoever connects hears nothing, or all is as it should be. */
  be(state: "open" | "closed" | "silent"): Promise<void>;
  /** Breaks the connection in place of the target's n-th answer from now on; 0: never. */
  cutAnswer(n: number): void;
  /** Pieces that came from the target since `cutAnswer` was called. */
  readonly answers: number;
}

/** Listens on loopback and passes on what comes to the target. */
export async function openContractGate(target: Address): Promise<ContractGate> {
  const sockets = new Set<Socket>();
  let [answers, cutAt, silent] = [0, 0, false];
  let server: Server | undefined;
  const hangUp = () => {
    for (const socket of sockets) socket.destroy();
  };
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy()).on("close", () => sockets.delete(socket));
  };
  const pass = (client: Socket): void => {
    keep(client);
    if (silent) return;
    const far = connect(target);
    keep(far);
    client.pipe(far);
    far.on("data", (piece) => {
      answers += 1;
      if (answers === cutAt) hangUp();
      else client.write(piece);
    });
    far.on("end", () => client.end()).on("close", () => client.destroy());
    client.on("close", () => far.destroy());
  };
  const listen = async (port: number): Promise<number> => {
    const opened = createServer({ allowHalfOpen: true }, pass).listen(port, "127.0.0.1");
    await new Promise<void>((resolve, reject) => {
      opened.once("listening", resolve);
      opened.once("error", reject);
    });
    server = opened;
    return (opened.address() as AddressInfo).port;
  };
  const close = async (): Promise<void> => {
    const open = server;
    server = undefined;
    if (!open) return;
    const closed = new Promise((resolve) => open.close(resolve));
    hangUp();
    await closed;
  };
  const port = await listen(0);
  return {
    address: { host: "127.0.0.1", port },
    async be(state) {
      hangUp();
      silent = state === "silent";
      if (state === "closed") await close();
      else if (!server) await listen(port);
    },
    cutAnswer(n) {
      [answers, cutAt] = [0, n];
    },
    get answers() {
      return answers;
    },
    [Symbol.asyncDispose]: close,
  };
}
