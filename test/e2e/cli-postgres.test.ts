import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { commandLine, program, type Ran, run } from "../support/cli.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-cli-postgres-"));
let postgres: PostgresServer;
let url: string;

/** On the store, as whoever runs it would: the URL in the environment, since it holds a password. */
const local = (command: string, more: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  run(command.split(" "), { env: { REKEY_DATABASE_URL: url, ...more }, cwd: folder });

interface Node extends AsyncDisposable {
  readonly endpoint: string;
}

async function startNode(): Promise<Node> {
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const env = { PATH, NODE_COMPILE_CACHE, REKEY_DATABASE_URL: url };
  const args = [program, "server", "--listen", "127.0.0.1:0"];
  const child = spawn(process.execPath, args, { env, cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  const { value } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
  return {
    endpoint: String(value).replace("rekey: listening on ", ""),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) {
        child.kill();
        await once(child, "exit");
      }
    },
  };
}

describe("the command line on PostgreSQL", { skip: postgresSkip }, () => {
  let token = "";
  before(async () => {
    postgres = await startPostgres();
    url = await postgres.newDatabase();
  });
  after(async () => {
    await postgres[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test("an empty database asks for rekey init, which prints the credentials once", async () => {
    for (const command of ["server --listen 127.0.0.1:0", "audit verify", "access-key create --root", "doctor"]) {
      const { code, out, err } = await local(command);
      assert.equal(code, 1, command);
      assert.match(out + err, /run rekey init/, command);
    }
    const made = await local("init --json");
    assert.equal(made.code, 0, made.err);
    const credentials = JSON.parse(made.out);
    token = credentials.token;
    assert.match(token, /^dp\.pt\.\w{40}$/);
    assert.match(credentials.secretAccessKey, /^[A-Za-z0-9+/]{40}$/);
    assert.ok(!existsSync(join(folder, ".rekey", "root-credentials.json")));
    assert.equal(statSync(join(folder, ".rekey")).mode & 0o777, 0o700);
    assert.equal(statSync(join(folder, ".rekey", "root.key")).mode & 0o777, 0o600);
    const second = await local("init");
    assert.equal(second.code, 1);
    assert.match(
      second.err,
      /initialised already and was not changed; if its credentials are lost: rekey access-key create --root\n$/,
    );
    const password = new URL(url).password;
    assert.ok(![made, second].some(({ out, err }) => (out + err).includes(password)));
    assert.equal((await local("migrate --json")).out, '{\n  "applied": []\n}\n');
    assert.equal((await local("doctor")).code, 0);
  });

  test("while a server uses the store it is read, not changed, and it is free again afterwards", async () => {
    const writing = [
      "migrate",
      "init",
      "access-key create --root --replace",
      "root-key rotate --new-root-key file:new.key",
      "restore --from none.backup",
    ];
    {
      await using one = await startNode();
      await using two = await startNode();
      const asRoot = commandLine(one.endpoint, token, folder);
      await asRoot.ask("secret create shared", "value");
      assert.equal(await commandLine(two.endpoint, token, folder).ask("secret get shared"), "value");
      for (const command of writing) {
        const { code, err } = await local(command);
        assert.equal(code, 1, command);
        assert.match(err, /^rekey: This PostgreSQL store is in use by a running server or another command: stop all of them, /);
      }
      for (const command of ["backup --to online.backup", "doctor", "audit verify"]) {
        const { code, out, err } = await local(command);
        assert.equal(code, 0, `${command}: ${out}${err}`);
      }
      await one[Symbol.asyncDispose]();
      assert.equal((await local("migrate")).code, 1, "the other one still runs");
    }
    const replaced = await local("access-key create --root --replace --json");
    assert.equal(replaced.code, 0, replaced.err);
    assert.equal((await local("root-key rotate --new-root-key file:new.key")).code, 0);
    assert.match((await local("audit verify", { REKEY_ROOT_KEY: "file:new.key" })).out, /whole and in order/);
  });

  test("a server that lost its connection holds the store again", async () => {
    url = await postgres.newDatabase();
    assert.equal((await local("init")).code, 0);
    await using _node = await startNode();
    const admin = new pg.Client(url);
    await admin.connect();
    try {
      const held =
        "select pid from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())";
      const { rows } = await admin.query(held);
      assert.equal(rows.length, 1);
      await admin.query("select pg_terminate_backend($1)", [rows[0].pid]);
      for (;;) {
        const { rows: now } = await admin.query(held);
        if (now.length === 1 && now[0].pid !== rows[0].pid) break;
        await sleep(100);
      }
    } finally {
      await admin.end();
    }
    assert.equal((await local("migrate")).code, 1);
  });

  test("a backup goes into another database, and into an embedded store", async () => {
    const other = await postgres.newDatabase();
    const to = { REKEY_DATABASE_URL: other };
    const made = await local("restore --from online.backup", to);
    assert.equal(made.code, 0, made.err);
    assert.equal((await local("restore --from online.backup", to)).code, 1);
    assert.equal((await local("doctor", to)).code, 0, "its root key is the one that it was backed up with");
    const embedded = await run(["restore", "--from", "online.backup", "--data", "embedded"], { cwd: folder });
    assert.equal(embedded.code, 0, embedded.err);
    const checked = await run(["doctor", "--data", "embedded", "--root-key", "file:.rekey/root.key"], { cwd: folder });
    assert.equal(checked.code, 0, checked.out);
  });
});
