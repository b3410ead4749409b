import { existsSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname, resolve } from "node:path";
import { type Config, loadConfig } from "../config.ts";
import { ConfigError, ServiceError } from "../core/error.ts";
import { encryptionContext } from "../core/value-context.ts";
import { credentialsFile, databaseFile, looseModes } from "../open-store.ts";
import type { Sql } from "../store/sql.ts";
import { readCredentials } from "./known-servers.ts";
import { type LocalStore, lacking, storeName } from "./local-store.ts";

/** One finding. A problem keeps Rekey from working; advice is what could be better. */
export interface Finding {
  readonly check: "settings" | "store" | "files" | "key" | "clock" | "server" | "target";
  readonly state: "ok" | "advice" | "problem";
  /** In words; what to do follows what is. */
  readonly says: string;
}

const maxClockSkewMs = 5_000;
const connectTimeoutMs = 3_000;
const defaultPorts: Readonly<Record<string, number>> = { postgres: 5432, aurora: 5432 };

/** Whether a server would start with this environment. */
export async function checkSettings(flags: Readonly<Record<string, unknown>>): Promise<Finding[]> {
  try {
    const { functionsDir, codeSigning, codePublishers } = loadConfig("server", process.env, flags);
    const { readPublishers } = await import("../functions/code-publishers.ts");
    if (codePublishers !== undefined) await readPublishers(codePublishers);
    const ok: Finding = { check: "settings", state: "ok", says: "all settings are known and within range" };
    if (functionsDir === undefined || codeSigning !== "off") return [ok];
    const says = `whoever can write to ${functionsDir} chooses what functions run; have their programs signed (rekey function sign), and set --code-signing to enforce`;
    return [ok, { check: "settings", state: "advice", says }];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((says) => ({ check: "settings", state: "problem", says }));
  }
}

/** Rights of the files, and what should not lie there. */
export async function checkFiles(config: Config): Promise<Finding[]> {
  if (config.databaseUrl !== undefined) return [];
  const findings = looseModes(config).map((says): Finding => ({ check: "files", state: "problem", says }));
  const credentials = credentialsFile(config.data);
  if (existsSync(credentials)) {
    const says = `${credentials} still lets whoever reads it do everything; move it to a safe place, and work with users of your own`;
    findings.push({ check: "files", state: "advice", says });
  }
  return findings.length > 0 ? findings : [{ check: "files", state: "ok", says: "nobody else may read what is kept here" }];
}

/** Whether a server answers where the root user's credentials say. Only of a store whose server runs. */
export async function checkEndpoint(config: Config): Promise<Finding[]> {
  const { endpoint } = readCredentials(credentialsFile(config.data)) ?? {};
  if (endpoint === undefined) return [];
  try {
    const { ok } = await fetch(`${endpoint}/healthz`, { signal: AbortSignal.timeout(connectTimeoutMs) });
    if (ok) return [{ check: "server", state: "ok", says: `a server answers at ${endpoint}` }];
  } catch (error) {
    if (!(error instanceof Error)) throw error;
  }
  const says = `a server runs, but none answers at ${endpoint}, which root-credentials.json names; set REKEY_ENDPOINT to where it listens, or start it with --listen ${new URL(endpoint).host}`;
  return [{ check: "server", state: "advice", says }];
}

/** Whether the store is whole, of this version and initialised. */
export async function checkStore(config: Config, sql: Sql): Promise<Finding[]> {
  const [{ findDamage }, { pendingMigrations }, { isInitialised, checkAccount }] = await Promise.all([
    import("../store/self-check.ts"),
    import("../store/migrate.ts"),
    import("../initialise.ts"),
  ]);
  const problem = (says: string): Finding[] => [{ check: "store", state: "problem", says }];
  const damage = await findDamage(sql);
  if (damage !== undefined) return problem(`the store is damaged (${damage}); restore a backup`);
  const pending = await pendingMigrations(sql);
  if (pending.length > 0) return problem(lacking(pending));
  if (!(await isInitialised(sql))) return problem("the store has no root user yet; run rekey init");
  await checkAccount(sql, config.account);
  return [{ check: "store", state: "ok", says: `${storeName(config)} is whole and of this version` }];
}

