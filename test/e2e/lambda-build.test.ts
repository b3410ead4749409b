// `npm run build:lambda`: the same sources give the same bytes anywhere, and the manifest is believed only as it was signed.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { CompactSign, FlattenedSign, importJWK, type JWK } from "jose";
import { newPrivateJwk, publicJwk } from "../../src/crypto/message-keys.ts";
import { readLambdaManifest, writeLambdaManifest } from "../../src/functions/lambda-manifest.ts";

const repository = join(import.meta.dirname, "../..");
const run = promisify(execFile);
const readJson = (file: string) => JSON.parse(readFileSync(file, "utf8"));

describe("the build of functions of AWS Lambda", () => {
  let home = "";
  before(() => {
    home = mkdtempSync(join(tmpdir(), "rekey-build-lambda-"));
  });
  after(() => rmSync(home, { recursive: true, force: true }));

  /** A checkout of its own, whose files are of another time and mode. */
  function checkout(name: string): string {
    const root = join(home, name, "rekey");
    mkdirSync(root, { recursive: true });
    for (const part of ["src", "scripts", "package.json", "LICENSE"])
      cpSync(join(repository, part), join(root, part), { recursive: true });
    symlinkSync(join(repository, "node_modules"), join(root, "node_modules"));
    return root;
  }

  /** In a shell of its own with another mask for files, time zone and folder; what it printed. */
  async function build(root: string, { umask, zone, more = [] }: { umask: string; zone: string; more?: string[] }) {
    const command = `umask ${umask}; cd /; exec "$@"`;
    const script = [process.execPath, join(root, "scripts", "build-lambda.ts"), "postgres", "ldap", ...more];
    const env = { PATH: process.env.PATH ?? "", TZ: zone, LC_ALL: "C", SOURCE_DATE_EPOCH: "1767225600" };
    return (await run("sh", ["-c", command, "sh", ...script], { env })).stdout;
  }

  it("gives the same bytes in another folder, zone and mask, and a manifest of them", async () => {
    const roots = [checkout("first"), checkout("second-with-a-longer-name")] as const;
    const [printed] = await Promise.all([
      build(roots[0], { umask: "022", zone: "Pacific/Kiritimati" }),
      build(roots[1], { umask: "077", zone: "America/St_Johns" }),
    ]);
    const of = (root: string, file: string) => readFileSync(join(root, "dist", "lambda", file));
    for (const file of ["rekey-postgres.zip", "rekey-ldap.zip"])
      assert.deepEqual(of(roots[0], file), of(roots[1], file), `${file} differs`);

    const keyFile = join(roots[0], ".rekey", "release-key.json");
    assert.match(printed, /There was no release key: a new one is in .*release-key\.json/);
    assert.equal(statSync(keyFile).mode & 0o777, 0o600);
    const released = readJson(join(roots[0], "dist", "lambda", "release-key.json")) as JWK;
    assert.deepEqual(released, publicJwk(readJson(keyFile)));
    const functions = await readLambdaManifest(of(roots[0], "manifest.json").toString("utf8"), [released]);
    assert.deepEqual(
      functions.map(({ id }) => id),
      ["rekey-postgres", "rekey-ldap"],
    );
    for (const { id, sha256, bytes, version, releasedAt, handler, runtimes, protocol } of functions) {
      const zip = of(roots[0], `${id}.zip`);
      assert.equal(sha256, createHash("sha256").update(zip).digest("base64"));
      assert.equal(bytes, zip.length);
      assert.equal(version, readJson(join(repository, "package.json")).version);
      assert.deepEqual([releasedAt, handler, protocol], ["2026-01-01T00:00:00.000Z", "app.handler", 1]);
      assert.deepEqual(runtimes, ["nodejs20.x", "nodejs22.x", "nodejs24.x"]);
      assert.ok(printed.includes(sha256));
    }
  });

  it("signs with the key that it is given, and builds other keys in", async () => {
    const root = checkout("third");
    const into = join(home, "into");
    const [key, pinned] = [await newPrivateJwk("sig"), { keys: [publicJwk(await newPrivateJwk("sig"))] }];
    writeFileSync(join(home, "key.json"), JSON.stringify(key));
    writeFileSync(join(home, "pinned.json"), JSON.stringify(pinned));
    const more = ["--key", join(home, "key.json"), "--into", into, "--pin", join(home, "pinned.json")];
    const printed = await build(root, { umask: "022", zone: "UTC", more });
    assert.doesNotMatch(printed, /no release key/);
    assert.equal(existsSync(join(root, ".rekey")), false);
    const [pinnedOne] = await readLambdaManifest(readFileSync(join(into, "manifest.json"), "utf8"), [publicJwk(key)]);
    assert.match(pinnedOne?.sha256 ?? "", /^[A-Za-z0-9+/]{43}=$/);
    const refusal = build(root, { umask: "022", zone: "UTC", more: ["nothing-such", "--into", into] });
    await assert.rejects(refusal, /no function is built for nothing-such: one of activedirectory/);
  });
});

