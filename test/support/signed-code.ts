// Folders of functions with publishers, and code that they sign.
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import type { ProcessSettings } from "../../src/core/function.ts";
import { type Bundle, CodeRefused } from "../../src/functions/code-bundle.ts";
import { signCode } from "../../src/functions/code-signature.ts";
import { ProgramCode, type ProgramCodeParts } from "../../src/functions/program-code.ts";

export const codeHome = mkdtempSync(join(tmpdir(), "rekey-signing-"));
after(() => rmSync(codeHome, { recursive: true, force: true }));
let made = 0;

export const team = generateKeyPairSync("ed25519");
export const other = generateKeyPairSync("ec", { namedCurve: "secp521r1" });
export const stranger = generateKeyPairSync("ed25519");
export const pem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
export const daySeconds = 86_400;
const startAt = 1_900_000_000_000;

/** A functions folder of its own, with publishers and a clock to set. */
export function codeWorld(parts: Partial<ProgramCodeParts> = {}) {
  made += 1;
  const base = join(codeHome, `w${made}`);
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

export const appFiles = {
  "index.mjs": "export const handler = () => 1",
  "lib/part.mjs": "export const part = 1",
  "tool.sh": "#!/bin/sh\n",
};
export async function signedApp() {
  const here = codeWorld();
  for (const [file, text] of Object.entries(appFiles)) here.write(`app/${file}`, text, file.endsWith(".sh") ? 0o755 : 0o644);
  await here.sign("app");
  return here;
}
