// Requests exactly as Doppler's command line sends them: values, their history, downloads.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { allow, nativeOk, newUser } from "../support/aws.ts";
import {
  anything,
  assertShape,
  type CliRequest,
  cli,
  filled,
  type Pattern,
  reference,
  shapes,
  text,
} from "../support/doppler.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
let token: string;
const at = "?project=api&config=dev";
const here = "/v3/configs/config";
before(async () => {
  server = await startRekey();
  token = server.credentials.token;
  await asked("POST /v3/projects", { project: shapes.project }, { body: { name: "api", description: "" } });
});
after(() => server[Symbol.asyncDispose]());

async function asked(endpoint: string, shape: Pattern, options: CliRequest = {}) {
  const answer = await cli(server, endpoint, { token, ...options });
  assert.equal(answer.status, 200, `${endpoint}: ${answer.text}`);
  assertShape(answer.json, shape, endpoint);
  return answer.json;
}

async function refused(endpoint: string, status: number, message: RegExp, options: CliRequest = {}) {
  const answer = await cli(server, endpoint, { token, ...options });
  assert.equal(answer.status, status, `${endpoint}: ${answer.text}`);
  assertShape(answer.json, shapes.failure, endpoint);
  assert.match(answer.json.messages.join("\n"), message, endpoint);
}

type Shown = Record<string, { raw: string | null; computed: string | null; note: string; rawVisibility: string }>;
const list = async (query = "&include_dynamic_secrets=false", options: CliRequest = {}): Promise<Shown> => {
  const { secrets } = await asked(`GET ${here}/secrets${at}${query}`, { secrets: anything, success: true }, options);
  for (const [name, secret] of Object.entries(secrets)) assertShape(secret, shapes.secret, name);
  return secrets;
};
const set = async (secrets: Record<string, string | null>, where = at): Promise<Shown> => {
  const body = { secrets };
  return (await asked(`POST ${here}/secrets${where}`, { secrets: anything, success: true }, { body })).secrets;
};
/** All that the CLI sends of a change. */
const change = (name: string, rest: object) => ({
  name,
  originalName: null,
  value: null,
  originalValue: null,
  originalVisibility: null,
  shouldPromote: null,
  shouldDelete: null,
  shouldConverge: null,
  ...rest,
});
const request = (...change_requests: object[]) => ({ body: { change_requests } });
const raws = (secrets: Shown) =>
  Object.fromEntries(Object.entries(secrets).flatMap(([name, { raw }]) => (name.startsWith("DOPPLER_") ? [] : [[name, raw]])));

test("values are set, listed, and deleted; references are computed; managed names are shown", async () => {
  const made = await set({ HOST: "db", URL: `pg://${reference("HOST")}/x`, EMPTY: "" });
  assert.deepEqual(raws(made), { EMPTY: "", HOST: "db", URL: `pg://${reference("HOST")}/x` });
  const listed = await list();
  assert.deepEqual([listed.URL?.raw, listed.URL?.computed], [`pg://${reference("HOST")}/x`, "pg://db/x"]);
  assert.deepEqual(
    [listed.DOPPLER_PROJECT?.computed, listed.DOPPLER_ENVIRONMENT?.computed, listed.DOPPLER_CONFIG?.computed],
    ["api", "dev", "dev"],
  );
  assert.equal(listed.HOST?.rawVisibility, "masked");
  assert.deepEqual(Object.keys(await list("&secrets=HOST,URL")).toSorted(), ["HOST", "URL"]);
  assert.deepEqual(Object.keys(await list("&include_managed_secrets=false")).toSorted(), ["EMPTY", "HOST", "URL"]);
  const { names } = await asked(`GET ${here}/secrets/names${at}&include_dynamic_secrets=false`, { names: [filled] });
  assert.deepEqual(names.toSorted(), ["DOPPLER_CONFIG", "DOPPLER_ENVIRONMENT", "DOPPLER_PROJECT", "EMPTY", "HOST", "URL"]);
  assert.deepEqual(raws(await set({ EMPTY: null })), { HOST: "db", URL: `pg://${reference("HOST")}/x` });

  const one = await asked(`GET ${here}/secret${at}&name=URL`, { name: "URL", value: shapes.secret });
  assert.equal(one.value.computed, "pg://db/x");
  await refused(`GET ${here}/secret${at}&name=NONE`, 404, /NONE/);
  await set({ GONE: "x" });
  const deleted = await cli(server, `DELETE ${here}/secret${at}&name=GONE`, { token });
  assert.deepEqual([deleted.status, deleted.text], [204, ""]);
});

