// What of signed code may run, and what is done so that nothing else does.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, it } from "node:test";
import { zipSync } from "fflate";
import { CompactSign } from "jose";
import { CodeRefused } from "../../src/functions/code-bundle.ts";
import { thumbprintOf } from "../../src/functions/code-publishers.ts";
import { appFiles, codeWorld, daySeconds, other, signedApp, stranger, team } from "../support/signed-code.ts";

describe("signed code", () => {
  it("is run from a copy that holds what was signed, and stays there", async () => {
    await using here = await signedApp();
    const found = await here.find("app/index.mjs");
    assert.ok(found.path.startsWith(`${here.copies}/`), found.path);
    assert.equal(found.within, dirname(found.path));
    for (const [file, text] of Object.entries(appFiles))
      assert.equal(readFileSync(join(dirname(found.path), file), "utf8"), text);
    assert.equal(statSync(found.path).mode & 0o777, 0o444);
    assert.equal(statSync(join(dirname(found.path), "tool.sh")).mode & 0o777, 0o555);
    assert.equal(statSync(here.copies).mode & 0o077, 0);
    const again = await here.find("app/index.mjs");
    assert.deepEqual([again.path, again.changedAt], [found.path, found.changedAt]);
    assert.equal(dirname((await here.find("app/tool.sh", "executable")).path), dirname(found.path));
    await assert.rejects(here.find("app/lib/part.sh", "executable"), /part.sh is not in its bundle/);
  });

  it("is a folder, a single file or a zip, by Ed25519 or ES512", async () => {
    await using here = await signedApp();
    for (const [index, key] of [team, other].entries()) {
      here.write(`one-${index}.mjs`, "export const handler = () => 1");
      await here.sign(`one-${index}.mjs`, { key });
      assert.equal(basename((await here.find(`one-${index}.mjs`)).path), `one-${index}.mjs`);
      here.write(
        `two-${index}.zip`,
        zipSync({ "in/index.mjs": [Buffer.from(appFiles["index.mjs"]), { os: 3, attrs: 0o100755 << 16 }] }),
      );
      await here.sign(`two-${index}.zip`, { key });
      const zipped = await here.find(`two-${index}.zip/in/index.mjs`);
      assert.equal(readFileSync(zipped.path, "utf8"), appFiles["index.mjs"]);
      assert.equal(statSync(zipped.path).mode & 0o777, 0o555);
    }
  });

  it("has no changed, added, missing or renamed file, and no other executable bit", async () => {
    await using here = await signedApp();
    const app = join(here.folder, "app");
    const attempts: [() => void, RegExp][] = [
      [() => here.write("app/index.mjs", "export const handler = () => 2"), /index\.mjs is not as it was signed/],
      [() => here.write("app/lib/part.mjs", "export const part = 22"), /lib\/part\.mjs is not as it was signed/],
      [() => here.write("app/node_modules/x/index.js", ""), /node_modules\/x\/index\.js was added/],
      [() => here.write("app/__pycache__/x.pyc", ""), /was added/],
      [() => rmSync(join(app, "lib/part.mjs")), /lib\/part\.mjs was signed, and is missing/],
      [() => renameSync(join(app, "lib/part.mjs"), join(app, "lib/Part.mjs")), /Part\.mjs was added/],
      [() => chmodSync(join(app, "index.mjs"), 0o755), /became executable/],
      [() => chmodSync(join(app, "tool.sh"), 0o644), /no longer executable/],
    ];
    const kept = join(here.base, "kept");
    cpSync(app, kept, { recursive: true });
    for (const [attack, why] of attempts) {
      await here.find("app/index.mjs");
      attack();
      await here.refused("app/index.mjs", why);
      rmSync(app, { recursive: true });
      cpSync(kept, app, { recursive: true });
    }
    await here.find("app/index.mjs");
  });

  it("with one byte changed is refused though size and times are those it had", async () => {
    await using here = await signedApp();
    await here.find("app/index.mjs");
    const path = join(here.folder, "app/index.mjs");
    const { atime, mtime, ino } = statSync(path);
    writeFileSync(path, "export const handler = () => 2");
    utimesSync(path, atime, mtime);
    assert.equal(statSync(path).ino, ino);
    await here.refused("app/index.mjs", /index\.mjs is not as it was signed/);
  });

  it("that was swapped after it was verified does not run: neither a file, nor a folder, nor a link in its place", async () => {
    await using here = await signedApp();
    const { path } = await here.find("app/index.mjs");
    here.write("app/index.mjs", "throw new Error('evil')");
    assert.equal(readFileSync(path, "utf8"), appFiles["index.mjs"]);
    for (const evil of ["evil.mjs", "evil/index.mjs"]) here.write(evil, "throw new Error('evil')");
    rmSync(join(here.folder, "app/index.mjs"));
    symlinkSync("../evil.mjs", join(here.folder, "app/index.mjs"));
    await here.refused("app/index.mjs", /is a link/);
    renameSync(join(here.folder, "app"), join(here.base, "away"));
    symlinkSync("evil", join(here.folder, "app"));
    await here.refused("app/index.mjs", /app is a link/);
    assert.equal(readFileSync(path, "utf8"), appFiles["index.mjs"]);
  });

  it("is refused while files are swapped back and forth under the check, or is the signed one: never anything else", async () => {
    await using here = await signedApp();
    const path = join(here.folder, "app/index.mjs");
    const [good, evil] = [appFiles["index.mjs"], appFiles["index.mjs"].replace("1", "2")];
    let swapping = true;
    const swaps = (async () => {
      for (let turn = 0; swapping; turn += 1) {
        writeFileSync(`${path}.new`, turn % 2 ? good : evil);
        renameSync(`${path}.new`, path);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    let ran = 0;
    for (let look = 0; look < 40; look += 1) {
      const found = await here.find("app/index.mjs").catch((error: unknown) => {
        if (!(error instanceof CodeRefused)) throw error;
      });
      if (!found) continue;
      ran += 1;
      assert.equal(readFileSync(found.path, "utf8"), good);
    }
    swapping = false;
    await swaps;
    assert.ok(ran < 40, "some are refused");
  });

  it("whose copy was tampered with is copied anew", async () => {
    await using here = await signedApp();
    const first = await here.find("app/index.mjs");
    chmodSync(first.path, 0o644);
    writeFileSync(first.path, "throw new Error('evil')");
    const second = await here.find("app/index.mjs");
    assert.notEqual(second.path, first.path);
    assert.equal(readFileSync(second.path, "utf8"), appFiles["index.mjs"]);
    writeFileSync(join(dirname(second.path), "extra.mjs"), "");
    assert.notEqual((await here.find("app/index.mjs")).path, second.path);
  });

  it("runs under its own name only: the signature of another bundle, or of another kind, is none", async () => {
    await using here = await signedApp();
    cpSync(join(here.folder, "app"), join(here.folder, "pay"), { recursive: true });
    await here.refused("pay/index.mjs", /has no signature/);
    cpSync(join(here.folder, "app.sig"), join(here.folder, "pay.sig"));
    await here.refused("pay/index.mjs", /signature is that of the folder "app"/);
    here.write("one.mjs", "export const handler = () => 1");
    await here.sign("one.mjs", { as: "app" });
    await here.refused("app/index.mjs", /signature is that of the file "one\.mjs"/);
  });

  it("is refused after its time, before it, and by times that were never signed", async () => {
    await using here = await signedApp();
    const text = await here.sign("app", { days: 1 });
    await here.find("app/index.mjs");
    here.clock.now += daySeconds * 1000;
    await here.refused("app/index.mjs", /expired at 2030-/);
    // An old signature put back after a newer one was made.
    await here.sign("app");
    await here.find("app/index.mjs");
    writeFileSync(join(here.folder, "app.sig"), text);
    await here.refused("app/index.mjs", /expired/);
    await here.sign("app", { at: here.clock.now + 3_600_000 });
    await here.refused("app/index.mjs", /is of the future/);
    const [header, payload, signature] = text.split(".");
    const later = { ...JSON.parse(Buffer.from(payload ?? "", "base64url").toString()), exp: 4_000_000_000 };
    const forged = Buffer.from(JSON.stringify(later)).toString("base64url");
    writeFileSync(join(here.folder, "app.sig"), `${header}.${forged}.${signature}`);
    await here.refused("app/index.mjs", /not that of team/);
  });

  it("is refused from unknown and revoked publishers, and with a key of one in another's name", async () => {
    await using here = await signedApp();
    await here.sign("app", { key: stranger });
    await here.refused("app/index.mjs", /publisher is unknown/);
    const said = readFileSync(join(here.folder, "app.sig"), "utf8").split(".")[1] ?? "";
    const kid = await thumbprintOf(team.publicKey);
    const forged = new CompactSign(Buffer.from(said, "base64url")).setProtectedHeader({
      alg: "Ed25519",
      kid,
      typ: "rekey-code+jws",
    });
    writeFileSync(join(here.folder, "app.sig"), await forged.sign(stranger.privateKey));
    await here.refused("app/index.mjs", /not that of team/);
    await here.sign("app");
    await here.find("app/index.mjs");
    rmSync(join(here.publishers, "team.pem"));
    await here.refused("app/index.mjs", /publisher is unknown/);
    rmSync(join(here.publishers, "other.pem"));
    await here.refused("app/index.mjs", /holds no key/);
  });

  it("is refused when its signature has no algorithm, another type, another form, or is none at all", async () => {
    await using here = await signedApp();
    const [, payload = ""] = readFileSync(join(here.folder, "app.sig"), "utf8").split(".");
    const kid = await thumbprintOf(team.publicKey);
    const put = (text: string) => writeFileSync(join(here.folder, "app.sig"), text);
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const sign = (said: string, header: object) =>
      new CompactSign(Buffer.from(said, "base64url"))
        .setProtectedHeader({ alg: "Ed25519", kid, ...header })
        .sign(team.privateKey);
    put(`${encode({ alg: "none", kid, typ: "rekey-code+jws" })}.${payload}.`);
    await here.refused("app/index.mjs", /not that of team/);
    const mac = createHash("sha256").update("x").digest("base64url");
    put(`${encode({ alg: "HS256", kid, typ: "rekey-code+jws" })}.${payload}.${mac}`);
    await here.refused("app/index.mjs", /not that of team/);
    put(await sign(payload, {}));
    await here.refused("app/index.mjs", /signed something else/);
    const more = { ...JSON.parse(Buffer.from(payload, "base64url").toString()), also: 1 };
    put(await sign(encode(more), { typ: "rekey-code+jws" }));
    await here.refused("app/index.mjs", /of a form/);
    const up = { ...more, also: undefined, files: [{ path: "../evil", sha256: "A".repeat(43), size: 1, executable: false }] };
    put(await sign(encode(up), { typ: "rekey-code+jws" }));
    await here.refused("app/index.mjs", /no path below the bundle/);
    for (const none of ["", "a", "a.b.c", "{}", "\0"]) {
      put(none);
      await here.refused("app/index.mjs", /no compact JWS|unknown/);
    }
    rmSync(join(here.folder, "app.sig"));
    symlinkSync("/dev/zero", join(here.folder, "app.sig"));
    await here.refused("app/index.mjs", /cannot be read/);
    rmSync(join(here.folder, "app.sig"));
    await here.refused("app/index.mjs", /has no signature/);
  });

  it("holds no links and no special files, when it is signed and when it is run", async () => {
    await using here = await signedApp();
    execFileSync("mkfifo", [join(here.folder, "app/pipe")]);
    await here.refused("app/index.mjs", /pipe is a link or no file/);
    await assert.rejects(here.sign("app"), /pipe is a link or no file/);
    rmSync(join(here.folder, "app/pipe"));
    symlinkSync("/etc", join(here.folder, "app/etc"));
    await here.refused("app/index.mjs", /etc is a link or no file/);
    await assert.rejects(here.sign("app"), /etc is a link or no file/);
  });

  it("takes a folder's signature before that of what is in it", async () => {
    await using here = await signedApp();
    await here.sign("app/index.mjs");
    await here.refused("app/index.mjs", /index\.mjs\.sig was added/);
  });

  it("is what a single file is without what lies beside it", async () => {
    await using here = codeWorld();
    here.write("one.mjs", "export const handler = () => 1");
    await here.sign("one.mjs");
    here.write("node_modules/x/index.js", "");
    here.write("package.json", "{}");
    const { path } = await here.find("one.mjs");
    assert.deepEqual(readdirSync(dirname(path)), ["one.mjs"]);
  });
});

describe("without enforcement", () => {
  it("code runs where it lies, with the reason why it would not, or from its copy when it is signed", async () => {
    await using here = codeWorld({ signing: "warn" });
    const path = here.write("app/index.mjs", appFiles["index.mjs"]);
    const { doubt, ...found } = await here.find("app/index.mjs");
    assert.match(doubt ?? "", /app\/index\.mjs is not trusted: it has no signature: rekey function sign/);
    assert.equal(found.path, path);
    await here.sign("app");
    const signed = await here.find("app/index.mjs");
    assert.deepEqual([signed.doubt, signed.path.startsWith(here.copies)], [undefined, true]);
    here.write("app.zip", zipSync({ "index.mjs": Buffer.from("x") }));
    assert.match((await here.find("app.zip/index.mjs")).doubt ?? "", /has no signature/);
  });

  it("nothing is looked at when signing is off", async () => {
    await using here = codeWorld({ signing: "off", publishers: undefined });
    const path = here.write("app/index.mjs", appFiles["index.mjs"]);
    writeFileSync(join(here.folder, "app.sig"), "nonsense");
    assert.deepEqual(Object.keys(await here.find("app/index.mjs")), ["path", "changedAt"]);
    assert.equal((await here.find("app/index.mjs")).path, path);
    assert.ok(!existsSync(here.copies));
  });
});
