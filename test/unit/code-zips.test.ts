// Zips of functions, signed or not, as they are and as nobody should make them.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { zipSync } from "fflate";
import { bundleLimits } from "../../src/functions/code-bundle.ts";
import { craftZip } from "../support/craft-zip.ts";
import { appFiles, codeWorld } from "../support/signed-code.ts";

describe("zips", () => {
  const ok = { "index.mjs": Buffer.from(appFiles["index.mjs"]) };
  it("are refused with any byte changed, before they are unpacked", async () => {
    await using here = codeWorld();
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
        await using here = codeWorld({ signing });
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
    await using here = codeWorld({ signing: "off", publishers: undefined });
    here.write("app.zip", zipSync({ ...ok, "lib/": new Uint8Array() }));
    assert.equal(readFileSync((await here.find("app.zip/index.mjs")).path, "utf8"), appFiles["index.mjs"]);
    await assert.rejects(here.find("app.zip/other.mjs"), /other\.mjs is not in its bundle/);
  });
});