test("change requests: guards, renaming, deleting, visibility, value types", async () => {
  const url = `POST ${here}/secrets${at}`;
  const shape = { secrets: anything, success: true };
  const made = await asked(url, shape, request(change("PORT", { value: "5432", valueType: { type: "integer" } })));
  assert.deepEqual([made.secrets.PORT.raw, made.secrets.PORT.rawValueType], ["5432", { type: "integer" }]);
  await asked(url, shape, request(change("PORT", { value: "5433", originalValue: "5432" })));
  await refused(url, 409, /PORT/, request(change("PORT", { value: "1", originalValue: "5432" })));
  await refused(url, 400, /PORT/, request(change("PORT", { value: "many" })));
  const shown = await asked(url, shape, request(change("PORT", { visibility: "unmasked" })));
  assert.deepEqual([shown.secrets.PORT.raw, shown.secrets.PORT.rawVisibility], ["5433", "unmasked"]);
  const moved = await asked(url, shape, request(change("DB_PORT", { originalName: "PORT" })));
  assert.deepEqual([moved.secrets.DB_PORT.raw, "PORT" in moved.secrets], ["5433", false]);
  const gone = await asked(url, shape, request(change("DB_PORT", { shouldDelete: true })));
  assert.ok(!("DB_PORT" in gone.secrets));
  await refused(
    url,
    400,
    /may only contain uppercase letters, numbers, and underscores/,
    request(change("port", { value: "1" })),
  );
  await refused(url, 400, /./, { body: { secrets: { A: "1" }, change_requests: [change("B", { value: "2" })] } });
  await refused(url, 400, /./, { body: {} });
});

test("files and notes", async () => {
  const file = '# a file\nHOST=db2\nexport KEY="two\\nlines"\n';
  const { secrets } = await asked(`POST ${here}/secrets/upload${at}`, { secrets: anything, success: true }, { body: { file } });
  assert.deepEqual([secrets.HOST.raw, secrets.KEY.raw], ["db2", "two\nlines"]);
  await asked(
    "POST /v3/projects/project/note?project=api",
    { secret: "HOST", note: "where it is" },
    {
      body: { secret: "HOST", note: "where it is" },
    },
  );
  assert.equal((await list()).HOST?.note, "where it is");
  await asked(`POST ${here}/secrets/note${at}`, { secret: "HOST", note: "" }, { body: { secret: "HOST", note: "" } });
  assert.equal((await list()).HOST?.note, "");
});

test("restricted values are a service token's to read, not a person's", async () => {
  await asked(
    `POST ${here}/secrets${at}`,
    { secrets: anything, success: true },
    request(change("PIN", { value: "1234", visibility: "restricted" })),
  );
  await newUser(server, "reader", allow("rekey:*"));
  const person = String((await nativeOk(server, "tokens/create", { userName: "reader", name: "t" })).token);
  const seen = (await list(undefined, { token: person })).PIN;
  assert.deepEqual([seen?.raw, seen?.computed, seen?.rawVisibility], [null, null, "restricted"]);
  await refused(`GET ${here}/secrets/download${at}&format=json&include_dynamic_secrets=true`, 403, /restricted/i, {
    token: person,
  });
  const { token: made } = await asked(
    `POST ${here}/tokens${at}`,
    { token: anything, success: true },
    { body: { name: "t", access: "read" } },
  );
  assert.equal((await list(undefined, { token: made.key })).PIN?.raw, "1234");
  await asked(`POST ${here}/secrets${at}`, { secrets: anything, success: true }, request(change("PIN", { shouldDelete: true })));
});

