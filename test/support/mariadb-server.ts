// A real MariaDB of our own for tests: Debian's binaries.
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chownSync, closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import mysql, { type Connection } from "mysql2/promise";
import { copyPrepared, freePort, hasOpenssl, makeCertificate, serverAccount, startWatcher, unlessCi } from "./server-process.ts";

export interface MariaDbOptions {
  /** Offers TLS with a self-signed certificate for localhost and 127.0.0.1. Needs `openssl`. */
  tls?: boolean;
  /** Server options, e.g. `["--skip-grant-tables"]`. */
  settings?: readonly string[];
}

export interface MariaDbServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Every statement as the server logs it, and what it says itself. */
  log(): string;
  readonly caFile: string | undefined;
  /** A connection as the superuser. */
  connect(): Promise<Connection>;
  stop(): Promise<void>;
}

const server = "/usr/sbin/mariadbd";

/** For `test(…, { skip })`: why there can be no MariaDB here, else false; always false under CI, where its lack must fail. */
export const mariadbSkip: string | false = unlessCi(existsSync(server) ? false : "no MariaDB: install Debian's mariadb-server");
/** The same for a server with `tls`. */
export const mariadbTlsSkip: string | false = mariadbSkip || unlessCi(hasOpenssl() ? false : "no openssl to make a certificate");

/** A new MariaDB on a free port of 127.0.0.1. It ends with us, however we end; use `await using` so that it ends earlier. */
export async function startMariaDb(options: MariaDbOptions = {}): Promise<MariaDbServer> {
  const account = serverAccount("mysql");
  const home = mkdtempSync(join(tmpdir(), "rekey-mariadb-"));
  const watcher = startWatcher(home, { pidFile: "server.pid", signal: "KILL" });
  const own = (path: string) => {
    if (account) chownSync(path, account.uid, account.gid);
  };
  const spawnOptions: SpawnOptions = { ...account, cwd: home, env: { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" } };
  own(home);
  const data = join(home, "data");
  const folder = ["--no-defaults", `--tmpdir=${home}`, `--datadir=${data}`];
  copyPrepared({ program: server, home, account }, (made) => {
    const place = ["--no-defaults", `--tmpdir=${home}`, `--datadir=${join(made, "data")}`];
    const install = [...place, "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M"];
    execFileSync("/usr/bin/mariadb-install-db", install, { ...spawnOptions, stdio: "pipe" });
  });
  const password = randomBytes(18).toString("base64url");
  const init = join(home, "init.sql");
  writeFileSync(
    init,
    [
      `alter user root@localhost identified by '${password}'`,
      `create or replace user root@'127.0.0.1' identified by '${password}'`,
      "grant all on *.* to root@'127.0.0.1' with grant option",
    ]
      .map((statement) => `${statement};\n`)
      .join(""),
    { mode: 0o600 },
  );
  own(init);
  const caFile = options.tls ? makeCertificate(home) : undefined;
  const tls = caFile ? [`--ssl-cert=${caFile}`, `--ssl-key=${join(home, "server.key")}`] : [];
  if (caFile) for (const path of [caFile, join(home, "server.key")]) own(path);

  const host = "127.0.0.1";
  const port = await freePort();
  const logFile = join(home, "server.log");
  const args = [
    ...folder,
    `--port=${port}`,
    `--bind-address=${host}`,
    `--socket=${join(home, "s")}`,
    `--pid-file=${join(home, "server.pid")}`,
    `--init-file=${init}`,
    "--general-log=1",
    `--general-log-file=${join(home, "statements.log")}`,
    "--skip-name-resolve",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--performance-schema=off",
    ...tls,
    ...(options.settings ?? []),
  ];
  const log = openSync(logFile, "a");
  const child = spawn(server, args, { ...spawnOptions, stdio: ["ignore", log, log], detached: true });
  child.unref();
  closeSync(log);
  const connect = () =>
    mysql.createConnection({
      host,
      port,
      user: "root",
      password,
      ...(caFile ? { ssl: { ca: readFileSync(caFile, "utf8") } } : {}),
    });
  await untilReady(child, connect, logFile);
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return {
    host,
    port,
    user: "root",
    password,
    caFile,
    log: () => readFileSync(logFile, "utf8") + readFileSync(join(home, "statements.log"), "utf8"),
    connect,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
      watcher.stdin?.end();
    },
  };
}

/** Until it answers the superuser. Fails with the server's last words when it ends instead. */
async function untilReady(child: ChildProcess, connect: () => Promise<Connection>, logFile: string): Promise<void> {
  for (;;) {
    try {
      const connection = await connect();
      await connection.end();
      return;
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code !== "ECONNREFUSED" && code !== "ECONNRESET" && code !== "PROTOCOL_CONNECTION_LOST") throw error;
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`MariaDB did not start:\n${readFileSync(logFile, "utf8").slice(-3000)}`, { cause: error });
      }
      await sleep(50);
    }
  }
}
