// `rekey run`: a program gets the secrets of a config, and nothing else changes for it.
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type ConfigCli, configCli, shows, until } from "../support/config-cli.ts";
import { startRekey } from "../support/rekey-server.ts";

let cli: ConfigCli;

before(async () => {
  cli = await configCli();
  await cli.set({ A: "1", URL: "pg://$".concat("{A}"), ODD: `'"$(id)\\ \n é`, HOME: "/nowhere", LOG: "debug" });
});
after(() => cli[Symbol.asyncDispose]());

const node = (code: string): string[] => [process.execPath, "-e", code];
const print = (...names: string[]): string[] =>
  node(`console.log(JSON.stringify(${JSON.stringify(names)}.map((n) => process.env[n] ?? null)))`);

test("values are in the environment as they are, with the place they come from", async () => {
  const names = ["A", "URL", "ODD", "REKEY_PROJECT", "REKEY_ENVIRONMENT", "REKEY_CONFIG", "DOPPLER_CONFIG", "HOME"];
  const ran = await cli.rekey(["run", "--", ...print(...names)]);
  assert.equal(ran.code, 0, ran.err);
  assert.deepEqual(JSON.parse(ran.out), ["1", "pg://1", `'"$(id)\\ \n é`, "shop", "dev", "dev", "dev", cli.env.HOME]);
  assert.equal(ran.err, "rekey: warning: not put into the environment: HOME; --overwrite HOME does it\n");
  const asked = await cli.rekey(["run", "--overwrite", "HOME", ...print("HOME")]);
  assert.deepEqual([JSON.parse(asked.out), asked.err], [["/nowhere"], ""]);
});

test("what is there already wins when it is to be preserved, of all names or of some", async () => {
  const env = { A: "own", LOG: "own", HOME: cli.env.HOME ?? "" };
  for (const [flags, shown] of [
    [[], ["1", "debug"]],
    [["--preserve-env"], ["own", "own"]],
    [["--preserve-env=LOG"], ["1", "own"]],
  ] as const) {
    const ran = await cli.rekey(["run", ...flags, "--", ...print("A", "LOG")], { env });
    assert.deepEqual(JSON.parse(ran.out), shown, flags.join());
  }
});

test("only some secrets, all of which have to be there; names in another form", async () => {
  const some = await cli.rekey(["run", "--only-secrets", "A,LOG", "--", ...print("A", "LOG", "URL")]);
  assert.deepEqual(JSON.parse(some.out), ["1", "debug", null]);
  const lacking = await cli.rekey(["run", "--only-secrets", "A,NOPE,NEITHER", "--", ...print("A")]);
  assert.deepEqual([lacking.code, lacking.err], [1, "rekey: --only-secrets names what is not there: NOPE, NEITHER\n"]);
  const formed = await cli.rekey(["run", "--name-transformer", "tf-var", "--", ...print("TF_VAR_log", "LOG")]);
  assert.deepEqual(JSON.parse(formed.out), ["debug", null]);
});

test("the exit code is the program's; 128 and the signal's number, 127 and 126 when it cannot start", async () => {
  assert.equal((await cli.rekey(["run", "--command", "exit 41"])).code, 41);
  assert.equal((await cli.rekey(["run", "--command", "kill -KILL $$"])).code, 137);
  const none = await cli.rekey(["run", "--", "no-such-program"]);
  assert.deepEqual([none.code, /there is no such program/.test(none.err)], [127, true]);
  assert.equal((await cli.rekey(["run", "--", cli.folder])).code, 126);
  const piped = await cli.rekey(["run", "--only-secrets", "A", "--", "cat"], { input: "through" });
  assert.deepEqual([piped.code, piped.out], [0, "through"]);
});

test("signals go on to the program once, and its own end decides", async () => {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"] as const) {
    const child = cli.begin([
      "run",
      "--",
      ...node(
        `let n = 0; process.on("${signal}", () => { n++; setTimeout(() => process.exit(20 + n), 300) }); setInterval(() => {}, 1e3); console.log("up")`,
      ),
    ]);
    await until("it is up", () => child.shown().includes("up"));
    child.kill(signal);
    await child.closed;
    assert.equal(child.exitCode, 21, `${signal}: ${child.shown()}`);
  }
});