test("ids of the body win over those of the query, and no token reaches beyond its config by either", async () => {
  const { token: made } = await asked(
    `POST ${here}/tokens${at}`,
    { token: anything, success: true },
    { body: { name: "t", access: "read/write" } },
  );
  const own = { token: made.key as string };
  const ways: [string, object][] = [
    ["?project=api&config=dev", { project: "api", config: "stg" }],
    ["?project=api&config=stg", { project: "", config: "" }],
    ["?project=api&config=stg", {}],
    ["?project=other&config=dev", {}],
    ["", { config: "stg" }],
    ["", { project: "other" }],
    ["?config=dev&config=stg", { config: "stg" }],
  ];
  for (const [query, ids] of ways)
    await refused(`POST ${here}/secrets${query}`, 403, /not authorized/, { ...own, body: { ...ids, secrets: { STOLEN: "1" } } });
  const body = { project: "api", config: "dev", secrets: { OWN: "1" } };
  await asked(`POST ${here}/secrets?project=other&config=stg`, { secrets: anything, success: true }, { ...own, body });
  assert.equal((await list()).OWN?.raw, "1");
  await refused(`POST ${here}/secrets`, 400, /project/, { body: { project: ["api"], config: { name: "dev" }, secrets: {} } });
});

test("downloads: flat JSON and files of text, bytes as they are, and none at all where nothing changed", async () => {
  const where = "?project=api&config=stg";
  await set({ B_TWO: 'say "hi"', A__ONE: "1", URL: `${reference("A__ONE")}$` }, where);
  const { token: made } = await asked(
    `POST ${here}/tokens${where}`,
    { token: anything, success: true },
    { body: { name: "t", access: "read" } },
  );
  const own = { token: made.key as string };
  const get = (query: string, headers = {}) =>
    cli(server, `GET ${here}/secrets/download?project=&config=&include_dynamic_secrets=true${query}`, { ...own, headers });
  const managed = '"DOPPLER_CONFIG":"stg","DOPPLER_ENVIRONMENT":"stg","DOPPLER_PROJECT":"api"';
  const whole = `{"A__ONE":"1","B_TWO":"say \\"hi\\"",${managed},"URL":"1$"}`;
  const plain = await get("&format=json");
  assert.deepEqual([plain.status, plain.text], [200, whole]);
  assert.match(String(plain.headers["content-type"]), /^application\/json/);
  assert.match(String(plain.headers.etag), /^W\/"[0-9a-f]{64}"$/);
  assert.equal((await get("")).text, whole);
  assert.equal((await get("&format=json&secrets=URL,A__ONE")).text, '{"A__ONE":"1","URL":"1$"}');
  assert.equal((await get("&format=dotnet-json&secrets=A__ONE")).text, '{"A:One":"1"}');
  assert.equal((await get("&format=json&secrets=A__ONE&name_transformer=tf-var")).text, '{"TF_VAR_a__one":"1"}');
  const texts: [string, string][] = [
    ["env", 'B_TWO="say \\"hi\\""'],
    ["env-no-quotes", 'B_TWO=say "hi"'],
    ["docker", 'B_TWO=say "hi"'],
  ];
  for (const [format, line] of texts) {
    const answer = await get(`&format=${format}&secrets=B_TWO`);
    assert.deepEqual([answer.status, answer.text.trimEnd()], [200, line], format);
    assert.match(String(answer.headers["content-type"]), /^text\/plain/, format);
  }
  assert.match((await get("&format=yaml&secrets=B_TWO")).text, /^B_TWO: /);

  const tag = String(plain.headers.etag);
  const same = await get("&format=json", { "If-None-Match": tag });
  assert.deepEqual([same.status, same.text, same.headers["content-length"] ?? "0"], [304, "", "0"]);
  assert.equal((await get("&format=env", { "If-None-Match": tag })).status, 200);
  await set({ C: "3" }, where);
  const changed = await get("&format=json", { "If-None-Match": tag });
  assert.equal(changed.status, 200);
  assert.notEqual(changed.headers.etag, tag);
  const fetched = async () => (await asked(`GET ${here}${where}`, { config: shapes.config })).config;
  while ((await fetched()).initial_fetch_at === null) await sleep(100); // written in batches
  assert.notEqual((await fetched()).last_fetch_at, null);
  await refused(`GET ${here}/secrets/download?format=xml`, 400, /format/, own);
  await refused(`GET ${here}/secrets/download?name_transformer=none`, 400, /name_transformer/, own);
});

