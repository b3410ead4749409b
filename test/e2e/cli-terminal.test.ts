// What people see: a real terminal, made by `script` of util-linux.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type CommandLine, commandLine, program } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const hasScript = /util-linux/.test(spawnSync("script", ["--version"], { encoding: "utf8" }).stdout ?? "");
const skip = hasScript || process.env.CI ? false : "no script (util-linux) to make a terminal";

const folder = mkdtempSync(join(tmpdir(), "rekey-terminal-"));
let server: RekeyServer;
let root: CommandLine;

interface Seen {
  readonly code: number | null;
  readonly shown: string;
}

/** Runs `rekey` on a terminal; what is typed follows what is shown, a piece for each question. */
async function onTerminal(args: readonly string[], typed: readonly (readonly [RegExp, string])[] = []): Promise<Seen> {
  const quoted = [process.execPath, program, ...args].map((word) => `'${word}'`).join(" ");
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const env = { PATH, NODE_COMPILE_CACHE, TERM: "xterm", ...root.env };
  const command = `stty columns 120 rows 40; exec ${quoted}`; // without a size everything is wrapped
  const child = spawn("script", ["--quiet", "--return", "--command", command, "/dev/null"], { env, cwd: folder });
  let shown = "";
  const waiting = [...typed];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    shown += text;
    const [next] = waiting;
    if (!next?.[0].test(shown)) return;
    waiting.shift();
    child.stdin.write(next[1]);
  });
  await once(child, "close");
  return { code: child.exitCode, shown };
}

describe("on a terminal", { skip }, () => {
  before(async () => {
    server = await startRekey();
    root = commandLine(server.endpoint, server.credentials.token, folder);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test("a value is asked for and not shown", async () => {
    const made = await onTerminal(["secret", "create", "typed"], [[/Value of the secret/, "hunter2\r"]]);
    assert.equal(made.code, 0, made.shown);
    assert.ok(!made.shown.includes("hunter2"), made.shown);
    assert.equal(await root.ask("secret get typed"), "hunter2");
    const left = await onTerminal(["secret", "put", "typed"], [[/Value of the secret/, "\u0003"]]);
    assert.equal(left.code, 1);
    assert.match(left.shown, /rekey: nothing was changed/);
    const nothing = await onTerminal(["secret", "put", "typed"], [[/Value of the secret/, "\r"]]);
    assert.equal(nothing.code, 2, nothing.shown);
    assert.equal(await root.ask("secret get typed"), "hunter2");
  });

  test("a value ends with a line end, and tables are plain", async () => {
    assert.deepEqual(await onTerminal(["secret", "get", "typed"]), { code: 0, shown: "hunter2\r\n" });
    const { shown } = await onTerminal(["secret", "list"]);
    assert.match(shown, /^NAME +ROTATION /);
    assert.ok(!shown.includes("\u001b"), shown);
  });

  test("long work tells that it goes on, and leaves nothing on the screen", async () => {
    for (const [args, what] of [
      [["backup", "--to", "made.backup", "--data", server.dataFolder], "copying .*rekey\\.db"],
      [["restore", "--from", "made.backup", "--data", "restored"], "restoring into restored/rekey\\.db"],
      [["audit", "verify", "--data", server.dataFolder], "reading the audit trail"],
    ] as const) {
      const { code, shown } = await onTerminal(args);
      assert.equal(code, 0, shown);
      assert.match(shown, new RegExp(`^\r\u001b\\[2K${what} … 0 s[^]*\r\u001b\\[2K[^\u001b]+\r\n$`));
    }
  });
});