/** Whether the root key is the store's, and where it lies. */
export async function checkKey(config: Config, { keys }: LocalStore): Promise<Finding[]> {
  await keys.check();
  const [kind, path = ""] = config.rootKey.split(/:(.*)/s);
  const onSameDisk = kind === "file" && config.databaseUrl === undefined && statSync(path).dev === statSync(config.data).dev;
  const ok: Finding = { check: "key", state: "ok", says: `the root key ${config.rootKey} unwraps this store's keys` };
  if (!onSameDisk) return [ok];
  const says = `${path} lies on the disk of the data: one copy of it reveals everything; keep the key elsewhere and name it with --root-key`;
  return [ok, { check: "key", state: "advice", says }];
}

/** Whether the store was restored, so that its server leaves all targets alone. */
export async function checkQuarantine(sql: Sql): Promise<Finding[]> {
  const { findQuarantine } = await import("../store/quarantine.ts");
  const quarantine = await findQuarantine(sql);
  if (!quarantine) return [];
  const says = `quarantined: ${quarantine.reason}; no rotation runs before rekey quarantine release, and rekey quarantine plan shows what would`;
  return [{ check: "store", state: "advice", says }];
}

/** Whether this machine's clock fits the store's: expiry and schedules go by it. */
export async function checkClock(config: Config, sql: Sql): Promise<Finding[]> {
  const { storeTime } = await import("../store/self-check.ts");
  const asked = Date.now();
  const at = await storeTime(sql);
  const ahead = at - Date.now();
  const behind = config.databaseUrl === undefined ? 0 : asked - at;
  const skewMs = Math.max(ahead, behind);
  if (skewMs <= maxClockSkewMs) return [{ check: "clock", state: "ok", says: "this machine's clock fits the store's" }];
  const says = `this machine's clock differs from the store's by ${Math.round(skewMs / 1000)} s or more; keep it right with NTP`;
  return [{ check: "clock", state: "problem", says }];
}

/** Whether the hosts named in rotated secrets can be reached from here. Values are opened for that, never shown. */
export async function checkTargets({ sql, envelope }: LocalStore): Promise<Finding[]> {
  const { rotatedValues } = await import("../store/self-check.ts");
  const users = new Map<string, string[]>();
  const findings: Finding[] = [];
  for await (const { name, arn, versionId, ...sealed } of rotatedValues(sql)) {
    try {
      const address = addressIn((await envelope.open(sealed, encryptionContext(arn, versionId))).revealText());
      if (address) users.set(address, [...(users.get(address) ?? []), name]);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      findings.push({
        check: "target",
        state: "problem",
        says: `the value of ${name} cannot be opened (${error.code}); is its key enabled?`,
      });
    }
  }
  for (const [address, names] of users) findings.push(await checkAddress(address, names));
  return findings;
}

async function checkAddress(address: string, names: readonly string[]): Promise<Finding> {
  const failure = await tryConnect(address);
  const whose = names.length > 3 ? `${names.length} secrets` : names.join(", ");
  if (failure === undefined) return { check: "target", state: "ok", says: `${address} (${whose}) can be reached` };
  return { check: "target", state: "problem", says: `${address} (${whose}) cannot be reached: ${failure}; check the network` };
}

/** `host:port` of a secret in AWS's JSON form; undefined for any other value. */
function addressIn(text: string): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("host" in value) || typeof value.host !== "string") return undefined;
  const engine = "engine" in value ? String(value.engine) : "";
  const port = Number(("port" in value && value.port) || defaultPorts[engine]);
  return port > 0 && port < 65_536 ? `${value.host}:${port}` : undefined;
}

function tryConnect(address: string): Promise<string | undefined> {
  const colon = address.lastIndexOf(":");
  return new Promise((done) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)), timeout: connectTimeoutMs });
    const end = (failure?: string) => {
      socket.destroy();
      done(failure);
    };
    socket.once("connect", () => end());
    socket.once("timeout", () => end(`no answer within ${connectTimeoutMs / 1000} s`));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? "no connection"));
  });
}

/** The process that writes the embedded store now, in words. */
export async function serverInUse(config: Config): Promise<string | undefined> {
  if (config.databaseUrl !== undefined || !existsSync(databaseFile(config))) return undefined;
  const { claimWriter } = await import("../store/writer-claim.ts");
  try {
    claimWriter(resolve(dirname(databaseFile(config)))).release();
    return undefined;
  } catch (error) {
    if (error instanceof ConfigError) return error.problems[0];
    throw error;
  }
}