test("a config's log: who did what, the difference, and the way back", async () => {
  const where = "?project=api&config=prd";
  await set({ KEY: "one", LEFT: "x" }, where);
  await set({ KEY: "two", LEFT: null, NEW: "y" }, where);
  const { logs } = await asked(`GET ${here}/logs${where}&page=1&per_page=20`, { page: 1, logs: [shapes.log] });
  const withDiff = { log: { ...shapes.log, diff: [{ name: filled, added: text, removed: text }] } };
  const { log } = await asked(`GET ${here}/logs/log${where}&log=${logs[0].id}`, withDiff);
  assert.deepEqual(
    log.diff.toSorted((a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1)),
    [
      { name: "KEY", added: "two", removed: "one" },
      { name: "LEFT", added: "", removed: "x" },
      { name: "NEW", added: "y", removed: "" },
    ],
  );
  const back = await asked(`POST ${here}/logs/log/rollback${where}&log=${logs[0].id}`, { log: anything });
  assert.equal(back.log.rollback, true);
  const { secrets } = await asked(`GET ${here}/secrets${where}&include_managed_secrets=false`, {
    secrets: anything,
    success: true,
  });
  assert.deepEqual(raws(secrets), { KEY: "one", LEFT: "x" });
});

test("a template makes projects", async () => {
  const template = [
    "projects:",
    "  - name: shop",
    "    description: A shop",
    "    environments:",
    "      - name: Development",
    "        slug: dev",
    "        configs:",
    "          - slug: dev",
    "    secrets:",
    "      dev:",
    "        KEY: value",
  ].join("\n");
  const { projects } = await asked("POST /v3/workplace/template/import", { projects: [shapes.project] }, { body: { template } });
  assert.deepEqual([projects.length, projects[0].name], [1, "shop"]);
  const { secrets } = await asked(`GET ${here}/secrets?project=shop&config=dev`, { secrets: anything, success: true });
  assert.equal(secrets.KEY.raw, "value");
});

test("no value is in the audit trail or the log", async () => {
  const mark = (word: string) => `marked-${word}-value`;
  await set({ MARKED: mark("set") });
  const shape = { secrets: anything, success: true };
  await asked(
    `POST ${here}/secrets${at}`,
    shape,
    request(change("MARKED", { value: mark("change"), originalValue: mark("set") })),
  );
  await refused(
    `POST ${here}/secrets${at}`,
    409,
    /MARKED/,
    request(change("MARKED", { value: "x", originalValue: mark("guard") })),
  );
  await refused(
    `POST ${here}/secrets${at}`,
    400,
    /BAD/,
    request(change("BAD", { value: mark("bad"), valueType: { type: "integer" } })),
  );
  await asked(`POST ${here}/secrets/upload${at}`, shape, { body: { file: `MARKED=${mark("upload")}` } });
  await refused(`POST ${here}/secrets/upload${at}`, 400, /./, { body: { file: `{"MARKED": "${mark("file")}` } });
  await refused(`POST ${here}/secrets${at}`, 400, /not a JSON object/, { body: `{"secrets": {"MARKED": "${mark("broken")}"` });
  await list();
  const folder = join(server.dataFolder, "audit");
  const audit = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
  assert.match(audit.join(""), /rekey:SetConfigSecrets/);
  for (const text of [...audit, server.log()]) assert.doesNotMatch(text, /marked-/);
});
