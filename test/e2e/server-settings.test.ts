// What the server does not start with: all of it is told at once, and nothing is made.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { flagOf, settings, settingsOf, variableOf } from "../../src/config.ts";
import { run } from "../support/cli.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-settings-"));
after(() => rmSync(folder, { recursive: true }));
const data = join(folder, "data");

/** Text that no setting takes, except those that are any path. */
const bad = "\tmarked-value";
const paths: ReadonlySet<string> = new Set(
  "data tlsCert tlsKey functionsDir functionsPython codePublishers functionsReleases functionsReleaseKey".split(" "),
);
const bounded = settingsOf("server").filter(([name]) => !paths.has(name));

const linesOf = (err: string) => err.trimEnd().split("\n");

test("every variable is checked at the start: each bad one is named with what it may be", async () => {
  const env = Object.fromEntries(bounded.map(([name]) => [variableOf(name), bad]));
  const { code, out, err } = await run(["server", "--data", data], { env: { ...env, REKEY_NONSENSE: bad } });
  assert.deepEqual([code, out], [2, ""]);
  const said = linesOf(err);
  for (const [name, { range }] of bounded) assert.ok(said.includes(`rekey: ${variableOf(name)} must be ${range}.`), name);
  assert.ok(said.includes("rekey: REKEY_NONSENSE is not a setting; `rekey server --help` lists all of them."));
  assert.equal(said.length, bounded.length + 1);
  assert.doesNotMatch(err, /marked-value/);
  assert.equal(existsSync(data), false);
});

test("every flag likewise", async () => {
  const withValue = bounded.filter(([, { placeholder }]) => placeholder !== undefined);
  const flags = withValue.map(([name]) => `${flagOf(name)}=${bad}`);
  const { code, err } = await run(["server", "--data", data, ...flags]);
  assert.equal(code, 2);
  const expected = withValue.map(([name, { range }]) => `rekey: ${flagOf(name)} must be ${range}.`);
  assert.deepEqual(linesOf(err), expected);
  assert.equal(existsSync(data), false);
});

test("flags that do not exist are told with all the rest", async () => {
  const { code, out, err } = await run(["server", "--lisen=1", "--data", data, "--bogus", bad, "--region", "mars"], {
    env: { REKEY_NONSENSE: bad },
  });
  assert.deepEqual([code, out], [2, ""]);
  assert.deepEqual(linesOf(err), [
    "rekey: --region must be an AWS region such as eu-central-1.",
    "rekey: --lisen is not a setting; did you mean --listen?",
    "rekey: --bogus is not a setting; `rekey server --help` lists all of them.",
    "rekey: REKEY_NONSENSE is not a setting; `rekey server --help` lists all of them.",
  ]);
  const argument = await run(["server", bad]);
  assert.deepEqual([argument.code, argument.err], [2, "rekey: server takes flags only; --help shows them\n"]);
  assert.equal(existsSync(data), false);
});

test("numbers just outside of their range are refused, in both directions", async () => {
  for (const [name, { range }] of bounded) {
    const [, min, max] = /^a whole number from (\d+) to (\d+)$/.exec(range) ?? [];
    if (min === undefined || max === undefined) continue;
    const { parse } = settings[name];
    assert.deepEqual([parse(String(Number(min) - 1)), parse(String(Number(max) + 1))], [undefined, undefined], name);
    assert.deepEqual([parse(min), parse(max)], [Number(min), Number(max)], name);
  }
});

test("settings that contradict each other, and an address beyond loopback, are refused", async () => {
  const cases: [string[], RegExp][] = [
    [["--listen", "0.0.0.0:0"], /--listen beyond loopback needs --tls-cert and --tls-key, or --insecure-listen/],
    [["--listen", "[::]:0", "--tls-cert", "cert.pem"], /--tls-cert and --tls-key belong together/],
    [["--listen", "127.0.0.1:7353", "--metrics-listen", "127.0.0.1:7353"], /--metrics-listen must be another address/],
  ];
  for (const [flags, says] of cases) {
    const { code, err } = await run(["server", "--data", data, ...flags]);
    assert.equal(code, 2, err);
    assert.match(err, says);
  }
  assert.equal(existsSync(data), false);
});

test("an address in use is told in words", async () => {
  await using taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as { port: number };
  for (const [flag, other] of [
    ["--listen", []],
    ["--metrics-listen", ["--listen", "127.0.0.1:0"]],
  ] as const) {
    const { code, err } = await run(["server", "--data", data, flag, `127.0.0.1:${port}`, ...other]);
    assert.deepEqual(
      [code, linesOf(err).at(-1)],
      [1, `rekey: ${flag} must be a free address of this machine: 127.0.0.1:${port} is in use.`],
    );
  }
});
