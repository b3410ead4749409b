import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { JWK } from "jose";
import { newPrivateJwk, readPrivateJwk } from "../../src/crypto/message-keys.ts";

/** The private key that signs manifests, from a JSON file; made and written (0600) where there is none. */
export async function releaseKey(file: string): Promise<{ key: JWK; isNew: boolean }> {
  if (existsSync(file)) {
    const key = await readPrivateJwk(JSON.parse(readFileSync(file, "utf8")), "sig");
    if (!key) throw new Error(`${file} holds no private key of P-521 as a JWK`);
    return { key, isNew: false };
  }
  const key = await newPrivateJwk("sig");
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(key)}\n`, { mode: 0o600, flag: "wx" });
  return { key, isNew: true };
}
