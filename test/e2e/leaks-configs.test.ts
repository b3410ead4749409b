// Marked secrets go every way through configs, webhooks, integrations, leases and their tokens; afterwards they stand nowhere.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references of configs look like that
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { native, nativeOk } from "../support/aws.ts";
import { run } from "../support/cli.ts";
import { Marks } from "../support/marks.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const marks = new Marks();
/** Answers that have no business with secrets, and what commands said. */
const told: string[] = [];
let server: RekeyServer;
const folder = mkdtempSync(join(tmpdir(), "rekey-leaks-"));

before(async () => {
  server = await startRekey({ env: { REKEY_LOG_LEVEL: "trace" } });
  marks.watch("root's token", server.credentials.token);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  for (const one of [server.dataFolder, folder]) rmSync(one, { recursive: true, force: true });
});

/** Any request of the config API. Refusals are kept, and successes that may not hold values. */
async function v3(
  path: string,
  {
    method,
    body,
    token = server.credentials.token,
    mayHold = false,
    text,
  }: {
    method?: string;
    body?: object;
    token?: string;
    mayHold?: boolean;
    text?: string;
  } = {},
): Promise<Record<string, unknown>> {
  const sent = text ?? (body && JSON.stringify(body));
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(`${server.endpoint}/v3/${path}`, {
    method: method ?? (sent ? "POST" : "GET"),
    headers,
    ...(sent && { body: sent }),
  });
  const answer = await response.text();
  if (!response.ok || !mayHold) told.push(answer);
  try {
    return JSON.parse(answer);
  } catch {
    return {};
  }
}

async function ask(path: string, members: object, mayHold = false): Promise<Record<string, unknown>> {
  const { status, text, json } = await native(server, path, members);
  if (status !== 200 || !mayHold) told.push(text);
  return json ?? {};
}

async function everywhere(): Promise<string[]> {
  const pages: string[] = [];
  for (const path of ["audit/search", "events/list", "activity/list"])
    for (let cursor: unknown; ; ) {
      const page = await nativeOk(server, path, { limit: 1000, ...(cursor === undefined ? {} : { cursor }) });
      pages.push(JSON.stringify(page));
      cursor = page.cursor;
      if (cursor === undefined || Object.values(page).some((rows) => Array.isArray(rows) && rows.length === 0)) break;
    }
  const places = {
    log: server.log(),
    answers: told.join("\n"),
    metrics: await (await fetch(`${server.endpoint}/metrics`)).text(),
    trails: pages.join("\n"),
    process: ["cmdline", "environ"].map((name) => readFileSync(`/proc/${server.pid}/${name}`, "utf8")).join("\n"),
  };
  const found = Object.entries(places).flatMap(([place, text]) => marks.foundIn(text).map((what) => `${place}: ${what}`));
  return [...found, ...marks.foundInFolder(server.dataFolder, ["root.key", "root-credentials.json"])];
}

const of = "project=shop&config=dev";
const place = { project: "shop", config: "dev" };

async function useConfigs(): Promise<void> {
  const value = (what: string) => marks.fresh(what);
  await v3("projects", { body: { name: "shop" } });
  const set = (secrets: object, config = "dev") =>
    v3("configs/config/secrets", { body: { project: "shop", config, secrets }, mayHold: true });
  await set({ A: value("a value"), B: "x${A}y", C: value("another") });
  await set({ A: value("a changed value"), C: null });
  await set({ A: value("in stg") }, "stg");
  await set({ FAR: "${stg.A}" });
  const change = (request: object) =>
    v3("configs/config/secrets", { body: { ...place, change_requests: [request] }, mayHold: true });
  await change({ name: "R", originalName: null, value: value("restricted"), visibility: "restricted" });
  await change({ name: "D", originalName: null, value: "is ${R}" });
  const wrong: object[] = [
    { name: "not a name", originalName: null, value: value("under a bad name") },
    { name: "A", value: value("guarded"), originalValue: value("a wrong guess") },
    { name: "N", originalName: null, value: `${value("no number")}`, valueType: { type: "integer" } },
    { name: "R", originalValue: value("a guess at what is restricted"), value: "x" },
    { name: "Y", originalName: null, value: [value("a list")] },
    { name: "Z", originalName: null, value: value("too long").padEnd(60_000, "z") },
  ];
  for (const request of wrong) await change(request);
  await set({ "bad name": value("by name, bad") });
  await set({ X: { inside: value("an object") } });
  await v3("configs/config/secrets", { body: { project: "none", config: "none", secrets: { A: value("nowhere") } } });
  await v3("configs/config/secrets", { text: `{"project":"shop","secrets":{"A":"${value("broken JSON")}"` });
  for (const file of [
    `UP=${value("uploaded")}`,
    `UP="${value("open quotation")}`,
    `- ${value("a YAML list")}`,
    `{"UP": ["${value("a JSON list")}"]}`,
    `UP: !!binary ${value("a YAML tag")}`,
    `UP=1\nUP=${value("twice")}`,
    value("nothing but a value"),
  ])
    await v3("configs/config/secrets/upload", { body: { ...place, file }, mayHold: true });
  for (const template of [
    `projects:\n- name: made\n  secrets:\n    dev:\n      T: ${value("of a template")}\n`,
    `projects:\n- name: made\n  secrets:\n    dev: [${value("of a bad template")}]\n`,
    `projects:\n- name: "${value("of a broken template")}\n`,
    `projects:\n- name: made2\n  secrets:\n    dev:\n      "bad name": ${value("under a bad name of a template")}\n`,
  ])
    await ask("templates/import", { template });
  await v3(`configs/config/secrets?${of}`, { mayHold: true });
  for (const format of ["json", "env", "yaml", "docker", "nonsense"])
    await v3(`configs/config/secrets/download?${of}&format=${format}&secrets=A,B,FAR`, { mayHold: true });
  await v3(`configs/config/secrets/download?${of}`, { mayHold: true }); // holds restricted ones: refused
  const { logs } = await ask("configs/logs", place);
  for (const { id: logId } of logs as { id: string }[]) {
    const { log } = await ask("configs/log", { ...place, logId }, true);
    assert.deepEqual(
      marks.foundIn(JSON.stringify(log)).filter((what) => what.startsWith("restricted")),
      [],
    );
  }
  await ask("configs/rollback", { ...place, logId: (logs as { id: string }[])[0]?.id }, true);
  await ask("config-secrets/set-note", { project: "shop", secret: "A", note: "what A is for" });
  await v3(`configs/config/secret?${of}&name=R`);
  await v3(`configs/config/secrets/names?${of}`);
}

