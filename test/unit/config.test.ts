import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Flags, flagOf, loadConfig, settings, variableOf } from "../../src/config.ts";
import { ConfigError } from "../../src/core/error.ts";

function problemsOf(
  env: NodeJS.ProcessEnv,
  flags: Flags = {},
  part: "server" | "store" | "client" = "server",
): readonly string[] {
  try {
    loadConfig(part, env, flags);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
}

test("an empty environment gives the defaults of the help text", () => {
  const config = loadConfig("server", {});
  assert.deepEqual(config.listen, { host: "127.0.0.1", port: 7353 });
  assert.equal(config.data, "./.rekey");
  assert.equal(config.rootKey, "file:.rekey/root.key");
  assert.equal(config.region, "us-east-1");
  assert.equal(config.account, "000000000000");
  assert.equal(config.engine, true);
  assert.equal(config.extendedSchedules, false);
  assert.equal(config.databaseUrl, undefined);
});

test("every setting without choices of its own is read from its variable, and a flag wins", () => {
  const env = { REKEY_LISTEN: "[::1]:0", REKEY_ENGINE: "off", REKEY_PROCESSES: "2", REKEY_ROOT_KEY: "file:/keys/root" };
  const config = loadConfig("server", env, { processes: "3", extendedSchedules: true });
  assert.deepEqual(config.listen, { host: "::1", port: 0 });
  assert.equal(config.engine, false);
  assert.equal(config.processes, 3);
  assert.equal(config.extendedSchedules, true);
  assert.equal(config.rootKey, "file:/keys/root");
});

test("everything wrong is told at once, in the order of the table, without the values", () => {
  const marked = "s3cret-value";
  const env = {
    REKEY_PORT: marked,
    REKEY_PROCESSES: `0${marked}`,
    REKEY_DATABASE_URL: `mysql://u:${marked}@h/d`,
    REKEY_REGION: "earth",
  };
  const problems = problemsOf(env, { engine: marked, lisen: marked, port: true });
  assert.deepEqual(problems, [
    "REKEY_DATABASE_URL must be an address that begins with postgres://.",
    "REKEY_REGION must be an AWS region such as eu-central-1.",
    "--engine must be on or off.",
    "REKEY_PROCESSES must be a whole number from 1 to 64.",
    "--lisen is not a setting; did you mean --listen?",
    "--port is not a setting; `rekey server --help` lists all of them.",
    "REKEY_PORT is not a setting; `rekey server --help` lists all of them.",
  ]);
  assert.deepEqual(problemsOf({}, { json: true }, "client"), [], "other commands have flags of their own");
  assert.ok(!problems.join().includes(marked));
});

test("settings that contradict each other are told beside those that are out of range", () => {
  const problems = problemsOf({ REKEY_ENGINE: "maybe" }, { listen: "0.0.0.0:1", metricsListen: "0.0.0.0:1", tlsKey: "key.pem" });
  assert.deepEqual(
    problems.map((problem) => problem.split(" ")[0]),
    ["REKEY_ENGINE", "--tls-cert", "--listen", "--metrics-listen"],
  );
});

test("functions run as users of their own, or as the server's when that is asked for by name", () => {
  const functionsDir = "functions";
  assert.match(problemsOf({}, { functionsDir })[0] ?? "", /--functions-dir needs --functions-users/);
  assert.deepEqual(problemsOf({}, { functionsDir, functionsUsers: "same" }), []);
  assert.deepEqual(loadConfig("server", { REKEY_FUNCTIONS_USERS: "64000-64039" }).functionsUsers, {
    first: 64_000,
    last: 64_039,
  });
  for (const functionsUsers of ["0-5", "5", "9-8", "1-1001", "x-y", "-1-5", "1-2147483648"])
    assert.match(problemsOf({}, { functionsDir, functionsUsers })[0] ?? "", /must be two numbers of users/, functionsUsers);
  const few = problemsOf({}, { functionsDir, functionsUsers: "64000-64001", processes: "3" });
  assert.match(few.at(-1) ?? "", /at least as many users/);
  const asRoot = problemsOf({}, { functionsDir, functionsUsers: "64000-64001" });
  assert.equal(asRoot.length, process.getuid?.() === 0 ? 0 : 1);
});

test("a name that is nearly right is pointed at", () => {
  assert.match(problemsOf({ REKEY_LISTNE: "x" })[0] ?? "", /did you mean REKEY_LISTEN\?/);
  assert.match(
    problemsOf({ REKEY_TOKEN: "dp.pt.AbcdefghijAbcdefghijAbcdefghijAbcdefghij", REKEY_ENDPOINTS: "x" }, {}, "client")[0] ?? "",
    /REKEY_ENDPOINT\?/,
  );
});

test("the variable that holds the root key may have any name", () => {
  assert.deepEqual(problemsOf({ REKEY_MY_KEY: "…", REKEY_ROOT_KEY: "env:REKEY_MY_KEY" }), []);
  assert.deepEqual(problemsOf({ REKEY_MY_KEY: "…" }).length, 1);
});

test("a part reads its own settings only", () => {
  assert.deepEqual(problemsOf({ REKEY_LISTEN: "nowhere" }, {}, "client"), []);
  assert.equal(loadConfig("client", { REKEY_ENDPOINT: "http://127.0.0.1:7353/" }).endpoint, "http://127.0.0.1:7353");
});

test("plain HTTP beyond loopback has to be asked for", () => {
  for (const host of ["0.0.0.0", "[::]", "192.0.2.7", "vault.example"])
    assert.match(problemsOf({ REKEY_LISTEN: `${host}:7353` })[0] ?? "", /--insecure-listen/);
  for (const host of ["127.0.0.1", "127.8.9.1", "[::1]", "localhost"])
    assert.deepEqual(problemsOf({ REKEY_LISTEN: `${host}:7353` }), []);
  assert.deepEqual(problemsOf({ REKEY_LISTEN: "0.0.0.0:7353" }, { insecureListen: true }), []);
  assert.deepEqual(problemsOf({ REKEY_LISTEN: "0.0.0.0:7353", REKEY_TLS_CERT: "c", REKEY_TLS_KEY: "k" }), []);
  assert.match(problemsOf({ REKEY_TLS_CERT: "c" })[0] ?? "", /belong together/);
  assert.match(problemsOf({ REKEY_METRICS_LISTEN: "127.0.0.1:7353" })[0] ?? "", /--metrics-listen/);
});

test("no text makes reading the settings fail in another way than with problems", () => {
  const names = Object.keys(settings);
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.string(), (name, text) => {
      for (const problem of problemsOf({ [variableOf(name)]: text })) assert.equal(typeof problem, "string");
    }),
  );
});

test("flags and variables are spelled from one name", () => {
  assert.equal(flagOf("databaseUrl"), "--database-url");
  assert.equal(variableOf("maxFailedLoginsPerMinute"), "REKEY_MAX_FAILED_LOGINS_PER_MINUTE");
});
