import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createPublicKey, randomInt, sign, verify } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { generatePassword } from "../../src/core/password.ts";
import { type KeyPair, keyPair, thumbprint } from "../../src/targets/key-pair.ts";
import { readSshPrivateKey } from "../../src/targets/openssh.ts";
import { type RandomValue, random } from "../../src/targets/random.ts";
import { unlessCi } from "../support/server-process.ts";
import { failure, tools } from "./contract.ts";

const passwordTools = () =>
  tools((options) =>
    generatePassword({ length: options?.length, excludeCharacters: options?.exclude, requireEachIncludedType: false }, randomInt),
  );
const created = (current: RandomValue) => random.create(random.credential.parse(current), "generator", passwordTools());

test("a random value is new at every turn, written as asked, and the rest of the secret stays", async () => {
  const shapes: readonly (readonly [RandomValue, RegExp])[] = [
    [{}, /^[A-Za-z0-9._-]{32}$/],
    [{ charset: "password", length: 64, exclude: "-_." }, /^[A-Za-z0-9]{64}$/],
    [{ charset: "alphanumeric", length: 40, exclude: "0O1lI" }, /^[2-9A-HJ-NP-Za-km-z]{40}$/],
    [{ charset: "hex" }, /^[0-9a-f]{64}$/],
    [{ charset: "hex", bytes: 16 }, /^[0-9a-f]{32}$/],
    [{ charset: "base64", bytes: 32 }, /^[A-Za-z0-9+/]{43}=$/],
    [{ charset: "base64url", bytes: 64 }, /^[A-Za-z0-9_-]{86}$/],
  ];
  for (const [shape, pattern] of shapes) {
    const current = { ...shape, type: "random", value: "of before", note: { kept: true } } as const;
    const [one, two] = [await created(current), await created(current)];
    assert.match(String(one.value), pattern);
    assert.notEqual(one.value, two.value);
    assert.deepEqual({ ...one, value: "of before" }, current);
    await random.test(one, tools());
    assert.equal(await random.probe(one, tools()), "ok");
  }
  const named = await created({ valueKey: "JWT_SECRET", JWT_SECRET: "old", value: "another" });
  assert.notEqual(named.JWT_SECRET, "old");
  assert.equal(named.value, "another");
});

test("every allowed character of an alphanumeric value comes up about as often as the others", async () => {
  const { value } = await created({
    charset: "alphanumeric",
    length: 4096,
    exclude: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
  });
  const counts = [..."0123456789"].map((digit) => String(value).split(digit).length - 1);
  assert.equal(
    counts.reduce((sum, count) => sum + count),
    4096,
  );
  for (const count of counts) assert.ok(count > 300 && count < 520, `${counts}`); // 6 standard deviations
});

test("a random value's secret names what does not suit", () => {
  const wrong = (value: object): string[] =>
    (random.credential.safeParse(value).error?.issues ?? []).map(({ path }) => path.join("."));
  assert.deepEqual(wrong({ length: 7 }), ["length"]);
  assert.deepEqual(wrong({ length: 5000 }), ["length"]);
  assert.deepEqual(wrong({ charset: "hex", length: 32 }), ["length"]);
  assert.deepEqual(wrong({ charset: "hex", bytes: 8 }), ["bytes"]);
  assert.deepEqual(wrong({ charset: "base64", exclude: "a" }), ["exclude"]);
  assert.deepEqual(wrong({ bytes: 32 }), ["bytes"]);
  assert.deepEqual(wrong({ charset: "words" }), ["charset"]);
  assert.deepEqual(wrong({ valueKey: "length" }), ["valueKey"]);
  assert.equal(wrong({ valueKey: "__proto__" })[0], "valueKey");
  assert.deepEqual(wrong({ value: 5 }), ["value"]);
  assert.deepEqual(wrong({ type: "ed25519" }), ["type"]);
  assert.deepEqual(wrong({ charset: "alphanumeric", exclude: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0" }), [
    "exclude",
  ]);
});

test("a value that is not written as its charset says does not pass", async () => {
  assert.equal(await failure(random.test({}, tools())), "invalid");
  assert.equal(await failure(random.test({ charset: "hex", value: "canary-no-hex" }, tools()), "canary-no-hex"), "invalid");
  assert.equal(await random.probe({ charset: "base64", value: "abc" }, tools()), "invalid");
});

const newPair = (current: KeyPair) =>
  keyPair.create(keyPair.credential.parse(current), "generator", { ...tools(), deadlineAt: Date.now() + 60_000 });

const has = (command: string, ...args: string[]): boolean => {
  try {
    execFileSync(command, args, { stdio: "ignore" });
    return true;
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ENOENT");
  }
};
const sshSkip = unlessCi(has("ssh-keygen", "-?") ? false : "no ssh-keygen");
const opensslSkip = unlessCi(has("openssl", "version") ? false : "no openssl");

function inFile<T>(content: string, use: (path: string) => T): T {
  const home = mkdtempSync(join(tmpdir(), "rekey-key-"));
  try {
    const path = join(home, "key");
    writeFileSync(path, content, { mode: 0o600 });
    return use(path);
  } finally {
    rmSync(home, { recursive: true });
  }
}
const output = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: "utf8", stdio: "pipe" });

