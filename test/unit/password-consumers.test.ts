// New passwords arrive as they are wherever people put them, and suit what targets ask for.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { parseEnv } from "node:util";
import fc from "fast-check";
import mysql from "mysql2";
import pg from "pg";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import { checkRotationPolicy, type PasswordShape, shapedPassword } from "../../src/core/rotation-policy.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mysql as mysqlRotator } from "../../src/targets/mysql.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { redshift } from "../../src/targets/redshift.ts";
import type { Rotator, RotatorTools } from "../../src/targets/target.ts";
import { unlessCi } from "../support/server-process.ts";

const count = 20_000;

/** As the engine hands it to rotators. */
const toolsWith = (shape?: PasswordShape): RotatorTools => ({
  rotationId: "r",
  deadlineAt: 0,
  generatePassword: (asked) => generatePassword(rotationPasswordOptions(shapedPassword(shape, asked)), randomInt),
});

const current: DatabaseCredential = { host: "h", username: "u", password: "p" };
const made = async (rotator: Rotator<DatabaseCredential>, shape?: PasswordShape): Promise<string> =>
  (await rotator.create(current, "single-user", toolsWith(shape))).password;

const candidates = Promise.all(Array.from({ length: count }, () => made(postgres)));

/** All of them through one process: what comes out, line by line. */
async function through(command: string, args: readonly string[], line: (password: string) => string): Promise<string[]> {
  const input = (await candidates).map(line).join("\n");
  return execFileSync(command, [...args], { input, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 })
    .trimEnd()
    .split("\n");
}

test("in URLs, also where nobody encoded them", async () => {
  for (const password of await candidates) {
    const url = new URL(`postgres://user:${password}@host:5432/db?password=${password}&x=${password}#${password}`);
    assert.deepEqual([url.password, url.searchParams.get("password"), url.hash.slice(1)], [password, password, password]);
    assert.equal(encodeURIComponent(password), password);
  }
});

test("in connection strings of drivers", async () => {
  for (const password of (await candidates).slice(0, 2_000)) {
    const client = new pg.Client({ connectionString: `postgres://user:${password}@host/db` });
    assert.equal(client.password, password);
    const pool = mysql.createPool(`mysql://user:${password}@host/db`);
    assert.equal(
      (pool as unknown as { config: { connectionConfig: { password: string } } }).config.connectionConfig.password,
      password,
    );
    const pairs = `Server=h;User=u;Password=${password};Database=d`.split(";").map((pair) => pair.split("="));
    assert.equal(Object.fromEntries(pairs).Password, password);
  }
});

/** Told by the first that differs: a list of them all would be of no use. */
function assertSame(given: readonly (string | undefined)[], expected: readonly string[], where: string): void {
  assert.equal(given.length, expected.length, where);
  const index = expected.findIndex((password, place) => given[place] !== password);
  assert.equal(given[index], expected[index], where);
}

test("in JSON and in .env files, quoted or not", async () => {
  const all = await candidates;
  for (const password of all) assert.equal(JSON.stringify(password), `"${password}"`);
  for (const quote of ["", "'", '"']) {
    const parsed = parseEnv(all.map((password, index) => `P${index}=${quote}${password}${quote}`).join("\n"));
    assertSame(
      all.map((_, index) => parsed[`P${index}`]),
      all,
      `quotes: ${quote}`,
    );
  }
});

test("in shells, quoted or not, also as the first thing after a command", async () => {
  const all = await candidates;
  const given = await through("sh", [], (password) => `echo ${password} '${password}' "${password}"`);
  assertSame(
    given,
    all.map((password) => `${password} ${password} ${password}`),
    "sh",
  );
});

const noYaml = unlessCi(spawnSync("python3", ["-c", "import yaml"]).status === 0 ? false : "no python3 with yaml");
test("in YAML as plain scalars", { skip: noYaml }, async () => {
  const script =
    "import sys, yaml\nfor value in yaml.load(sys.stdin, yaml.CSafeLoader): print(value if isinstance(value, str) else repr(value))";
  assertSame(await through("python3", ["-c", script], (password) => `- ${password}`), await candidates, "yaml");
});

/** Source: each target's documentation of its password rules. */
const policies = {
  "MySQL's validate_password, MEDIUM": (text: string) =>
    text.length >= 8 && [/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/].every((rule) => rule.test(text)),
  Redshift: (text: string) =>
    /^[!-~]{8,64}$/.test(text) && !/['"/@\\]/.test(text) && [/[a-z]/, /[A-Z]/, /[0-9]/].every((rule) => rule.test(text)),
  "SQL Server": (text: string) =>
    text.length <= 128 && [/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/].filter((rule) => rule.test(text)).length >= 3,
  "Oracle's verify functions": (text: string) => /^[a-zA-Z]/.test(text) && /[0-9]/.test(text) && !/["@]/.test(text),
};

test("they keep to what targets ask for", async () => {
  for (const password of await candidates)
    for (const [name, suits] of Object.entries(policies)) assert.ok(suits(password), `${name}: ${password}`);
  assert.equal(new Set(await candidates).size, count);
});

test("a policy's shape holds for every target, unless the target takes no such password", async () => {
  const printable = fc.string({
    unit: fc.integer({ min: 33, max: 126 }).map((code) => String.fromCharCode(code)),
    maxLength: 30,
  });
  const shapes = fc.record(
    { length: fc.integer({ min: 16, max: 200 }), exclude: printable, urlSafe: fc.boolean() },
    { requiredKeys: [] },
  );
  const kept = shapes.filter((password) => {
    try {
      checkRotationPolicy({ password });
      return true;
    } catch {
      return false;
    }
  });
  await fc.assert(
    fc.asyncProperty(kept, fc.constantFrom(postgres, mysqlRotator, redshift), async (shape, rotator) => {
      const longest = rotator === redshift ? 64 : Number.POSITIVE_INFINITY;
      if ((shape.length ?? 0) > longest) return void (await assert.rejects(made(rotator, shape), { outcome: "invalid" }));
      const password = await made(rotator, shape);
      assert.ok(password.length >= Math.max(32, shape.length ?? 0) && password.length <= longest);
      assert.ok(![...(shape.exclude ?? "")].some((character) => password.includes(character)));
      assert.equal(encodeURIComponent(password), password);
      if (/[a-z]/i.test(password)) assert.match(password, /^[a-z]/i);
    }),
    { numRuns: 500 },
  );
});