test("wrong calls are told before anything is asked for", async () => {
  for (const [args, said] of [
    [["run"], /give a program behind --/],
    [["run", "--command", "x", "--", "y"], /--command or a program, not both/],
    [["run", "--format", "env", "--", "y"], /go with --mount/],
    [["run", "--ttl", "3", "--", "y"], /--ttl must be a duration/],
    [["run", "--mount", "x", "--format", "toml", "--", "y"], /--format must be one of json/],
    [["run", "--no-fallback", "--fallback-only", "--", "y"], /--no-fallback leaves nothing/],
  ] as const) {
    const ran = await cli.rekey(args);
    assert.equal(ran.code, 2, args.join(" "));
    assert.match(ran.err, said);
  }
});

test("a mount is a pipe of this user, each reader gets all of it, and it is gone afterwards", async () => {
  const path = join(cli.folder, "secrets.json");
  await cli.set({ BIG: "x".repeat(40_000), BIG2: "y".repeat(40_000) });
  const look = `ls -l '${path}'; cat '${path}' | wc -c; cat '${path}' > copy; echo "env: $A"`;
  const ran = await cli.rekey(["run", "--mount", path, "--command", look]);
  assert.equal(ran.code, 0, ran.err);
  const [mode = "", size, env] = ran.out.trim().split("\n");
  assert.match(mode, /^prw------- /);
  const copy = readFileSync(join(cli.folder, "copy"), "utf8");
  assert.equal(Number(size), Buffer.byteLength(copy));
  assert.deepEqual([JSON.parse(copy).A, JSON.parse(copy).BIG.length, env], ["1", 40_000, "env:"]);
  assert.deepEqual(
    readdirSync(cli.folder).filter((name) => name.startsWith("secrets.json")),
    [],
  );
  await cli.set({ BIG: null, BIG2: null });
});

test("a mount that is never read, or read by halves, does not keep the run from ending", async () => {
  const path = join(cli.folder, "unread");
  assert.equal((await cli.rekey(["run", "--mount", path, "--command", "exit 3"])).code, 3);
  await cli.set({ BIG: "x".repeat(50_000), BIG2: "y".repeat(50_000) });
  assert.equal((await cli.rekey(["run", "--mount", path, "--command", `head -c 10 '${path}' > /dev/null; exit 4`])).code, 4);
  assert.equal(
    (await cli.rekey(["run", "--mount", path, "--command", `timeout 9 sh -c "sleep 60 < '${path}'" > ended 2>&1 & exit 5`])).code,
    5,
  );
  await cli.set({ BIG: null, BIG2: null });
  assert.ok(!existsSync(path));
});

test("a mount is read so many times, in a format or by a template, and never replaces a file", async () => {
  const path = join(cli.folder, "mounted");
  const limited = `cat '${path}'; test -e '${path}' || echo gone`;
  const ran = await cli.rekey(["run", "--mount", path, "--mount-max-reads", "1", "--format", "env", "--command", limited]);
  assert.match(ran.out, /^A="1"\n[\s\S]*\ngone\n$/);
  writeFileSync(join(cli.folder, "app.template"), "level={{LOG}} url={{json URL}}");
  const templated = await cli.rekey(["run", "--mount", path, "--mount-template", "app.template", "--", "cat", path]);
  assert.equal(templated.out, 'level=debug url="pg://1"', templated.err);
  writeFileSync(path, "mine");
  const refused = await cli.rekey(["run", "--mount", path, "--", "cat", path]);
  assert.deepEqual([refused.code, readFileSync(path, "utf8")], [2, "mine"]);
});

test("a program is started anew with changed secrets, and only then", async () => {
  const child = cli.begin(["run", "--watch", "--", ...node(`console.log("up " + process.env.LOG); setInterval(() => {}, 1e3)`)]);
  await until("it is up", () => child.shown().includes("up debug"));
  await cli.set({ LOG: "warn" });
  await until("it is up anew", () => child.shown().includes("up warn"));
  await cli.set({ LOG: "warn" });
  await cli.set({ LOG: "error" });
  await until("it is up a third time", () => child.shown().includes("up error"));
  assert.equal(child.shown().match(/up /g)?.length, 3);
  child.kill("SIGTERM");
  await child.closed;
  assert.equal(child.exitCode, 143);
  await cli.set({ LOG: "debug" });
});