for (const [type, bits, shown] of [
  ["ssh-ed25519", undefined, "256 # deploy@example.com (ED25519)"],
  ["ssh-rsa", undefined, "3072 # deploy@example.com (RSA)"],
  ["ssh-rsa", 2048, "2048 # deploy@example.com (RSA)"],
  ["ssh-rsa", 4096, "4096 # deploy@example.com (RSA)"],
] as const) {
  test(`${type} ${bits ?? ""}: ssh-keygen reads it, signs and verifies with it`, { skip: sshSkip }, async () => {
    const pair = await newPair({ type, comment: "deploy@example.com", ...(bits && { bits }) });
    await keyPair.test(pair, tools());
    const { privateKey = "", publicKey = "", keyId = "" } = pair;
    inFile(privateKey, (path) => {
      assert.equal(output("ssh-keygen", "-y", "-P", "", "-f", path).trim(), publicKey);
      assert.equal(output("ssh-keygen", "-l", "-f", path).trim(), shown.replace("#", keyId));
      output("ssh-keygen", "-Y", "sign", "-n", "test", "-f", path, path);
      writeFileSync(`${path}.signers`, `deploy ${publicKey}\n`);
      const verifying = ["-Y", "verify", "-n", "test", "-I", "deploy", "-f", `${path}.signers`, "-s", `${path}.sig`];
      execFileSync("ssh-keygen", verifying, { input: privateKey, stdio: ["pipe", "pipe", "pipe"] });
    });
    inFile(`${publicKey}\n`, (path) => assert.equal(output("ssh-keygen", "-l", "-f", path).trim(), shown.replace("#", keyId)));
  });
}

for (const [type, bits] of [
  ["ed25519", undefined],
  ["rsa", undefined],
  ["rsa", 2048],
] as const) {
  test(`${type} ${bits ?? ""}: openssl reads both halves, and they belong together`, { skip: opensslSkip }, async () => {
    const pair = await newPair({ type, ...(bits && { bits }) });
    await keyPair.test(pair, tools());
    const { privateKey = "", publicKey = "", keyId = "" } = pair;
    assert.equal(
      inFile(privateKey, (path) => output("openssl", "pkey", "-in", path, "-pubout")),
      publicKey,
    );
    const about = inFile(publicKey, (path) => output("openssl", "pkey", "-pubin", "-in", path, "-noout", "-text"));
    assert.match(about, type === "rsa" ? new RegExp(`${bits ?? 3072} bit`) : /ED25519/);
    const algorithm = type === "rsa" ? "sha256" : null;
    assert.ok(verify(algorithm, Buffer.from("x"), publicKey, sign(algorithm, Buffer.from("x"), privateKey)));
    assert.match(keyId, /^[\w-]{43}$/);
  });
}

