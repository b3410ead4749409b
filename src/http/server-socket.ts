import { once } from "node:events";
import { chmodSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { ConfigError } from "../core/error.ts";

const closeIdleMs = 100;

/** Listens on a socket in the file system, which only this user may open; one that a dead process left is replaced. */
export async function listenAt(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true });
  server.listen({ path, exclusive: true }); // else a cluster's first process would take it
  await once(server, "listening");
  chmodSync(path, 0o600);
}

/**
 * Takes no new connections and waits for open requests. Each connection is ended once it has none, so that a client that
 * keeps its connection does not hold up the end; after `drainMs` all are cut.
 */
export async function closeListener(server: Server, drainMs: number): Promise<void> {
  const late = setTimeout(() => server.closeAllConnections(), drainMs);
  const idle = setInterval(() => server.closeIdleConnections(), closeIdleMs);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  clearTimeout(late);
  clearInterval(idle);
}

/** The failure to listen as a problem with the setting that names the address; any other error as it is. */
export function cannotListen(error: unknown, flag: string, { host, port }: { host: string; port: number }): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  const why = error.code === "EADDRINUSE" ? "is in use" : `cannot be used (${String(error.code)})`;
  return new ConfigError([`${flag} must be a free address of this machine: ${host}:${port} ${why}.`]);
}
