import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Plaintext } from "../../src/core/plaintext.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { dataFolder } from "../support/audit.ts";
import { openRing, region } from "../support/keys.ts";

const rotator = fileURLToPath(new URL("../support/root-key-rotator.ts", import.meta.url));
const context = { SecretARN: "arn", SecretVersionId: "v" };

test("a root key rotation that is killed anywhere leaves a store that exactly one of the two keys opens", {
  timeout: 300_000,
}, async () => {
  const dir = dataFolder();
  const [from, to] = [`file:${join(dir, "old.key")}`, `file:${join(dir, "new.key")}`];
  for (const key of [from, to]) await openRootKey(key, { env: {}, create: true });
  const data = mkdtempSync(join(dir, "data-"));
  const sql = openSqlite(join(data, "rekey.db"));
  await migrate(sql);
  const ring = await openRing(ringKeyStore(sql), await openRootKey(from, { env: {} }));
  const { id } = await ring.create({ region });
  const before = await new Envelope(ring, { maxDataKeys: 10 }).seal(new Plaintext("kept"), context, id);
  await ring.rotate(id);
  const after = await new Envelope(ring, { maxDataKeys: 10 }).seal(new Plaintext("kept"), context, id);
  const derived = ring.deriveKey("audit").export();
  await sql.close();

  /** Whether the key opens the store, and then everything in it. */
  async function opens(copy: string, key: string): Promise<boolean> {
    const store = openSqlite(join(copy, "rekey.db"));
    try {
      const opened = await openRing(ringKeyStore(store), await openRootKey(key, { env: {} })).catch((error: Error) => {
        assert.match(error.message, /is not the one that this store was made with/);
        return undefined;
      });
      if (!opened) return false;
      const envelope = new Envelope(opened, { maxDataKeys: 10 });
      for (const value of [before, after]) assert.equal((await envelope.open(value, context)).revealText(), "kept");
      assert.deepEqual(opened.deriveKey("audit").export(), derived);
      return true;
    } finally {
      await store.close();
    }
  }

  const seen = new Set<string>();
  for (let killAt = 1; ; killAt += 1) {
    const copy = mkdtempSync(join(dir, "copy-"));
    cpSync(data, copy, { recursive: true });
    const run = () =>
      spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", rotator, copy, from, to, String(killAt)]);
    const { signal, status, stderr } = run();
    if (signal === null) assert.equal(status, 0, stderr.toString());
    const usable = [await opens(copy, from), await opens(copy, to)];
    assert.equal(usable.filter(Boolean).length, 1, `killed at ${killAt}: ${usable}`);
    seen.add(String(usable));
    if (signal === null) {
      assert.deepEqual(usable, [false, true]);
      assert.ok(killAt > 20, `${killAt} points`);
      break;
    }
  }
  assert.deepEqual([...seen], ["true,false", "false,true"]);
});
