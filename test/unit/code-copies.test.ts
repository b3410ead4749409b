// What is kept of code that was verified, and whose signatures count.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { ConfigError, RotatorError } from "../../src/core/error.ts";
import { bundleLimits, listBundle } from "../../src/functions/code-bundle.ts";
import { algorithmOf, readPublishers } from "../../src/functions/code-publishers.ts";
import { codeHome, codeWorld, other, pem, signedApp, team } from "../support/signed-code.ts";

describe("copies", () => {
  it("go when nothing has used them for a while, and all of them with the server", async () => {
    await using here = await signedApp();
    const old = await here.find("app/index.mjs");
    here.clock.now += 15 * 60_000;
    here.write("app/index.mjs", "export const handler = () => 3");
    await here.sign("app");
    const next = await here.find("app/index.mjs");
    assert.ok(existsSync(old.path));
    here.clock.now += 15 * 60_000;
    await here.find("app/index.mjs");
    assert.ok(!existsSync(dirname(old.path)));
    assert.ok(existsSync(next.path));
    await here.code.close();
    assert.deepEqual(readdirSync(here.copies), []);
  });

  it("left by a server that was killed go, those of one that runs stay", async () => {
    await using here = await signedApp();
    const dead = Number(execFileSync("/bin/sh", ["-c", "echo $$"], { encoding: "utf8" }));
    const folders = [`rekey-code-${dead}-AAAAAA`, `rekey-code-${process.ppid}-AAAAAA`, "mine"];
    for (const name of folders) {
      mkdirSync(join(here.copies, name, "x"), { recursive: true });
      utimesSync(join(here.copies, name), 1, 1);
    }
    await here.find("app/index.mjs");
    assert.deepEqual(
      folders.map((name) => existsSync(join(here.copies, name))),
      [false, true, true],
    );
  });

  it("for users of their own lie where those get to", async () => {
    await using here = codeWorld({ forOthers: true });
    here.write("one.mjs", "export const handler = () => 1");
    await here.sign("one.mjs");
    const { path } = await here.find("one.mjs"); // itself looks whether others may read it
    assert.ok(path.startsWith(tmpdir()));
    assert.equal(statSync(dirname(dirname(path))).mode & 0o777, 0o711);
    await here.code.close();
    assert.ok(!existsSync(dirname(dirname(path))));
  });

  it("are made once for calls that come together", async () => {
    await using here = await signedApp();
    const found = await Promise.all(Array.from({ length: 8 }, () => here.find("app/index.mjs")));
    assert.equal(new Set(found.map(({ path }) => path)).size, 1);
  });
});

describe("publishers", () => {
  it("are public keys in PEM or JWK with names; a private key, a weak one or a file for everybody is refused", async () => {
    const folder = mkdtempSync(join(codeHome, "publishers-"));
    const put = (name: string, text: string, mode = 0o644) => writeFileSync(join(folder, name), text, { mode });
    const jwk = { ...other.publicKey.export({ format: "jwk" }), name: "second team" };
    put("first.pem", pem(team.publicKey));
    put("set.json", JSON.stringify({ keys: [jwk] }));
    put("README", "not a key");
    const names = [...(await readPublishers(folder)).values()].map(({ name, algorithm }) => [name, algorithm]);
    assert.deepEqual(names, [
      ["first", "Ed25519"],
      ["second team", "ES512"],
    ]);
    assert.equal((await readPublishers(join(folder, "set.json"))).size, 1);
    const refused = async (text: string, why: RegExp) => {
      put("bad.json", text);
      await assert.rejects(readPublishers(folder), (error) => error instanceof ConfigError && why.test(error.message), text);
    };
    await refused(team.privateKey.export({ type: "pkcs8", format: "pem" }).toString(), /private key/);
    await refused(JSON.stringify(team.privateKey.export({ format: "jwk" })), /private key/);
    await refused(JSON.stringify({ kty: "oct", k: "AAAA" }), /private key/);
    await refused(pem(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey), /no key of Ed25519 or P-521/);
    await refused("nonsense", /neither/);
    put("bad.json", "{}");
    chmodSync(join(folder, "bad.json"), 0o666);
    await assert.rejects(readPublishers(folder), /written by every user/);
    await assert.rejects(readPublishers(join(folder, "nowhere")), /cannot be read \(ENOENT\)/);
  });

  it("who sign have keys of the same kinds", () => {
    assert.equal(algorithmOf(createPrivateKey(team.privateKey.export({ type: "pkcs8", format: "pem" }))), "Ed25519");
    assert.equal(algorithmOf(generateKeyPairSync("x25519").privateKey), undefined);
  });
});

it("a bundle larger than allowed is refused by its sizes alone", async () => {
  const folder = mkdtempSync(join(codeHome, "large-"));
  writeFileSync(join(folder, "sparse"), "");
  truncateSync(join(folder, "sparse"), bundleLimits.bytes + 1);
  await assert.rejects(
    listBundle({ path: folder, kind: "folder" }),
    (error) => error instanceof RotatorError && /at most/.test(error.message),
  );
});
