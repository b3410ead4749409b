// Completion, asked of real shells.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Command } from "commander";
import { commandTree } from "../../src/commands/completion/command-tree.ts";
import { makeProgram } from "../../src/program.ts";
import { run } from "../support/cli.ts";
import { unlessCi } from "../support/server-process.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-completion-"));
after(() => rmSync(folder, { recursive: true }));

const has = (shell: string): boolean => spawnSync(shell, ["--version"]).status === 0;
const script = async (shell: string): Promise<string> => {
  const { code, out, err } = await run(["completion", shell]);
  assert.deepEqual([code, err], [0, ""]);
  const path = join(folder, `rekey.${shell}`);
  writeFileSync(path, out);
  return path;
};

/** What bash offers behind these words; the last one is what is being typed. */
function offered(path: string, words: readonly string[]): string[] {
  const code = `source '${path}'; COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _rekey; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync("bash", ["--norc", "-euo", "pipefail", "-c", code], {
    encoding: "utf8",
    cwd: folder,
  });
  assert.deepEqual([status, stderr], [0, ""], words.join(" "));
  return stdout.split("\n").filter((line) => line !== "");
}

test("bash is offered commands, flags, files and programs where they fit", {
  skip: unlessCi(!has("bash") && "no bash"),
}, async () => {
  const path = await script("bash");
  writeFileSync(join(folder, "values.json"), "");
  assert.deepEqual(offered(path, ["rekey", "secre"]), ["secret", "secrets"]);
  assert.deepEqual(offered(path, ["rekey", "configs", "logs", ""]), ["list", "get", "rollback"]);
  assert.deepEqual(offered(path, ["rekey", "secrets", "set", "--vis"]), ["--visibility"]);
  assert.deepEqual(offered(path, ["rekey", "secrets", "set", "NAME", "--value-f"]), ["--value-file"]);
  assert.deepEqual(offered(path, ["rekey", "secrets", "--project", "configs", "--only"]), []);
  assert.deepEqual(offered(path, ["rekey", "secrets", "set", "--value-file", "val"]), ["values.json"]);
  assert.deepEqual(offered(path, ["rekey", "secrets", "set", "--value-file", "=", "val"]), ["values.json"]);
  assert.deepEqual(offered(path, ["rekey", "secrets", "set", "--type", ""]), []);
  assert.ok(offered(path, ["rekey", "run", "--watch", "--", "ba"]).includes("bash"));
  assert.deepEqual(offered(path, ["rekey", "run", "--", "ls", "--wat"]), []);
  assert.deepEqual(offered(path, ["rekey", "run", "ls", "val"]), ["values.json"]);
  assert.deepEqual(offered(path, ["rekey", "run", "--wat"]), ["--watch"]);
});

test("every command and flag of the program is offered", { skip: unlessCi(!has("bash") && "no bash") }, async () => {
  const path = await script("bash");
  const below = (command: Command): Command[] => [command, ...command.commands.flatMap(below)];
  assert.equal(commandTree(makeProgram()).length, below(makeProgram()).length);
  for (const { path: at, commands, flags } of commandTree(makeProgram()).filter((_command, index) => index % 8 === 0)) {
    const words = ["rekey", ...at.split(" ").filter((word) => word !== "")];
    assert.deepEqual(offered(path, [...words, ""]).sort(), commands.map(({ name }) => name).sort(), at);
    assert.deepEqual(
      offered(path, [...words, "--"]).sort(),
      flags.flatMap(({ names }) => names.filter((name) => name.startsWith("--"))).sort(),
      at,
    );
  }
});

for (const shell of ["zsh", "fish"]) {
  test(`${shell} takes its script`, { skip: unlessCi(!has(shell) && `no ${shell}`) }, async () => {
    const path = await script(shell);
    const { status, stderr } = spawnSync(shell, ["-n", path], { encoding: "utf8" });
    assert.deepEqual([status, stderr], [0, ""]);
  });
}

test("scripts for shells that are not here quote what help says", async () => {
  for (const shell of ["zsh", "fish"]) {
    const { out } = await run(["completion", shell]);
    const text = out.replaceAll(shell === "zsh" ? "'\\''" : "\\'", "");
    assert.equal((text.match(/'/g)?.length ?? 1) % 2, 0, shell);
    assert.match(out, /--visibility|-l visibility/);
  }
});
