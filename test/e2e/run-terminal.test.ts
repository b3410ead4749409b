// `rekey run` where people use it: on a real terminal.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { program } from "../support/cli.ts";
import { type ConfigCli, configCli, until } from "../support/config-cli.ts";
import { openTerminal, quoted, type Terminal, withoutTerminal } from "../support/terminal.ts";

const controlC = "\u0003";
const controlBackslash = "\u001c";
const controlZ = "\u001a";

let cli: ConfigCli;
const rekey = quoted([process.execPath, program]);
const open = (text: string, env: Record<string, string> = {}): Terminal =>
  openTerminal(text, { env: { ...cli.env, ...env }, cwd: cli.folder });
/** A program that counts a signal, and tells it. */
const counting = (signal: string, code: string): string =>
  quoted([
    process.execPath,
    "-e",
    `let n = 0; process.on("${signal}", () => { n++; ${code} }); setInterval(() => {}, 1e3); console.log("up " + process.env.LOG)`,
  ]);

describe("on a terminal", { skip: withoutTerminal }, () => {
  before(async () => {
    cli = await configCli();
    await cli.set({ LOG: "debug" });
  });
  after(() => cli[Symbol.asyncDispose]());

  test("Ctrl-C reaches the program once, and its own end is the end", async () => {
    // Two signals so close together may look like one: so it is tried some times.
    const presses = 10;
    const told = `console.log("got " + n); if (n >= ${presses}) setTimeout(() => { console.log("all " + n); process.exit(9) }, 300)`;
    const terminal = open(`exec ${rekey} run -- ${counting("SIGINT", told)}`);
    await terminal.type(/up debug/, controlC);
    for (let press = 1; press < presses; press++) await terminal.type(new RegExp(`got ${press}\\b`), controlC);
    assert.equal(await terminal.code, 9, terminal.shown());
    assert.match(terminal.shown(), new RegExp(`all ${presses}\r`));
  });

  test("a program that goes on after Ctrl-C keeps its terminal, and one without a handler ends with 130", async () => {
    const terminal = open(
      `exec ${rekey} run -- ${counting("SIGINT", 'console.log("still here " + n); if (n === 2) process.exit(5)')}`,
    );
    await terminal.type(/up debug/, controlC);
    await terminal.type(/still here 1/, controlC);
    assert.equal(await terminal.code, 5, terminal.shown());
    const plain = open(`exec ${rekey} run --command 'echo up; exec sleep 60'`);
    await plain.type(/up/, controlC);
    assert.equal(await plain.code, 130, plain.shown());
    const quit = open(`exec ${rekey} run -- ${counting("SIGQUIT", "process.exit(30 + n)")}`);
    await quit.type(/up debug/, controlBackslash);
    assert.equal(await quit.code, 31, quit.shown());
  });

  test("what is typed goes to the program, which sees a terminal", async () => {
    const terminal = open(
      `exec ${rekey} run --command 'test -t 0 && test -t 1 && echo "terminal"; read line; echo "read $line $LOG"'`,
    );
    await terminal.type(/terminal\r/, "words\r");
    assert.equal(await terminal.code, 0, terminal.shown());
    assert.match(terminal.shown(), /read words debug\r/);
  });

  test("a shell stops it with Ctrl-Z, goes on with it, and runs it in the background", async () => {
    const terminal = open("PS1='prompt> ' exec bash --norc --noprofile -i");
    await terminal.type(/prompt> /, `${rekey} run -- ${counting("SIGINT", 'console.log("ended " + n); process.exit(3)')}\r`);
    await terminal.type(/up debug/, controlZ);
    await terminal.type(/Stopped/, "jobs\r");
    await terminal.type(/Stopped[\s\S]*Stopped/, "fg\r");
    await until("it goes on", () => (terminal.shown().match(/run -- /g)?.length ?? 0) > 2);
    await terminal.type(/fg\r/, controlC);
    await terminal.type(/ended 1/, "echo code $?\r");
    await terminal.type(/code 3/, `${rekey} run -- ${counting("SIGINT", 'console.log("told " + n); process.exit(4)')} &\r`);
    await until("it runs in the background", () => (terminal.shown().match(/up debug/g)?.length ?? 0) > 1);
    await terminal.type(/\[1\]/, "kill -INT %1\r");
    await terminal.type(/told 1/, "exit\r");
    await terminal.code;
    assert.ok(!terminal.shown().includes("ended 2") && !terminal.shown().includes("told 2"), terminal.shown());
  });

  test("with --watch Ctrl-C ends it and does not start it anew", async () => {
    const terminal = open(`exec ${rekey} run --watch -- ${counting("SIGINT", "setTimeout(() => process.exit(7), 1000)")}`);
    await terminal.type(/up debug/, controlC);
    await cli.set({ LOG: "warn" });
    assert.equal(await terminal.code, 7, terminal.shown());
    assert.ok(!terminal.shown().includes("up warn"), terminal.shown());
    await cli.set({ LOG: "debug" });
  });

  test("a program that does not end on SIGTERM is killed after ten seconds and started anew", async () => {
    const terminal = open(`exec ${rekey} run --watch -- ${counting("SIGTERM", 'console.log("I stay")')}`);
    await until("it is up", () => terminal.shown().includes("up debug"));
    await cli.set({ LOG: "other" });
    await until("it was asked", () => terminal.shown().includes("I stay"));
    await terminal.type(/up other/, controlC);
    assert.equal(await terminal.code, 130, terminal.shown());
    await cli.set({ LOG: "debug" });
  });

  test("a terminal that is hung up ends the program, and nothing stays behind", async () => {
    const mark = `"mark ${process.pid}"`;
    const terminal = open(`exec ${rekey} run -- ${counting("SIGUSR1", mark)}`);
    await until("it is up", () => terminal.shown().includes("up debug"));
    process.kill(terminal.pid, "SIGKILL");
    await terminal.code;
    await until("nothing of it runs", () => !execFileSync("ps", ["-eo", "args"], { encoding: "utf8" }).includes(mark));
  });
});
