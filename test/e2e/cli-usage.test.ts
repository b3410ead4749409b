import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import type { Command } from "commander";
import { makeProgram } from "../../src/program.ts";
import { type CommandLine, closedPort, commandLine, program, run } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-cli-"));
let server: RekeyServer;
let root: CommandLine;

before(async () => {
  server = await startRekey();
  root = commandLine(server.endpoint, server.credentials.token, folder);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

test("usage is 2, one line, and says what to do", async () => {
  for (const args of [
    ["nonsense"],
    ["secret", "nonsense"],
    ["secret", "get"],
    ["secret", "get", "a", "--nonsense"],
    ["backup"],
  ]) {
    const { code, out, err } = await run(args);
    assert.deepEqual([code, out], [2, ""], args.join(" "));
    assert.match(err, /^rekey: .*\n$/);
  }
  const both = await run(["secret", "list"], { env: { ...root.env, REKEY_TOKENS: "x", REKEY_ENDPOINT: "nowhere" } });
  assert.equal(both.code, 2);
  assert.match(
    both.err,
    /^rekey: REKEY_ENDPOINT must be .*\nrekey: REKEY_TOKENS is not a setting; did you mean REKEY_TOKEN\?\n$/,
  );
  const nobody = await run(["secret", "list"], { cwd: folder });
  assert.deepEqual([nobody.code, nobody.err.includes("set REKEY_ENDPOINT and REKEY_TOKEN")], [2, true]);
});

test("nobody there is 3, help is 0", async () => {
  const endpoint = `http://127.0.0.1:${await closedPort()}`;
  const env = { ...root.env, REKEY_ENDPOINT: endpoint };
  const { code, err } = await run(["secret", "list"], { env });
  assert.deepEqual(
    [code, err],
    [3, `rekey: the server at ${endpoint} does not answer; start it with rekey server, or set REKEY_ENDPOINT\n`],
  );
  assert.equal((await run(["migrate", "--database-url", "postgres://127.0.0.1:1/x"])).code, 3);
  for (const args of [["--help"], ["secret", "--help"], ["secret", "put", "--help"], ["server", "--help"], ["--version"]]) {
    const shown = await run(args);
    assert.deepEqual([shown.code, shown.err], [0, ""]);
    assert.notEqual(shown.out, "");
  }
});

test("a server does not start with wrong settings, and tells all of them", async () => {
  const { code, err } = await run(["server", "--listen", "0.0.0.0:1x", "--engine", "maybe"], { env: { REKEY_PORT: "1" } });
  assert.equal(code, 2);
  assert.deepEqual(err.match(/^rekey: \S+/gm), ["rekey: --listen", "rekey: --engine", "rekey: REKEY_PORT"]);
});

test("an unknown command suggests, with and without --help", async () => {
  for (const [args, said] of [
    [["secrt", "list"], "unknown command 'secrt' (Did you mean secret?)"],
    [["secrt", "--help"], "unknown command 'secrt' (Did you mean secret?)"],
    [["secret", "lst", "--help"], "unknown command 'lst' (Did you mean list?)"],
    [["secret", "lst"], "unknown command 'lst' (Did you mean list?)"],
    [["secret", "list", "--deletd"], "unknown option '--deletd' (Did you mean --deleted?)"],
  ] as const) {
    const { code, out, err } = await run(args);
    assert.deepEqual([code, out, err], [2, "", `rekey: ${said}; --help shows what there is\n`]);
  }
});

/** What these write is for whoever has no server yet. */
const asksNobody = [
  ...["aws keys", "aws template", "integration policy", "rekey completion"],
  ...["function new", "function new-publisher-key", "function sign", "function verify"],
];

test("every command's help tells its flags with their variables, and gives an example", () => {
  const leaves = (command: Command): Command[] => (command.commands.length === 0 ? [command] : command.commands.flatMap(leaves));
  const commands = leaves(makeProgram());
  assert.ok(commands.length > 50, String(commands.length));
  for (const command of commands) {
    const name = `${command.parent?.name()} ${command.name()}`;
    let out = "";
    command.configureOutput({
      writeOut: (text) => {
        out += text;
      },
    });
    command.outputHelp();
    assert.match(out, /^Examples?:/m, `${name} has no example`);
    if (!asksNobody.includes(name)) assert.match(out, /REKEY_(ENDPOINT|DATA)\b/, name);
  }
});

test("output that nobody takes ends quietly, output that cannot be written is told", async () => {
  const start = (stdout: number | "pipe", args: readonly string[]) =>
    spawn(process.execPath, [program, ...args], {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...root.env },
      stdio: ["ignore", stdout, "pipe"],
    });
  const cut = start("pipe", ["secret", "list"]);
  cut.stdout?.destroy();
  assert.ok(cut.stderr);
  const [err] = await Promise.all([text(cut.stderr), once(cut, "close")]);
  assert.deepEqual([cut.exitCode, err], [0, ""]);
  if (process.platform !== "linux") return;
  const full = start(openSync("/dev/full", "w"), ["secret", "list"]);
  assert.ok(full.stderr);
  const [told] = await Promise.all([text(full.stderr), once(full, "close")]);
  assert.deepEqual([full.exitCode, told], [1, "rekey: the output cannot be written (ENOSPC); what was asked is done\n"]);
});

test("a server goes on when nobody reads what it prints", async () => {
  const args = [program, "server", "--data", join(folder, "unread"), "--listen", "127.0.0.1:0", "--log-level", "trace"];
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  for await (const part of child.stdout) {
    printed += part;
    if (printed.includes("\n")) break;
  }
  child.stderr.destroy();
  const endpoint = printed.replace("rekey: listening on ", "").trim();
  for (let tries = 0; tries < 5; tries++) assert.equal((await fetch(`${endpoint}/healthz`)).status, 200);
  child.kill("SIGTERM");
  await once(child, "exit");
  assert.equal(child.exitCode, 0);
});

test("other users see no secret among the arguments", { skip: process.platform !== "linux" }, async () => {
  const { token } = server.credentials;
  const args = [program, "audit", "tail", "--follow", "--endpoint", server.endpoint, "--token", token];
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(child.stdout, "data");
    const shown = readFileSync(`/proc/${child.pid}/cmdline`, "utf8");
    assert.ok(!shown.includes(token), shown);
    assert.match(shown, /^rekey audit tail .*--token \*\*\*/);
  } finally {
    child.kill();
  }
});

test("the table is plain text with and without colours asked for", async () => {
  for (const env of [{ FORCE_COLOR: "3" }, { NO_COLOR: "1" }, {}]) {
    const { out, err } = await run(["token", "list"], { env: { ...root.env, ...env, TZ: "Asia/Tokyo", LC_ALL: "de_DE.UTF-8" } });
    assert.equal(err, "");
    assert.match(out, /^ID +NAME +CREATED +ENDS +LAST USED\n[0-9a-f-]+ +root +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ /);
    const created = Date.parse(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ/.exec(out)?.[0] ?? "");
    assert.ok(Math.abs(Date.now() - created) < 3_600_000, "it is UTC");
  }
});
