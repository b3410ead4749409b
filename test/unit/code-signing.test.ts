// What of signed code may run, and what is done so that nothing else does.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, describe, it } from "node:test";
import { zipSync } from "fflate";
import { CompactSign } from "jose";
import { ConfigError, RotatorError } from "../../src/core/error.ts";
import type { ProcessSettings } from "../../src/core/function.ts";
import { type Bundle, bundleLimits, CodeRefused, listBundle } from "../../src/functions/code-bundle.ts";
import { algorithmOf, readPublishers, thumbprintOf } from "../../src/functions/code-publishers.ts";
import { signCode } from "../../src/functions/code-signature.ts";
import { ProgramCode, type ProgramCodeParts } from "../../src/functions/program-code.ts";
import { craftZip } from "../support/craft-zip.ts";

const home = mkdtempSync(join(tmpdir(), "rekey-signing-"));
after(() => rmSync(home, { recursive: true, force: true }));
let made = 0;

const team = generateKeyPairSync("ed25519");
const other = generateKeyPairSync("ec", { namedCurve: "secp521r1" });
const stranger = generateKeyPairSync("ed25519");
const pem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
const daySeconds = 86_400;
const startAt = 1_900_000_000_000;

/** A functions folder of its own, with publishers and a clock to set. */
function world(parts: Partial<ProgramCodeParts> = {}) {
  made += 1;
  const base = join(home, `w${made}`);
  const folder = join(base, "functions");
  const publishers = join(base, "publishers");
  for (const each of [folder, publishers]) mkdirSync(each, { recursive: true });
  writeFileSync(join(publishers, "team.pem"), pem(team.publicKey));
  writeFileSync(join(publishers, "other.pem"), pem(other.publicKey));
  const clock = { now: startAt };
  const copies = join(base, "data", "code");
  const code = new ProgramCode({
    folder,
    signing: "enforce",
    publishers,
    copies,
    forOthers: false,
    now: () => clock.now,
    ...parts,
  });
  return {
    base,
    folder,
    publishers,
    clock,
    copies,
    code,
    write(file: string, text: string | Uint8Array, mode = 0o644): string {
      const path = join(folder, file);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text, { mode });
      return path;
    },
    async sign(file: string, { key = team, days = 30, at = clock.now, as }: SignOptions = {}): Promise<string> {
      const path = join(folder, file);
      const bundle: Bundle = { path, kind: statSync(path).isDirectory() ? "folder" : "file" };
      const iat = Math.floor(at / 1000);
      const { text } = await signCode(bundle, key.privateKey, key.publicKey, { iat, exp: iat + days * daySeconds });
      writeFileSync(`${join(folder, as ?? file)}.sig`, text);
      return text;
    },
    find: (file: string, runtime: ProcessSettings["runtime"] = "node") => code.find({ runtime, file }),
    refused: (file: string, why: RegExp, runtime: ProcessSettings["runtime"] = "node") =>
      assert.rejects(
        code.find({ runtime, file }),
        (error) => error instanceof CodeRefused && error.outcome === "denied" && why.test(error.message),
        `${file}: ${why}`,
      ),
    async [Symbol.asyncDispose]() {
      await code.close();
    },
  };
}
interface SignOptions {
  readonly key?: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
  readonly days?: number;
  readonly at?: number;
  readonly as?: string;
}

const app = { "index.mjs": "export const handler = () => 1", "lib/part.mjs": "export const part = 1", "tool.sh": "#!/bin/sh\n" };
async function signedApp() {
  const here = world();
  for (const [file, text] of Object.entries(app)) here.write(`app/${file}`, text, file.endsWith(".sh") ? 0o755 : 0o644);
  await here.sign("app");
  return here;
}