describe("a manifest is refused", () => {
  const release = {
    id: "rekey-postgres",
    kind: "postgres",
    version: "1.0.0",
    releasedAt: "2026-01-01T00:00:00.000Z",
    sha256: `${"A".repeat(43)}=`,
    build: "A".repeat(43),
    bytes: 1,
    runtimes: ["nodejs20.x"],
    handler: "app.handler",
    protocol: 1,
  };
  let key: JWK;
  let text = "";
  before(async () => {
    key = await newPrivateJwk("sig");
    text = await writeLambdaManifest([release], key);
  });
  const refused = (manifest: string, keys = [publicJwk(key)]) =>
    assert.rejects(readLambdaManifest(manifest, keys), /the manifest of functions is refused/);

  it("when another key signed it, or no key is trusted", async () => {
    assert.deepEqual(await readLambdaManifest(text, [publicJwk(key)]), [release]);
    await refused(text, []);
    await refused(text, [publicJwk(await newPrivateJwk("sig"))]);
    const impostor = { ...publicJwk(await newPrivateJwk("sig")), kid: publicJwk(key).kid } as JWK;
    await refused(text, [impostor]);
  });

  it("when a byte of it was changed", async () => {
    const { payload, protected: header, signature } = JSON.parse(text);
    const other = Buffer.from(JSON.stringify({ functions: [{ ...release, sha256: `${"B".repeat(43)}=` }] })).toString(
      "base64url",
    );
    await refused(JSON.stringify({ payload: other, protected: header, signature }));
    const none = Buffer.from(JSON.stringify({ alg: "none", kid: key.kid, typ: "rekey-manifest+json" })).toString("base64url");
    await refused(JSON.stringify({ payload, protected: none, signature: "" }));
    await refused(JSON.stringify({ payload, header: { alg: "ES512", kid: key.kid }, signature }));
    for (const nothing of ["", "{}", "[]", "null", "x".repeat(300_000)]) await refused(nothing);
  });

  it("when the key signed something else, or an unknown form", async () => {
    const signing = await importJWK(key, "ES512");
    const sign = (payload: object, typ: string) =>
      new FlattenedSign(new TextEncoder().encode(JSON.stringify(payload)))
        .setProtectedHeader({ alg: "ES512", kid: key.kid ?? "", typ })
        .sign(signing);
    await refused(JSON.stringify(await sign({ functions: [release] }, "JWT")));
    await refused(JSON.stringify(await sign({ functions: [{ ...release, more: 1 }] }, "rekey-manifest+json")));
    const compact = await new CompactSign(new TextEncoder().encode("{}"))
      .setProtectedHeader({ alg: "ES512", kid: key.kid ?? "" })
      .sign(signing);
    await refused(JSON.stringify(compact));
  });
});
