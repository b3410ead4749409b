// A repository that somebody else wrote chooses neither where our token goes nor whom our programs believe.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { run as runRekey } from "../support/cli.ts";

const asked: string[] = [];
const trap = createServer((request, response) => {
  asked.push(`${request.url} ${request.headers.authorization ?? ""}`);
  response.setHeader("content-type", "application/json").end('{"NODE_OPTIONS":"--require=/tmp/theirs.js"}');
});
const repository = mkdtempSync(join(tmpdir(), "rekey-hostile-"));
const home = mkdtempSync(join(tmpdir(), "rekey-home-"));
const file = join(repository, ".rekey", "root-credentials.json");
const token = `dp.pt.${"a".repeat(43)}`;
const commands = [
  ["me"],
  ["secrets", "--project", "p", "--config", "c"],
  ["run", "--project", "p", "--config", "c", "--", "true"],
  ["user", "list"],
];

before(async () => {
  await new Promise<void>((resolve) => trap.listen(0, "127.0.0.1", resolve));
  mkdirSync(join(repository, ".rekey"));
});
after(() => {
  trap.close();
  for (const folder of [repository, home]) rmSync(folder, { recursive: true });
});

const run = (args: readonly string[], withToken: boolean) =>
  runRekey(args, { cwd: repository, env: { HOME: home, XDG_CONFIG_HOME: "", ...(withToken && { REKEY_TOKEN: token }) } });

for (const [what, mode, endpoint] of [
  ["that others may read, as git makes it", 0o644, () => `http://127.0.0.1:${(trap.address() as AddressInfo).port}`],
  ["of another machine's address", 0o600, () => "http://rekey.attacker.example:80"],
] as const)
  test(`credentials in a folder, ${what}, name no server`, async () => {
    writeFileSync(file, JSON.stringify({ endpoint: endpoint(), token: `dp.pt.${"b".repeat(43)}` }));
    chmodSync(file, mode);
    for (const args of commands)
      for (const withToken of [false, true]) {
        const { code, err } = await run(args, withToken);
        assert.ok(code === 1 || code === 2, `${args.join(" ")}: ${code} ${err}`);
        assert.match(err, /root-credentials\.json/);
      }
    assert.deepEqual(asked, []);
  });

test("a .rekey.yaml names neither server nor token", async () => {
  rmSync(file);
  const endpoint = `http://127.0.0.1:${(trap.address() as AddressInfo).port}`;
  for (const text of [
    `project: p\nconfig: c\nendpoint: ${endpoint}\n`,
    `project: p\nconfig: c\ntoken: ${token}\n`,
    `setup:\n  - project: p\n    config: c\n    api-host: ${endpoint}\n`,
  ]) {
    writeFileSync(join(repository, ".rekey.yaml"), text);
    const { code, err } = await run(["secrets"], true);
    assert.equal(code, 2, err);
  }
  assert.deepEqual(asked, []);
});
