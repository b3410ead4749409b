// What test servers have in common: an account to run under, a port, a certificate, and an end when we end.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

/** An account of the system that a server runs under. */
export interface Account {
  uid: number;
  gid: number;
}

export function hasOpenssl(): boolean {
  try {
    execFileSync("openssl", ["version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A reason to skip, but none under CI, where a lack must fail. */
export const unlessCi = (reason: string | false): string | false => (process.env.CI ? false : reason);

/** Database servers refuse root, so as root they run under an account that is already there; otherwise under our own. */
export function serverAccount(wanted: string): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of [wanted, "nobody", "daemon"]) {
    try {
      const ask = (flag: string) =>
        Number(execFileSync("id", [flag, name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
      return { uid: ask("-u"), gid: ask("-g") };
    } catch {
      // no such account: try the next
    }
  }
  throw new Error(`database servers refuse root, and there is no account ${wanted}, nobody or daemon to run one under`);
}

/**
 * Puts `data` into `home`, owned by the account: a copy of what `make` made in `data` of a folder, once for each version of
 * `program`. Gives that folder, which is ours.
 */
export function copyPrepared(
  { program, home, account }: { readonly program: string; readonly home: string; readonly account: Account | undefined },
  make: (folder: string) => void,
): string {
  const { mtimeMs, size } = statSync(program);
  const version = createHash("sha256")
    .update(`${program} ${mtimeMs} ${size} ${process.getuid?.()} ${account?.uid}`)
    .digest("hex")
    .slice(0, 16);
  const cache = join(tmpdir(), `rekey-test-data-${basename(program)}-${version}`);
  if (!existsSync(cache)) {
    const fresh = mkdtempSync(`${cache}-`);
    chmodSync(fresh, 0o755);
    mkdirSync(join(fresh, "data"), { mode: 0o700 });
    if (account) chownSync(join(fresh, "data"), account.uid, account.gid);
    make(fresh);
    try {
      renameSync(fresh, cache);
    } catch {
      rmSync(fresh, { recursive: true }); // another test run was first
    }
  }
  const { uid, mode } = statSync(cache);
  if (uid !== process.getuid?.() || mode & 0o022) throw new Error(`${cache} could be changed by others: remove it`);
  execFileSync("cp", ["-a", join(cache, "data"), home], { ...account, stdio: "pipe" });
  return cache;
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  return typeof address === "object" && address ? address.port : 0;
}

/** A shell that lives as long as we do: its input closes when we end in any way, and it then ends the server and its data. */
export function startWatcher(home: string, { pidFile, signal }: { pidFile: string; signal: string }): ChildProcess {
  const script = `read -r _; kill -${signal} "$(head -n 1 "$1/${pidFile}")"; sleep 1; rm -rf "$1"`;
  const watcher = spawn("sh", ["-c", script, "sh", home], { stdio: ["pipe", "ignore", "ignore"], detached: true, cwd: "/" });
  watcher.unref();
  (watcher.stdin as unknown as { unref(): void }).unref();
  return watcher;
}

/** A self-signed certificate for localhost and 127.0.0.1, `server.crt` and `server.key` in `home`. Needs `openssl`. */
export function makeCertificate(home: string): string {
  const caFile = join(home, "server.crt");
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", names];
  execFileSync("openssl", [...request, "-keyout", join(home, "server.key"), "-out", caFile], { stdio: "pipe" });
  chmodSync(join(home, "server.key"), 0o600);
  return caFile;
}
