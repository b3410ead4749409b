// A real Redis of our own for tests: Debian's binary.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@redis/client";
import { freePort, hasOpenssl, makeCertificate, serverAccount, startWatcher, unlessCi } from "./server-process.ts";

export interface RedisOptions {
  /** Serves TLS alone, with a self-signed certificate for localhost and 127.0.0.1. Needs `openssl`. */
  tls?: boolean;
  /** Where users are kept: in a file of their own, in the configuration file, or nowhere, as there is none. */
  users?: "aclfile" | "config" | "nowhere";
  /** Password of the user `default`; absent: any will do. */
  password?: string;
  /** Lines of the configuration file, e.g. `maxclients 2`. */
  settings?: readonly string[];
}

export interface RedisServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly caFile: string | undefined;
  /** A command as the user `default`. */
  run(...command: string[]): Promise<unknown>;
  /** All commands that it shows to monitors or keeps as slow ones, refusals by the ACL, what it says itself, and its files. */
  log(): Promise<string>;
  readonly configFile: string;
  /** From now on the server can write no file. */
  forbidSaving(): void;
  /** Stops and starts again with the same files: what was not saved is gone. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const server = "/usr/bin/redis-server";

/** For `test(…, { skip })`: why there can be no Redis here, else false; always false under CI, where its lack must fail. */
export const redisSkip: string | false = unlessCi(existsSync(server) ? false : "no Redis: install Debian's redis-server");
/** The same for a server with `tls`. */
export const redisTlsSkip: string | false = redisSkip || unlessCi(hasOpenssl() ? false : "no openssl to make a certificate");

/** A new Redis on a free port of 127.0.0.1. It ends with us, however we end; use `await using` so that it ends earlier. */
export async function startRedis({ tls, users = "aclfile", password, settings = [] }: RedisOptions = {}): Promise<RedisServer> {
  const account = serverAccount("redis");
  const home = mkdtempSync(join(tmpdir(), "rekey-redis-"));
  const watcher = startWatcher(home, { pidFile: "server.pid", signal: "KILL" });
  const own = (path: string) => {
    if (account) chownSync(path, account.uid, account.gid);
  };
  own(home);
  const host = "127.0.0.1";
  const port = await freePort();
  const caFile = tls ? makeCertificate(home) : undefined;
  const keyFile = join(home, "server.key");
  if (caFile) for (const path of [caFile, keyFile]) own(path);
  const lines = [
    `bind ${host}`,
    `port ${caFile ? 0 : port}`,
    ...(caFile ? [`tls-port ${port}`, `tls-cert-file ${caFile}`, `tls-key-file ${keyFile}`, "tls-auth-clients no"] : []),
    'save ""',
    `dir ${home}`,
    `pidfile ${join(home, "server.pid")}`,
    `logfile ${join(home, "server.log")}`,
    "loglevel debug",
    "slowlog-log-slower-than 0",
    "slowlog-max-len 10000",
    "protected-mode no",
    ...settings,
  ];
  const aclFile = join(home, "users.acl");
  const configFile = join(home, "redis.conf");
  if (users === "aclfile") {
    writeFileSync(aclFile, `user default on ${password === undefined ? "nopass" : `>${password}`} ~* &* +@all\n`);
    own(aclFile);
    lines.push(`aclfile ${aclFile}`);
  } else if (password !== undefined) lines.push(`requirepass ${password}`);
  writeFileSync(configFile, `${lines.join("\n")}\n`);
  own(configFile);

  const run = async (...command: string[]): Promise<unknown> => {
    const client = createClient({
      RESP: 2,
      disableClientInfo: true,
      ...(password === undefined ? {} : { username: "default", password }),
      socket: caFile
        ? { host, port, tls: true, ca: readFileSync(caFile), reconnectStrategy: false }
        : { host, port, reconnectStrategy: false },
    });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return await client.sendCommand(command);
    } finally {
      client.destroy();
    }
  };
  const start = async () => {
    const args = users === "nowhere" ? lines.flatMap(asOption) : [configFile];
    const output = openSync(join(home, "output.log"), "a");
    const child = spawn(server, args, { ...account, cwd: home, stdio: ["ignore", output, output], detached: true });
    child.unref();
    closeSync(output);
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`Redis did not start:\n${readFileSync(join(home, "output.log"), "utf8")}${serverLog()}`);
      }
      const answer = await run("PING").catch((error: unknown) => error);
      if (answer === "PONG") return child;
      await sleep(20);
    }
  };
  const serverLog = () => {
    const path = join(home, "server.log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  };
  let child = await start();
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return {
    host,
    port,
    caFile,
    run,
    configFile,
    forbidSaving: () => chmodSync(home, 0o500),
    async log() {
      const kept = [await run("SLOWLOG", "GET", "-1"), await run("ACL", "LOG", "1000"), await run("ACL", "LIST")];
      const files = [aclFile, configFile].filter((path) => existsSync(path)).map((path) => readFileSync(path, "utf8"));
      return [JSON.stringify(kept), serverLog(), ...files].join("\n");
    },
    async restart() {
      await stop();
      child = await start();
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      chmodSync(home, 0o700);
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
      watcher.stdin?.end();
    },
  };
}

/** `port 1` as `--port 1`. */
function asOption(line: string): string[] {
  const [name = "", ...rest] = line.split(" ");
  return [`--${name}`, ...rest.map((word) => (word === '""' ? "" : word))];
}
