import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../../src/core/error.ts";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { randomRootKey } from "../support/keys.ts";
import { startKms } from "../support/kms.ts";

const context = { "rekey:purpose": "test" };
const env = {};

async function folder(): Promise<AsyncDisposable & { path: (name: string) => string; names: () => Promise<string[]> }> {
  const root = await mkdtemp(join(tmpdir(), "rekey-key-"));
  return {
    path: (name) => join(root, name),
    names: () => readdir(root),
    [Symbol.asyncDispose]: () => rm(root, { recursive: true }),
  };
}

function configError(pattern: RegExp) {
  return (error: unknown) => error instanceof ConfigError && error.problems.length === 1 && pattern.test(error.message);
}

test("a key file is made once, readable by its owner only, and is the same key when opened again", async () => {
  await using dir = await folder();
  const path = dir.path("root.key");
  const made = await openRootKey(`file:${path}`, { env, create: true });
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.match(await readFile(path, "utf8"), /^[A-Za-z0-9+/]{43}=\n$/);
  assert.deepEqual(await dir.names(), ["root.key"]);
  const key = randomBytes(32);
  const wrapped = await made.wrap(key, context);
  for (const create of [false, true]) {
    const again = await openRootKey(`file:${path}`, { env, create });
    assert.equal(again.name, `file:${path}`);
    assert.deepEqual(await again.unwrap(wrapped, context), key);
  }
});

test("many that make the same key file at once all end with the one key", async () => {
  await using dir = await folder();
  const setting = `file:${dir.path("root.key")}`;
  const keys = await Promise.all(Array.from({ length: 12 }, () => openRootKey(setting, { env, create: true })));
  const secret = randomBytes(32);
  for (const key of keys)
    for (const other of keys.slice(0, 2)) assert.deepEqual(await other.unwrap(await key.wrap(secret, context), context), secret);
  assert.deepEqual(await dir.names(), ["root.key"]);
});

test("a key file that others may read is refused in words, and stays as it is", async () => {
  await using dir = await folder();
  const path = dir.path("root.key");
  await openRootKey(`file:${path}`, { env, create: true });
  const text = await readFile(path, "utf8");
  for (const mode of [0o640, 0o604, 0o644, 0o620, 0o601]) {
    await chmod(path, mode);
    await assert.rejects(
      openRootKey(`file:${path}`, { env, create: true }),
      configError(new RegExp(`mode 0${mode.toString(8)}.*chmod 600`)),
    );
  }
  assert.equal(await readFile(path, "utf8"), text);
});

test("a missing, unreadable or malformed key is refused without showing it", async () => {
  await using dir = await folder();
  const path = dir.path("root.key");
  await assert.rejects(openRootKey(`file:${path}`, { env }), configError(/does not exist/));
  await assert.rejects(
    openRootKey(`file:${dir.path("no/such/root.key")}`, { env, create: true }),
    configError(/cannot be made \(ENOENT\)/),
  );
  await assert.rejects(openRootKey(`file:${dir.path("")}`, { env }), ConfigError);
  for (const text of [
    "",
    "short",
    randomBytes(31).toString("base64"),
    randomBytes(33).toString("base64"),
    `${"?".repeat(43)}=`,
  ]) {
    await writeFile(path, text, { mode: 0o600 });
    const shows = (error: unknown) =>
      configError(/must be 32 bytes as base64/)(error) && (text === "" || !String(error).includes(text));
    await assert.rejects(openRootKey(`file:${path}`, { env, create: true }), shows);
    await assert.rejects(openRootKey("env:KEY", { env: { KEY: text } }), shows);
  }
  await assert.rejects(openRootKey("env:KEY", { env }), configError(/KEY, which is not set/));
  for (const setting of ["", "file", "file:", "vault:x", "root.key", "__proto__:x", "toString:x"])
    await assert.rejects(openRootKey(setting, { env }), configError(/must be file:PATH, env:NAME or aws-kms:KEY_ARN/));
  for (const arn of ["x", "arn:aws:kms:eu-central-1:1:key/x", "arn:aws:s3:::bucket"])
    await assert.rejects(openRootKey(`aws-kms:${arn}`, { env }), configError(/must name a key by ARN/));
});

test("another root key is told from damage: undefined, against DecryptionFailure", async () => {
  const [mine, other] = [await randomRootKey(), await randomRootKey()];
  const wrapped = await mine.wrap(randomBytes(32), context);
  assert.equal(await other.unwrap(wrapped, context), undefined);
  const damaged = Buffer.from(wrapped);
  damaged[20] = (damaged[20] ?? 0) ^ 1;
  await assert.rejects(mine.unwrap(damaged, context), { code: "DecryptionFailure" });
  await assert.rejects(mine.unwrap(wrapped, { ...context, more: "" }), { code: "DecryptionFailure" });
});

test("unwrap undoes wrap, and nothing with a changed or missing byte unwraps", async () => {
  const rootKey = await randomRootKey();
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  await fc.assert(
    fc.asyncProperty(
      key,
      fc.dictionary(fc.string(), fc.string()),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      async (bytes, about, at, mask) => {
        const wrapped = await rootKey.wrap(Buffer.from(bytes), about);
        assert.deepEqual(await rootKey.unwrap(wrapped, about), Buffer.from(bytes));
        const index = at % wrapped.length;
        const flipped = Buffer.from(wrapped);
        flipped[index] = (flipped[index] ?? 0) ^ mask;
        for (const bad of [flipped, wrapped.subarray(0, index)]) {
          const outcome = await rootKey.unwrap(bad, about).catch((error: unknown) => error);
          assert.ok(
            outcome === undefined || (outcome instanceof Error && "code" in outcome && outcome.code === "DecryptionFailure"),
          );
        }
      },
    ),
  );
});

test("a root key in AWS KMS wraps by Encrypt and unwraps by Decrypt, through the AWS SDK", async () => {
  await using kms = await startKms();
  const before = { ...process.env };
  Object.assign(process.env, {
    AWS_ENDPOINT_URL_KMS: kms.endpoint,
    AWS_ACCESS_KEY_ID: "AKIDTEST",
    AWS_SECRET_ACCESS_KEY: "test",
  });
  try {
    const [mine, other] = await Promise.all(
      ["one", "two"].map((id) => openRootKey(`aws-kms:arn:aws:kms:eu-central-1:123456789012:key/${id}`, { env })),
    );
    assert.ok(mine && other);
    assert.equal(mine.name, "aws-kms:arn:aws:kms:eu-central-1:123456789012:key/one");
    const key = randomBytes(32);
    const wrapped = await mine.wrap(key, context);
    assert.ok(!wrapped.includes(key));
    assert.deepEqual(await mine.unwrap(wrapped, context), key);
    assert.deepEqual(kms.calls, ["Encrypt", "Decrypt"]);
    assert.equal(await other.unwrap(wrapped, context), undefined);
    await assert.rejects(mine.unwrap(wrapped, { other: "context" }), { code: "DecryptionFailure" });
    const local = await randomRootKey();
    assert.equal(await mine.unwrap(await local.wrap(key, context), context), undefined);
    assert.equal(await local.unwrap(wrapped, context), undefined);
    kms.disable();
    await assert.rejects(mine.unwrap(wrapped, context), { code: "DecryptionFailure" });
    await assert.rejects(mine.wrap(key, context), { code: "EncryptionFailure" });
  } finally {
    for (const name of ["AWS_ENDPOINT_URL_KMS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
});