describe("signed code", () => {
  it("is run from a copy that holds what was signed, and stays there", async () => {
    await using here = await signedApp();
    const found = await here.find("app/index.mjs");
    assert.ok(found.path.startsWith(`${here.copies}/`), found.path);
    assert.equal(found.within, dirname(found.path));
    for (const [file, text] of Object.entries(app)) assert.equal(readFileSync(join(dirname(found.path), file), "utf8"), text);
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
        zipSync({ "in/index.mjs": [Buffer.from(app["index.mjs"]), { os: 3, attrs: 0o100755 << 16 }] }),
      );
      await here.sign(`two-${index}.zip`, { key });
      const zipped = await here.find(`two-${index}.zip/in/index.mjs`);
      assert.equal(readFileSync(zipped.path, "utf8"), app["index.mjs"]);
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
    assert.equal(readFileSync(path, "utf8"), app["index.mjs"]);
    for (const evil of ["evil.mjs", "evil/index.mjs"]) here.write(evil, "throw new Error('evil')");
    rmSync(join(here.folder, "app/index.mjs"));
    symlinkSync("../evil.mjs", join(here.folder, "app/index.mjs"));
    await here.refused("app/index.mjs", /is a link/);
    renameSync(join(here.folder, "app"), join(here.base, "away"));
    symlinkSync("evil", join(here.folder, "app"));
    await here.refused("app/index.mjs", /app is a link/);
    assert.equal(readFileSync(path, "utf8"), app["index.mjs"]);
  });

  it("is refused while files are swapped back and forth under the check, or is the signed one: never anything else", async () => {
    await using here = await signedApp();
    const path = join(here.folder, "app/index.mjs");
    const [good, evil] = [app["index.mjs"], app["index.mjs"].replace("1", "2")];
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
    assert.equal(readFileSync(second.path, "utf8"), app["index.mjs"]);
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
    await using here = world();
    here.write("one.mjs", "export const handler = () => 1");
    await here.sign("one.mjs");
    here.write("node_modules/x/index.js", "");
    here.write("package.json", "{}");
    const { path } = await here.find("one.mjs");
    assert.deepEqual(readdirSync(dirname(path)), ["one.mjs"]);
  });
});