async function useTokens(): Promise<void> {
  const { token } = (await v3("configs/config/tokens", {
    body: { ...place, name: "ci", access: "read/write" },
    mayHold: true,
  })) as {
    token: { key: string };
  };
  marks.watch("service token", token.key);
  await v3("configs/config/secrets/download?format=json", { token: token.key, mayHold: true });
  await v3("configs/config/secrets", {
    token: token.key,
    body: { project: "shop", config: "prd", secrets: { A: marks.fresh("elsewhere") } },
  });
  await v3("me", { token: token.key });
  await v3("me", { token: `${token.key.slice(0, -3)}AAA` });
  await v3(`me?token=${marks.fresh("token in a URL")}`);
  await v3("me", { token: marks.fresh("no token") });
  await v3("configs/config/tokens", { method: "DELETE", body: { ...place, token: marks.fresh("token of nobody") } });
  await v3("configs/config/tokens/token", { method: "DELETE", body: { ...place, token: token.key } });
  await ask("service-tokens/list", place);
  await ask("service-accounts/create", { name: "robot" });
  const { apiKey } = await ask("service-account-tokens/create", { serviceAccount: "robot", name: "t" }, true);
  marks.watch("service account's token", String(apiKey));
  await v3("me", { token: String(apiKey) });
  await v3("auth/revoke", { body: { token: String(apiKey) } });
  const begun = await ask("cli-logins/begin", { hostname: "laptop" }, true);
  marks.watch("polling code", String(begun.pollingCode));
  await ask("cli-logins/poll", { code: begun.pollingCode });
  await ask("cli-logins/poll", { code: marks.fresh("wrong polling code").slice(0, 60) });
  await v3("auth/oidc", { body: { identity: randomUUID(), token: `e30.${marks.fresh("an issuer's token")}.x` } });
}

async function useWebhooks(): Promise<void> {
  const { webhook } = await ask("webhooks/create", {
    project: "shop",
    url: "https://127.0.0.2.example:1/hook",
    secret: marks.fresh("webhook's secret"),
    authentication: { type: "Bearer", token: marks.fresh("webhook's token") },
  });
  const { id } = webhook as { id: string };
  await ask("webhooks/update", {
    project: "shop",
    id,
    secret: marks.fresh("webhook's other secret"),
    authentication: { type: "Basic", username: "u", password: marks.fresh("webhook's password") },
  });
  await ask("webhooks/update", {
    project: "shop",
    id,
    authentication: { type: "Nonsense", password: marks.fresh("of no type") },
  });
  await ask("webhooks/create", { project: "shop", url: "nonsense", secret: marks.fresh("secret of a bad webhook") });
  await v3("webhooks", { body: { project: "shop", url: "http://10.0.0.1/", secret: marks.fresh("secret by /v3") } });
  await v3("configs/config/secrets", { body: { ...place, secrets: { TOLD: marks.fresh("told to webhooks") } }, mayHold: true });
  const deliveries = async () =>
    (await ask("webhooks/list-deliveries", { project: "shop", id })).deliveries as { attempts: number }[];
  for (let asked = 0; asked < 500 && !(await deliveries()).some(({ attempts }) => attempts > 0); asked++) await sleep(20);
  await ask("webhooks/get", { project: "shop", id });
}

