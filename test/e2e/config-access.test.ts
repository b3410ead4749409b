// Who may use configs, over a real server: its command line, its config API, its login page.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runInNewContext } from "node:vm";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-access-"));
let server: RekeyServer;
let cli: CommandLine;

before(async () => {
  server = await startRekey();
  cli = commandLine(server.endpoint, server.credentials.token, folder);
  await cli.askJson("projects create shop");
  for (const config of ["dev", "prd"])
    await native("config-secrets/set", { project: "shop", config, secrets: { COLOUR: `${config}-blue` } });
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

type Answer = Record<string, unknown>;

async function send(path: string, init: RequestInit, token?: string): Promise<{ status: number; body: Answer }> {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(`${server.endpoint}${path}`, {
    ...init,
    headers: { "content-type": "application/json", ...authorization },
  });
  return { status: response.status, body: (await response.json()) as Answer };
}

async function native(operation: string, input: object, token = server.credentials.token): Promise<Answer> {
  const { status, body } = await send(`/rekey/v1/${operation}`, { method: "POST", body: JSON.stringify(input) }, token);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

const v3 = (path: string, token?: string) => send(`/v3/${path}`, {}, token);
const download = (token: string, of = "") =>
  v3(`configs/config/secrets/download?format=json&include_dynamic_secrets=true&project=&config=${of}`, token);

async function newToken(...more: string[]): Promise<{ id: string; key: string }> {
  const made = await cli.askJson(["service-token", "create", "ci", "--project", "shop", "--config", "dev", ...more]);
  return made.token as { id: string; key: string };
}

test("a service token serves its config, fills in its names, and opens nothing else", async () => {
  const { id, key } = await newToken();
  const own = await download(key);
  assert.equal(own.status, 200, JSON.stringify(own.body));
  assert.equal(own.body.COLOUR, "dev-blue");
  for (const other of ["prd", "stg", "dev_other"]) assert.equal((await download(key, other)).status, 403, other);
  const elsewhere = await v3("configs/config/secrets/download?format=json&project=other&config=dev", key);
  assert.equal(elsewhere.status, 403);
  const written = await send(
    "/v3/configs/config/secrets",
    { method: "POST", body: JSON.stringify({ secrets: { COLOUR: "red" } }) },
    key,
  );
  assert.equal(written.status, 403);
  const projects = await v3("projects?page=1&per_page=1000", key);
  assert.deepEqual(
    (projects.body.projects as Answer[]).map((one) => one.id),
    ["shop"],
  );
  const configs = await v3("configs?project=shop&page=1&per_page=100", key);
  assert.deepEqual(
    (configs.body.configs as Answer[]).map((one) => one.name),
    ["dev"],
  );
  for (const operation of ["service-tokens/create", "users/list", "secrets/list", "events/list", "audit/search"]) {
    const input = { project: "shop", config: "dev", name: "more" };
    const { status } = await send(`/rekey/v1/${operation}`, { method: "POST", body: JSON.stringify(input) }, key);
    assert.notEqual(status, 200, operation);
  }
  const aws = await fetch(server.endpoint, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "x-amz-target": "secretsmanager.ListSecrets" },
    body: "{}",
  });
  assert.notEqual(aws.status, 200);
  assert.match(await cli.ask("service-token list --project shop --config dev"), new RegExp(id));
  await cli.ask(`service-token delete ${id} --project shop --config dev --yes`);
  assert.equal((await download(key)).status, 401);
});

test("what a token may write, and from where it may be used", async () => {
  const { key } = await newToken("--access", "read/write", "--ttl", "1h");
  const written = await send(
    "/v3/configs/config/secrets",
    { method: "POST", body: JSON.stringify({ secrets: { SHAPE: "round" } }) },
    key,
  );
  assert.equal(written.status, 200, JSON.stringify(written.body));
  const of = "--project shop --config dev";
  await cli.ask(`trusted-ip add 203.0.113.0/24 ${of}`);
  await cli.ask(`trusted-ip delete 0.0.0.0/0 ${of}`);
  await cli.ask(`trusted-ip delete ::/0 ${of}`);
  for (const token of [key, server.credentials.token]) {
    const { status, body } = await v3("configs/config/secrets/download?format=json&project=shop&config=dev", token);
    assert.equal(status, 403);
    assert.match(JSON.stringify(body), /does not trust address/);
  }
  await cli.ask(`trusted-ip add 127.0.0.0/8 ${of}`);
  assert.equal((await download(key)).status, 200);
});

/** What the page says after somebody gave a code and a token, looked, and said yes: its own script, without a browser around it. */
async function useLoginPage(html: string, code: string, token: string): Promise<string> {
  const script = /<script>([\s\S]*)<\/script>/.exec(html)?.[1] ?? "";
  const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => String(id));
  const elements = new Map(ids.map((id) => [id, new PageElement()]));
  const element = (id: string) => {
    const found = elements.get(id);
    if (!found) throw new Error(`the page has no ${id}`);
    return found;
  };
  const document = { getElementById: element, querySelectorAll: () => [] };
  const own = (path: string, init: RequestInit) => fetch(new URL(path, server.endpoint), init);
  runInNewContext(script, { document, location: { hash: `#${code}` }, fetch: own });
  element("token").value = token;
  element("look").emit("submit");
  while (element("shown").textContent !== code && element("said").textContent === "") await sleep(5);
  element("yes").emit("click");
  while (element("said").textContent === "") await sleep(5);
  assert.equal(element("token").value, "", "the token does not stay on the page");
  return element("said").textContent;
}

