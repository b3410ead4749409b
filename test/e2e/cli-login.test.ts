// Logins of the command line, and what is made of them where nobody may.
import assert from "node:assert/strict";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { program } from "../support/cli.ts";
import { type ConfigCli, configCli, until } from "../support/config-cli.ts";
import { openTerminal, quoted, withoutTerminal } from "../support/terminal.ts";

let cli: ConfigCli;
/** A user who may do everything. */
let alice: string;
const homes: string[] = [];
const home = (): string => {
  homes.push(mkdtempSync(join(tmpdir(), "rekey-home-")));
  return homes.at(-1) ?? "";
};
/** Somebody without any setting. */
const nobody = (folder: string) => ({ HOME: folder, REKEY_ENDPOINT: "", REKEY_TOKEN: "", REKEY_PROJECT: "", REKEY_CONFIG: "" });
const loginsOf = (folder: string): string[] => readdirSync(join(folder, ".config/rekey/logins"));

before(async () => {
  cli = await configCli();
  await cli.native("users/create", { userName: "alice" });
  const all = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }] };
  const { arn } = await cli.native("policies/create", { policyName: "all", policyDocument: JSON.stringify(all) });
  await cli.native("policies/attach", { policyArn: arn, userName: "alice" });
  alice = String((await cli.native("tokens/create", { name: "hers", userName: "alice" })).token);
});
after(async () => {
  await cli[Symbol.asyncDispose]();
  for (const folder of homes) rmSync(folder, { recursive: true });
});

test("a login is approved elsewhere, holds from then on, and ends with logout", async () => {
  const folder = home();
  const child = cli.begin(["login", "--endpoint", cli.server.endpoint], nobody(folder));
  await until("it shows its code", () => /Code: \S+\nSay yes at http\S+/.test(child.shown()));
  const [, code = ""] = /Code: (\S+)/.exec(child.shown()) ?? [];
  const unasked = await cli.rekey(["login", "approve", code], { env: { REKEY_TOKEN: alice } });
  assert.deepEqual([unasked.code, /give --yes/.test(unasked.err)], [2, true]);
  const approved = await cli.rekey(["login", "approve", code, "--yes"], { env: { REKEY_TOKEN: alice } });
  assert.match(approved.out, /^Code +\S+\nMachine +\S+[\s\S]*\nthe login is approved\n$/);
  await child.closed;
  assert.equal(child.exitCode, 0, child.shown());
  assert.match(child.shown(), /logged in at http:\S+ as \S+; rekey setup/);
  assert.ok(!child.shown().includes("dp."), child.shown());
  const [file = ""] = loginsOf(folder);
  const path = join(folder, ".config/rekey/logins", file);
  assert.deepEqual([statSync(path).mode & 0o777, statSync(join(folder, ".config/rekey")).mode & 0o777], [0o600, 0o700]);
  const { token } = JSON.parse(readFileSync(path, "utf8"));
  assert.match(token, /^dp\.ct\./);

  const env = nobody(folder);
  assert.match((await cli.rekey(["projects"], { env })).out, /\nshop /);
  assert.match((await cli.rekey(["secret", "list"], { env })).out, /^no secrets|NAME/); // commands of the native API too
  assert.match((await cli.rekey(["me"], { env })).out, /\nType +cli\n/);
  const elsewhere = await cli.rekey(["projects"], { env: { ...env, REKEY_ENDPOINT: "http://127.0.0.1:1" } });
  assert.deepEqual([elsewhere.code, /not told which server, or as whom/.test(elsewhere.err)], [2, true]);
  const out = await cli.rekey(["logout"], { env });
  assert.deepEqual([out.code, loginsOf(folder)], [0, []], out.err);
  const dead = await cli.rekey(["projects"], { env: { ...cli.env, REKEY_TOKEN: token } });
  assert.deepEqual([dead.code, /run rekey login/.test(dead.err)], [1, true]);
});

test("a denied login ends with a refusal", async () => {
  const child = cli.begin(["login", "--endpoint", cli.server.endpoint], nobody(home()));
  await until("it shows its code", () => /Code: (\S+)\n/.test(child.shown()));
  const [, code = ""] = /Code: (\S+)/.exec(child.shown()) ?? [];
  assert.equal(
    (await cli.rekey(["login", "approve", code, "--deny"], { env: { REKEY_TOKEN: alice } })).out.includes("denied"),
    true,
  );
  await child.closed;
  assert.deepEqual([child.exitCode, /denied/.test(child.shown())], [1, true]);
});

