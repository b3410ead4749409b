// Servers of one kind for a suite of leases: one that works, one that was stopped, and one that accepts and never says a word.
import { type AddressInfo, createServer } from "node:net";

export const managerPassword = "canary-of-the-manager";

interface Stoppable extends AsyncDisposable {
  readonly port: number;
  stop(): Promise<void>;
}

/** As integrations' data: of the managing user unless it says otherwise. */
interface Connections {
  readonly connection: Record<string, unknown>;
  readonly wrongPassword: Record<string, unknown>;
  readonly atStoppedServer: Record<string, unknown>;
  /** Of a user that may log in and do nothing more. */
  readonly powerless: Record<string, unknown>;
  readonly atSilentServer: Record<string, unknown>;
}

export interface LeaseServers<S> extends AsyncDisposable {
  readonly server: S;
  /** The data of an integration that logs in as this user, default the managing one, with `managerPassword`. */
  as(username?: string): Record<string, unknown>;
  readonly connections: Connections;
}

export interface LeaseServersOptions<S> {
  start(): Promise<S>;
  /** Default: `start`. */
  startStopped?(): Promise<S>;
  readonly manager?: string;
  readonly powerless?: string;
  /** What an integration's data say besides. */
  readonly more?: object;
}

export async function startLeaseServers<S extends Stoppable>({
  start,
  startStopped = start,
  manager = "manager",
  powerless = "powerless",
  more = {},
}: LeaseServersOptions<S>): Promise<LeaseServers<S>> {
  const silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
  const [server, stopped] = await Promise.all([start(), startStopped()]);
  await stopped.stop();
  const at = (port: number, username = manager, password = managerPassword) => ({
    host: "127.0.0.1",
    port,
    username,
    password,
    ssl: false,
    ...more,
  });
  return {
    server,
    as: (username) => at(server.port, username),
    connections: {
      connection: at(server.port),
      wrongPassword: at(server.port, manager, "canary-wrong"),
      atStoppedServer: at(stopped.port),
      powerless: at(server.port, powerless),
      atSilentServer: at((silent.address() as AddressInfo).port),
    },
    async [Symbol.asyncDispose]() {
      silent.close();
      for (const one of [server, stopped]) await one[Symbol.asyncDispose]();
    },
  };
}