class PageElement {
  value = "";
  textContent = "";
  hidden = false;
  readonly #listeners = new Map<string, (event: object) => void>();

  addEventListener(type: string, listener: (event: object) => void): void {
    this.#listeners.set(type, listener);
  }

  emit(type: string): void {
    this.#listeners.get(type)?.({ preventDefault: () => undefined });
  }
}

test("a command line logs in by the page's own calls, and Doppler's", async () => {
  const page = await fetch(`${server.endpoint}/login`);
  const html = await page.text();
  const policy = page.headers.get("content-security-policy") ?? "";
  assert.match(policy, /default-src 'none'.*script-src 'sha256-[^']+'.*frame-ancestors 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  assert.doesNotMatch(html, /https?:\/\//);
  for (const tag of ["script", "style"]) {
    const text = new RegExp(`<${tag}>([\\s\\S]*)</${tag}>`).exec(html)?.[1] ?? "";
    assert.ok(policy.includes(`'sha256-${createHash("sha256").update(text).digest("base64")}'`), tag);
  }
  const begun = (await v3("auth/cli/generate/2?hostname=laptop&version=1&os=linux&arch=x64")).body;
  assert.equal(String(begun.auth_url), `${server.endpoint}/login#${begun.code}`);
  const poll = () => send("/v3/auth/cli/authorize", { method: "POST", body: JSON.stringify({ code: begun.polling_code }) });
  assert.equal((await poll()).status, 409);
  await cli.ask("user create alice");
  const policyDocument = JSON.stringify({
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: "rekey:CreateToken", Resource: "*" }],
  });
  const { arn } = await native("policies/create", { policyName: "log-in", policyDocument });
  await native("policies/attach", { policyArn: arn, userName: "alice" });
  const { token: alice } = await native("tokens/create", { userName: "alice", name: "browser" });
  const shown = await native("cli-logins/get", { code: begun.code }, String(alice));
  assert.deepEqual([shown.hostname, shown.state], ["laptop", "pending"]);
  const said = await useLoginPage(html, String(begun.code), String(alice));
  assert.match(said, /^Done\./);
  const { status, body } = await poll();
  assert.equal(status, 200, JSON.stringify(body));
  for (const member of ["token", "name", "dashboard_url"]) assert.equal(typeof body[member], "string", member);
  const me = (await v3("me", String(body.token))).body;
  assert.deepEqual([me.type, me.name], ["cli", "laptop"]);
  const rolled = await send("/v3/auth/cli/roll", { method: "POST", body: JSON.stringify({ token: body.token }) });
  assert.equal(rolled.status, 200, JSON.stringify(rolled.body));
  assert.equal((await v3("me", String(body.token))).status, 401);
  const token = rolled.body.token;
  assert.equal((await send("/v3/auth/cli/revoke", { method: "POST", body: JSON.stringify({ token }) })).status, 200);
  assert.equal((await v3("me", String(token))).status, 401);
  assert.equal(server.log().includes(String(alice)), false);
});

test("a service account works in the projects where it has a role, and reads what is restricted", async () => {
  await cli.ask("service-account create robot");
  const made = await cli.askJson("service-account create-token robot ci --ttl 1h");
  const key = String(made.apiKey);
  assert.match(key, /^dp\.sa\./);
  const read = () => v3("configs/config/secrets/download?format=json&project=shop&config=prd", key);
  assert.equal((await read()).status, 403);
  await cli.ask("project-role set shop robot viewer");
  assert.equal((await read()).body.COLOUR, "prd-blue");
  const changeRequests = [{ name: "SECRET", value: "for-machines", visibility: "restricted" }];
  await native("config-secrets/set", { project: "shop", config: "prd", changeRequests });
  assert.equal((await read()).body.SECRET, "for-machines");
  assert.match(await cli.ask("project-role list shop"), /robot\s+viewer/);
  assert.match(await cli.ask("service-account show robot"), /shop: viewer/);
  await cli.ask("project-role remove shop robot");
  assert.equal((await read()).status, 403);
  await cli.ask("service-account delete robot");
  assert.equal((await read()).status, 401);
});
