// The command line on configs: a real server, a project, and a home folder of one's own.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { program, type Ran, run } from "./cli.ts";
import { type RekeyServer, type StartOptions, startRekey } from "./rekey-server.ts";

/** A command that runs: what it has shown, and its end. */
type Begun = ChildProcess & { shown(): string; readonly closed: Promise<unknown> };

export interface ConfigCli extends AsyncDisposable {
  readonly server: RekeyServer;
  /** Where commands run. */
  readonly folder: string;
  /** Variables of root on config `dev` of project `shop`. */
  readonly env: Record<string, string>;
  /** Runs `rekey` to its end, as root unless `env` says otherwise. */
  rekey(args: readonly string[], options?: { input?: string; env?: Record<string, string>; cwd?: string }): Promise<Ran>;
  /** Begins it, with pipes. */
  begin(args: readonly string[], env?: Record<string, string>): Begun;
  /** Sets secrets of a config by the API. */
  set(secrets: Readonly<Record<string, string | null>>, config?: string): Promise<void>;
  /** Any call of the config API as root. */
  api(path: string, body?: object, method?: string): Promise<Record<string, unknown>>;
  /** Any call of the native API as root. */
  native(operation: string, input: object): Promise<Record<string, unknown>>;
  /** A service token of a config. */
  serviceToken(access?: "read" | "read/write", config?: string): Promise<string>;
}

/** A server with project `shop`, and environments dev, stg and prd. */
export async function configCli(options: StartOptions = {}): Promise<ConfigCli> {
  const server = await startRekey(options);
  const folder = mkdtempSync(join(tmpdir(), "rekey-run-"));
  mkdirSync(join(folder, "home"));
  const { token } = server.credentials;
  const begun = new Set<ChildProcess>();
  const place = { REKEY_PROJECT: "shop", REKEY_CONFIG: "dev" };
  const env = { HOME: join(folder, "home"), REKEY_ENDPOINT: server.endpoint, REKEY_TOKEN: token, ...place };
  const send = async (path: string, method: string, body?: object) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const response = await fetch(`${server.endpoint}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const api: ConfigCli["api"] = (path, body, method = body ? "POST" : "GET") => send(`/v3/${path}`, method, body);
  await api("projects", { name: "shop" });
  return {
    server,
    folder,
    env,
    api,
    native: (operation, input) => send(`/rekey/v1/${operation}`, "POST", input),
    rekey: (args, { input, env: own, cwd = folder } = {}) =>
      run(args, { env: { ...env, ...own }, cwd, ...(input !== undefined && { input }) }),
    begin(args, own) {
      const { PATH, NODE_COMPILE_CACHE } = process.env;
      const inherited = { PATH, NODE_COMPILE_CACHE };
      const child = spawn(process.execPath, [program, ...args], { env: { ...inherited, ...env, ...own }, cwd: folder });
      let shown = "";
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (shown += text));
      begun.add(child.once("close", () => begun.delete(child)));
      return Object.assign(child, { shown: () => shown, closed: once(child, "close") });
    },
    async set(secrets, config = "dev") {
      await api(`configs/config/secrets?project=shop&config=${config}`, { secrets });
    },
    async serviceToken(access = "read", config = "dev") {
      const made = await api("configs/config/tokens", { project: "shop", config, name: "test", access });
      return String((made.token as Record<string, unknown>).key);
    },
    async [Symbol.asyncDispose]() {
      for (const child of begun) child.kill("SIGTERM"); // of tests that failed
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Waits until something is so, however long that takes within reason. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const giveUpAt = Date.now() + 120_000; !(await isSo()); await sleep(20))
    if (Date.now() > giveUpAt) throw new Error(`it did not come to pass: ${what}`);
}

/** Waits until a child has shown something. */
export async function shows(child: { shown(): string }, what: RegExp): Promise<void> {
  await until(`${String(what)} is shown`, () => what.test(child.shown())).catch((error: Error) => {
    throw new Error(`${error.message}; there is: ${child.shown()}`);
  });
}