describe("zips", () => {
  const ok = { "index.mjs": Buffer.from(app["index.mjs"]) };
  it("are refused with any byte changed, before they are unpacked", async () => {
    await using here = world();
    const zip = Buffer.from(zipSync(ok));
    here.write("app.zip", zip);
    await here.sign("app.zip");
    await here.find("app.zip/index.mjs");
    for (const at of [0, 40, zip.length - 1]) {
      const changed = Buffer.from(zip);
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      here.write("app.zip", changed);
      await here.refused("app.zip/index.mjs", /app\.zip is not as it was signed/);
    }
    here.write("app.zip", zip.subarray(0, -5));
    await here.refused("app.zip/index.mjs", /app\.zip is not as it was signed/);
  });

  const long = "n".repeat(bundleLimits.pathChars + 1);
  const bad: [string, Buffer, RegExp][] = [
    ["cut off", Buffer.from(zipSync(ok)).subarray(0, -10), /no whole zip/],
    ["followed by something", Buffer.concat([zipSync(ok), Buffer.from("x")]), /no whole zip/],
    ["no zip", Buffer.from("hello"), /no whole zip/],
    ["a way up", craftZip([{ name: "../evil.mjs" }]), /no path below/],
    ["an absolute path", craftZip([{ name: "/etc/evil" }]), /no path below/],
    ["a way up in the middle", craftZip([{ name: "a/../../evil" }]), /no path below/],
    ["a backslash", craftZip([{ name: "..\\evil" }]), /characters/],
    ["a NUL", craftZip([{ name: "index.mjs\0.txt" }]), /characters/],
    ["a long name", craftZip([{ name: long }]), /too long/],
    ["a name twice", craftZip([{ name: "index.mjs" }, { name: "index.mjs", text: "evil" }]), /is there twice/],
    ["a name in other capitals", craftZip([{ name: "index.mjs" }, { name: "Index.mjs" }]), /is there twice/],
    ["a name in another kind of accents", craftZip([{ name: "\u00e9" }, { name: "e\u0301" }]), /is there twice/],
    ["a file below a file", craftZip([{ name: "index.mjs" }, { name: "index.mjs/x" }]), /below a file/],
    ["a link", craftZip([{ name: "index.mjs", mode: 0o120777 }]), /is a link or no file/],
    ["a device", craftZip([{ name: "index.mjs", mode: 0o020666 }]), /is a link or no file/],
    ["another name in the local header", craftZip([{ name: "index.mjs", localName: "evil.mjs1" }]), /does not fit/],
    ["another content than its digest", craftZip([{ name: "index.mjs", crc: 1 }]), /not what its directory says/],
    ["more than it says", craftZip([{ name: "index.mjs", text: "x".repeat(10_000), size: 10 }]), /not what its directory says/],
    ["encrypted", craftZip([{ name: "index.mjs", flags: 1 }]), /encrypted/],
    ["an unknown packing", craftZip([{ name: "index.mjs", method: 12 }]), /packed in a way/],
    ["a bomb", craftZip([{ name: "index.mjs", text: "\0".repeat(64 * 1024 * 1024) }]), /100 times what it has/],
    ["a bomb by what it says", craftZip([{ name: "index.mjs", size: 0xf0000000 }]), /holds more than/],
    ["files that share bytes", craftZip([{ name: "a.mjs" }, { name: "a.mjs2", sharesFirst: true }]), /overlap|does not fit/],
    [
      "too many files",
      craftZip(Array.from({ length: bundleLimits.files + 1 }, (_, at) => ({ name: `${at}` }))),
      /more than 10000 files/,
    ],
  ];
  for (const [what, zip, why] of bad)
    it(`are not unpacked with ${what}, signed or not, and leave nothing behind`, async () => {
      for (const signing of ["enforce", "off"] as const) {
        await using here = world({ signing });
        here.write("app.zip", zip);
        if (signing === "enforce") await here.sign("app.zip");
        await here.refused("app.zip/index.mjs", why);
        const left = existsSync(here.copies)
          ? readdirSync(here.copies).flatMap((one) => readdirSync(join(here.copies, one)))
          : [];
        assert.deepEqual(
          left.filter((name) => name !== "package.json"),
          [],
        );
        assert.ok(!existsSync(join(here.base, "evil.mjs")));
      }
    });

  it("run without a signature when none is asked for", async () => {
    await using here = world({ signing: "off", publishers: undefined });
    here.write("app.zip", zipSync({ ...ok, "lib/": new Uint8Array() }));
    assert.equal(readFileSync((await here.find("app.zip/index.mjs")).path, "utf8"), app["index.mjs"]);
    await assert.rejects(here.find("app.zip/other.mjs"), /other\.mjs is not in its bundle/);
  });
});

describe("without enforcement", () => {
  it("code runs where it lies, with the reason why it would not, or from its copy when it is signed", async () => {
    await using here = world({ signing: "warn" });
    const path = here.write("app/index.mjs", app["index.mjs"]);
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
    await using here = world({ signing: "off", publishers: undefined });
    const path = here.write("app/index.mjs", app["index.mjs"]);
    writeFileSync(join(here.folder, "app.sig"), "nonsense");
    assert.deepEqual(Object.keys(await here.find("app/index.mjs")), ["path", "changedAt"]);
    assert.equal((await here.find("app/index.mjs")).path, path);
    assert.ok(!existsSync(here.copies));
  });
});

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
    await using here = world({ forOthers: true });
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
    const folder = mkdtempSync(join(home, "publishers-"));
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
  const folder = mkdtempSync(join(home, "large-"));
  execFileSync("truncate", ["-s", String(bundleLimits.bytes + 1), join(folder, "sparse")]);
  await assert.rejects(
    listBundle({ path: folder, kind: "folder" }),
    (error) => error instanceof RotatorError && /at most/.test(error.message),
  );
});
