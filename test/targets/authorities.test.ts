import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type AnyCredential, findRotator } from "../../src/targets/index.ts";
import type { Rotator } from "../../src/targets/target.ts";
import { tools } from "./contract.ts";

test("whoever names a path in sslrootcert gets no file read without end, and does not learn what is there", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rekey-authorities-"));
  try {
    const [pipe, text, large] = ["pipe", "text", "large"].map((name) => join(folder, name)) as [string, string, string];
    execFileSync("mkfifo", [pipe]);
    writeFileSync(text, "not a certificate");
    writeFileSync(large, Buffer.alloc(2 * 1024 * 1024, "-----BEGIN CERTIFICATE-----\n"));
    for (const kind of ["postgres", "mysql"]) {
      const rotator = (await findRotator(kind)) as Rotator<AnyCredential>;
      const errors = new Set<string>();
      for (const sslrootcert of [pipe, text, large, folder, join(folder, "absent"), "/dev/zero", "\0"]) {
        const credential = { host: "127.0.0.1", port: 1, username: "app", password: "any", sslrootcert };
        await rotator.test(credential, tools()).catch((error: Error) => errors.add(error.message));
      }
      assert.deepEqual([...errors], ["sslrootcert names no file of certificates that can be read"], kind);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