test("of configs, tokens and webhooks stand nowhere", async () => {
  await useConfigs();
  await useTokens();
  await useWebhooks();
  assert.deepEqual(await everywhere(), []);
});

test("of integrations and leases stand nowhere, nor in the database's log or the memory of programs beside", {
  skip: postgresSkip,
}, async () => {
  await using database = await startPostgres({ settings: ["log_statement=all", "log_min_messages=debug1"] });
  const { host, port, user: username, password } = database;
  marks.watch("managing user's password", password);
  const admin = new pg.Client(database.url);
  await admin.connect();
  await admin.query("create role readers");
  const data = { host, port, username, password };
  await ask("projects/create", { name: "leased" });
  const leased = { project: "leased", config: "dev" };
  await ask("integrations/create", { name: "main", type: "postgres", data });
  await ask("integrations/create", { name: "bad", type: "postgres", data: { ...data, password: marks.fresh("wrong password") } });
  await ask("integrations/create", {
    name: "bad",
    type: "postgres",
    data: { ...data, password: { is: marks.fresh("an object") } },
  });
  await ask("integrations/create", { name: "bad", type: "postgres", data: { ...data, passwort: marks.fresh("of no member") } });
  await ask("integrations/create", { name: "bad", type: "nothing", data: { password: marks.fresh("of no kind") } });
  await ask("integrations/update", { integration: "main", data: { host: "127.0.0.2" } }); // without the password: refused
  await ask("integrations/update", {
    integration: "main",
    data: { host: "127.0.0.2", password: marks.fresh("another password") },
  });
  await ask("integrations/get", { integration: "main" });
  await ask("dynamic-secrets/create", { ...leased, name: "DB", integration: "main", settings: { roles: ["readers"] } });
  const watch = (fields: Record<string, string>) => marks.watch("leased password", fields.PASSWORD ?? fields.DB_PASSWORD ?? "");
  const issue = async (more: object = {}) => {
    const answer = await ask("leases/issue", { ...leased, dynamicSecret: "DB", clientRequestToken: randomUUID(), ...more }, true);
    watch(answer.fields as Record<string, string>);
    return answer.lease as { id: string; user: string };
  };
  const [one, two] = [await issue(), await issue()];
  watch(
    (await v3("configs/config/secrets/download?project=leased&config=dev&include_dynamic_secrets=true", {
      mayHold: true,
    })) as Record<string, string>,
  );
  await ask("leases/renew", { leaseId: one.id, ttlSeconds: 3600 });
  await ask("leases/revoke", { leaseId: one.id });
  await admin.query(`alter role "${two.user}" nologin`);
  await ask("leases/list", leased);
  await ask("leases/issue", { ...leased, dynamicSecret: "DB", ttlSeconds: 1 });

  const environment = { HOME: folder, REKEY_ENDPOINT: server.endpoint, REKEY_TOKEN: server.credentials.token };
  const scope = ["--project", "leased", "--config", "dev"];
  await ask("config-secrets/set", { ...leased, secrets: { LASTING: marks.fresh("a lasting value") } }, true);
  const seen = `process.stdout.write(JSON.stringify({ pw: process.env.DB_PASSWORD, lasting: process.env.LASTING,
    argv: [process.pid, process.ppid].map((pid) => require("node:fs").readFileSync("/proc/" + pid + "/cmdline", "utf8")) }))`;
  const ran = await run(["run", ...scope, "--", process.execPath, "-e", seen], { env: environment, cwd: folder });
  const shown = JSON.parse(ran.out) as { pw: string; lasting: string; argv: string[] };
  watch({ PASSWORD: shown.pw });
  assert.match(shown.lasting, /^mark/);
  assert.deepEqual(marks.foundIn(shown.argv.join("\n") + ran.err), []);
  const written = await run(["secrets", "download", "copy.rekey", ...scope], { env: environment, cwd: folder });
  told.push(written.out, written.err);
  const exported = await run(["export", ...scope, "--output", "clear.env"], { env: environment, cwd: folder });
  assert.equal(exported.code, 0, exported.err);
  assert.equal(statSync(join(folder, "clear.env")).mode & 0o777, 0o600);
  assert.ok(marks.foundIn(readFileSync(join(folder, "clear.env"))).length > 0, "that one is in clear");
  assert.ok(existsSync(join(folder, "copy.rekey")));
  assert.deepEqual(marks.foundInFolder(folder, ["clear.env"]), [], "offline copies are sealed");
  for (const { parentPath, name } of readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) =>
    entry.isFile(),
  ))
    assert.equal(statSync(join(parentPath, name)).mode & 0o077, 0, name);

  await ask("dynamic-secrets/delete", { ...leased, name: "DB" });
  for (let asked = 0; asked < 1_000; asked++) {
    if ((await admin.query("select 1 from pg_roles where rolname like 'rk\\_%'")).rowCount === 0) break;
    await sleep(20);
  }
  assert.deepEqual(await everywhere(), []);
  await admin.end();
  assert.deepEqual(marks.foundIn(readFileSync(database.logFile, "utf8")), []);
});