test("the offline copy is this user's only, sealed, and used when nobody answers", async () => {
  const home = join(cli.folder, "home2");
  const env = { HOME: home };
  assert.equal((await cli.rekey(["run", "--", ...print("A")], { env })).code, 0);
  const folder = join(home, ".local/state/rekey/offline");
  const [name = ""] = readdirSync(folder);
  const path = join(folder, name);
  assert.deepEqual([statSync(path).mode & 0o777, statSync(folder).mode & 0o777], [0o600, 0o700]);
  assert.ok(!/pg:|debug|"LOG"/.test(readFileSync(path, "utf8")));
  const only = await cli.rekey(["run", "--fallback-only", "--", ...print("URL")], { env });
  assert.deepEqual([JSON.parse(only.out), only.code], [["pg://1"], 0]);
  const other = await cli.rekey(["run", "--fallback-only", "--", ...print("A")], {
    env: { ...env, REKEY_TOKEN: `dp.pt.${"x".repeat(40)}` },
  });
  assert.equal(other.code, 3, other.err);
  const refused = await cli.rekey(["run", "--", ...print("A")], { env: { ...env, REKEY_CONFIG: "nope" } });
  assert.deepEqual([refused.code, readdirSync(folder).length], [1, 1]);
});

test("where nothing can be kept that is told, and the program runs; a copy of another user's image is used", async () => {
  const nowhere = await cli.rekey(["run", "--only-secrets", "A", "--", ...print("A")], { env: { HOME: "/dev/null" } });
  assert.deepEqual([nowhere.code, JSON.parse(nowhere.out)], [0, ["1"]]);
  assert.match(nowhere.err, /^rekey: warning: no offline copy can be kept in .* \(E\w+\); --fallback FILE names another place/);
  const made = await cli.rekey(["secrets", "download", "baked"]);
  assert.equal(made.code, 0, made.err);
  chmodSync(join(cli.folder, "baked"), 0o644);
  if (process.getuid?.() === 0) chownSync(join(cli.folder, "baked"), 65_534, 65_534);
  const baked = await cli.rekey(["run", "--fallback", "baked", "--fallback-only", "--only-secrets", "A", "--", ...print("A")]);
  assert.deepEqual([baked.code, JSON.parse(baked.out), baked.err], [0, ["1"], ""]);
  const part = await cli.rekey(["run", "--fallback", "baked", "--only-secrets", "A", "--", "true"]);
  assert.equal(part.code, 0, part.err);
  const whole = await cli.rekey(["run", "--fallback", "baked", "--fallback-only", "--", ...print("LOG")]);
  assert.deepEqual(JSON.parse(whole.out), ["debug"]);
});

test("with --watch readers of a mount get the changed secrets, and a server that was away is watched again", async () => {
  const dataFolder = mkdtempSync(join(tmpdir(), "rekey-watch-"));
  const own = await configCli({ dataFolder });
  try {
    await own.set({ LOG: "debug" });
    const code = `console.log("up " + JSON.parse(require("fs").readFileSync("mounted")).LOG); setInterval(() => {}, 1e3)`;
    const child = own.begin(["run", "--watch", "--mount", "mounted", "--", ...node(code)]);
    await shows(child, /up debug/);
    await own.set({ LOG: "warn" });
    await shows(child, /up warn/);
    await own.server.stop();
    await shows(child, /changes are not seen for now/);
    await using _again = await startRekey({ dataFolder, flags: ["--listen", new URL(own.server.endpoint).host] });
    await own.set({ LOG: "error" });
    await shows(child, /up error/);
    assert.equal(child.shown().match(/up /g)?.length, 3, child.shown());
    child.kill();
    await child.closed;
    assert.ok(!existsSync(join(own.folder, "mounted")));
  } finally {
    await own[Symbol.asyncDispose]();
    rmSync(dataFolder, { recursive: true, force: true });
  }
});