test("a token from standard input holds in its folder only, and the nearest login wins", async () => {
  const folder = home();
  const env = nobody(folder);
  const inner = join(folder, "inner");
  mkdirSync(inner);
  const login = (token: string, ...flags: string[]) =>
    cli.rekey(["login", "--endpoint", cli.server.endpoint, "--token-stdin", ...flags], { env, input: `${token}\n`, cwd: folder });
  const bound = await cli.serviceToken();
  assert.equal((await login(alice)).code, 0);
  assert.equal((await login(bound, "--scope", inner)).code, 0);
  const type = async (cwd: string) => /\nType +(\S+)/.exec((await cli.rekey(["me"], { env, cwd })).out)?.[1];
  assert.deepEqual([await type(folder), await type(inner)], ["personal", "service_token"]);
  assert.match((await cli.rekey(["run", "--command", "echo $REKEY_CONFIG"], { env, cwd: inner })).out, /^dev\n$/);
  const wrong = await login(`dp.pt.${"x".repeat(40)}`);
  assert.equal(wrong.code, 1);
  const none = await login("hunter2");
  assert.deepEqual([none.code, none.err.includes("hunter2")], [2, false]);
  assert.equal(loginsOf(folder).length, 2);
});

test("credentials that others may read are not used", async () => {
  const folder = home();
  const env = nobody(folder);
  await cli.rekey(["login", "--endpoint", cli.server.endpoint, "--token-stdin"], { env, input: alice });
  const path = join(folder, ".config/rekey/logins", loginsOf(folder)[0] ?? "");
  chmodSync(path, 0o644);
  const loose = await cli.rekey(["me"], { env });
  assert.deepEqual([loose.code, loose.err], [1, `rekey: others may read ${path}, so it is not used: chmod 600 ${path}\n`]);
  chmodSync(path, 0o600);
  writeFileSync(path, "{");
  assert.match((await cli.rekey(["me"], { env })).err, /is damaged: remove it and log in again/);
});

test("a .rekey.yaml that a stranger put above is not used", {
  skip: process.getuid?.() !== 0 && "only root can make a stranger's file",
}, async () => {
  const folder = home();
  const inner = join(folder, "inner");
  mkdirSync(inner);
  writeFileSync(join(folder, ".rekey.yaml"), "project: shop\nconfig: prd\n");
  chownSync(join(folder, ".rekey.yaml"), 65_534, 65_534);
  const env = { ...cli.env, REKEY_PROJECT: "", REKEY_CONFIG: "" };
  const refused = await cli.rekey(["secrets"], { env, cwd: inner });
  assert.deepEqual([refused.code, /belongs to another user, so it is not used/.test(refused.err)], [2, true]);
});

test("a token is not sent where an answer sends us, and a page in between deletes no offline copy", async () => {
  const folder = home();
  const env = { ...cli.env, HOME: folder };
  const seen: string[] = [];
  let status = 404;
  const between = createServer((request, response) => {
    seen.push(String(request.headers.authorization));
    response
      .writeHead(status, { "content-type": "text/html", location: `${cli.server.endpoint}/v3/me` })
      .end("<html>not here</html>");
  }).listen(0, "127.0.0.1");
  await once(between, "listening");
  const { port } = between.address() as AddressInfo;
  try {
    await cli.set({ A: "1" });
    const copy = ["--fallback", join(folder, "copy")];
    assert.equal((await cli.rekey(["run", ...copy, "--", "true"], { env })).code, 0);
    const over = { ...env, REKEY_ENDPOINT: `http://127.0.0.1:${port}` };
    status = 503;
    const during = await cli.rekey(["run", ...copy, "--command", "echo $A"], { env: over });
    assert.deepEqual([during.code, during.out], [0, "1\n"], during.err);
    status = 404;
    const wrong = await cli.rekey(["run", ...copy, "--command", "echo $A"], { env: over });
    assert.deepEqual([wrong.code, /is not Rekey \(HTTP 404\)/.test(wrong.err)], [1, true]);
    status = 302;
    const sent = await cli.rekey(["me"], { env: over });
    assert.deepEqual([sent.code, sent.out], [3, ""]);
  } finally {
    between.close();
  }
});

test("a token that is ended takes its offline copy with it", async () => {
  const folder = home();
  const token = await cli.serviceToken();
  const env = { ...cli.env, HOME: folder, REKEY_TOKEN: token };
  await cli.rekey(["run", "--", "true"], { env });
  const offline = join(folder, ".local/state/rekey/offline");
  assert.equal(readdirSync(offline).length, 1);
  await cli.api("configs/config/tokens/token", { project: "shop", config: "dev", token }, "DELETE");
  const refused = await cli.rekey(["run", "--", "true"], { env });
  assert.deepEqual([refused.code, readdirSync(offline)], [1, []], refused.err);
});

test("on a terminal setup asks for what there is several of", { skip: withoutTerminal }, async () => {
  const folder = home();
  const env = { ...cli.env, HOME: folder, REKEY_PROJECT: "", REKEY_CONFIG: "" };
  const terminal = openTerminal(`exec ${quoted([process.execPath, program, "setup"])}`, { env, cwd: folder });
  await terminal.type(/Which config\?/, "\u001b[B\r");
  assert.equal(await terminal.code, 0, terminal.shown());
  assert.match(readFileSync(join(folder, ".rekey.yaml"), "utf8"), /^project: shop\nconfig: (dev|prd|stg)\n$/);
});