test("the thumbprint is that of RFC 7638's example", () => {
  const n =
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
  const key = createPublicKey({ key: { kty: "RSA", e: "AQAB", n }, format: "jwk" });
  assert.equal(thumbprint(key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
});

test("halves of two pairs do not pass, nor a key with another's id, nor none, and no error shows a key", async () => {
  for (const type of ["ed25519", "ssh-ed25519"] as const) {
    const [one, two] = [await newPair({ type, comment: "a" }), await newPair({ type, comment: "b" })];
    const refused = async (pair: KeyPair) => {
      const secret = String(pair.privateKey).split("\n")[2] ?? "no key";
      assert.equal(await failure(keyPair.test(pair, tools()), secret), "invalid");
      assert.equal(await keyPair.probe(pair, tools()), "invalid");
    };
    await refused({ ...one, publicKey: two.publicKey });
    await refused({ ...one, keyId: two.keyId });
    await refused({ ...one, privateKey: String(one.privateKey).slice(0, 90) });
    await refused({ ...one, privateKey: "canary\n\ncanary-key" });
    await refused({ type });
    await refused({ ...one, type: type === "ed25519" ? "rsa" : "ssh-rsa" });
  }
});

test("a key with a passphrase is not taken for one without", { skip: sshSkip }, async () => {
  const pair = await newPair({ type: "ssh-ed25519" });
  const locked = inFile(String(pair.privateKey), (path) => {
    output("ssh-keygen", "-p", "-P", "", "-N", "a passphrase", "-f", path);
    return output("cat", path);
  });
  assert.equal(await failure(keyPair.test({ ...pair, privateKey: locked }, tools())), "invalid");
});

test("keys that ssh-keygen made are read", { skip: sshSkip }, async () => {
  for (const args of [
    ["-t", "ed25519"],
    ["-t", "rsa", "-b", "2048"],
  ]) {
    const home = mkdtempSync(join(tmpdir(), "rekey-key-"));
    const path = join(home, "key");
    output("ssh-keygen", ...args, "-q", "-N", "", "-C", "made elsewhere", "-f", path);
    const privateKey = output("cat", path);
    const publicKey = output("cat", `${path}.pub`);
    const keyId = output("ssh-keygen", "-l", "-f", path).split(" ")[1];
    rmSync(home, { recursive: true });
    const type = publicKey.startsWith("ssh-rsa") ? "ssh-rsa" : "ssh-ed25519";
    await keyPair.test({ type, privateKey, publicKey, keyId }, tools());
  }
});

test("whatever stands in place of an OpenSSH key, it is read or refused, and nothing else happens", () => {
  const body = fc
    .uint8Array({ maxLength: 200 })
    .map((bytes) => Buffer.concat([Buffer.from("openssh-key-v1\0"), bytes]).toString("base64"));
  fc.assert(
    fc.property(body, (text) => {
      assert.throws(
        () => readSshPrivateKey(`-----BEGIN OPENSSH PRIVATE KEY-----\n${text}\n-----END OPENSSH PRIVATE KEY-----\n`),
        Error,
      );
    }),
  );
});

test("a key pair's secret names what does not suit; a comment makes no second line in authorized_keys", () => {
  const wrong = (value: object): string[] =>
    (keyPair.credential.safeParse(value).error?.issues ?? []).map(({ path }) => path.join("."));
  assert.deepEqual(wrong({}), ["type"]);
  assert.deepEqual(wrong({ type: "dsa" }), ["type"]);
  assert.deepEqual(wrong({ type: "rsa", bits: 1024 }), ["bits"]);
  assert.deepEqual(wrong({ type: "rsa", bits: 8192 }), ["bits"]);
  assert.deepEqual(wrong({ type: "ed25519", bits: 2048 }), ["bits"]);
  for (const lineBreak of ["\n", "\r", "\u2028", "\0"])
    assert.deepEqual(wrong({ type: "ssh-rsa", comment: `x${lineBreak}ssh-rsa AAAA attacker` }), ["comment"]);
  assert.deepEqual(wrong({ type: "ssh-ed25519", comment: "who@where, für 'alle'" }), []);
});

test("a key that takes longer than there is time ends as a timeout", async () => {
  const late = { ...tools(), deadlineAt: Date.now() - 1 };
  assert.equal(await failure(keyPair.create({ type: "rsa", bits: 4096 }, "generator", late)), "timeout");
});
