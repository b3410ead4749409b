import { createHmac, createSecretKey, hkdfSync, type KeyObject, randomBytes } from "node:crypto";
import { link, open, readdir, stat, unlink } from "node:fs/promises";
import { dirname, join, parse, resolve } from "node:path";
import { ConfigError, ServiceError } from "../core/error.ts";
import { additionalData, type EncryptionContext, keyBytes, keyFrom, openBytes, sealBytes } from "./aead.ts";
import { decryptionFailureText } from "./failure-texts.ts";
import type { OpenRootKeyOptions, RootKeyProvider } from "./key-provider.ts";

/** Wrapped bytes: format (1) | fingerprint of the root key (8) | nonce (12) | ciphertext | tag (16). */
const format = 1;
const fingerprintBytes = 8;
const headerBytes = 1 + fingerprintBytes;

/**
 * A root key in a file of base64 text that only its owner may read.
 * @throws ConfigError when the file is missing (and not to be created), not 32 bytes, or open to group or others.
 */
export async function openFileKey(path: string, { create }: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const name = `file:${path}`;
  const found = await readKeyFile(path);
  if (found !== undefined && create) await removeDrafts(path);
  const text = found ?? (create ? await createKeyFile(path) : undefined);
  if (text === undefined)
    throw new ConfigError([`The root key file ${path} does not exist. Put it back, or name the right one.`]);
  return localKey(name, text);
}

/**
 * A root key in an environment variable, as base64 text.
 * @throws ConfigError when the variable is not set or not 32 bytes.
 */
export async function openEnvKey(variable: string, { env }: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const text = env[variable];
  if (text === undefined) throw new ConfigError([`The root key is to come from ${variable}, which is not set.`]);
  return localKey(`env:${variable}`, text);
}

function localKey(name: string, text: string): RootKeyProvider {
  const trimmed = text.trim();
  if (!/^[A-Za-z0-9+/]{43}=$/.test(trimmed))
    throw new ConfigError([`The root key in ${name} must be ${keyBytes} bytes as base64 text.`]);
  const root = keyFrom(Buffer.from(trimmed, "base64"));
  const wrapping = subkey(root, "rekey root wrapping 1");
  const fingerprint = createHmac("sha256", root).update("rekey root fingerprint 1").digest().subarray(0, fingerprintBytes);
  const header = Buffer.concat([Buffer.of(format), fingerprint]);
  return {
    name,
    wrap: async (key, context) => sealBytes(wrapping, key, wrapData(context), header),
    async unwrap(wrapped, context) {
      if (!header.equals(wrapped.subarray(0, headerBytes))) return undefined;
      const key = openBytes(wrapping, wrapped, wrapData(context), headerBytes);
      if (key) return key;
      throw new ServiceError("DecryptionFailure", decryptionFailureText, {
        cause: new Error(`bytes wrapped by the root key ${name} are damaged or belong to another row`),
      });
    },
  };
}

function wrapData(context: EncryptionContext): Buffer {
  return additionalData("rekey root wrap 1", context);
}

function subkey(root: KeyObject, purpose: string): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync("sha256", root, "", purpose, keyBytes)));
}

async function readKeyFile(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, "r");
    // Asked of the open file: the path could be exchanged in between.
    const { mode } = await file.stat();
    if ((mode & 0o077) === 0) return await file.readFile("utf8");
    const shown = (mode & 0o777).toString(8).padStart(4, "0");
    throw new ConfigError([`The root key file ${path} has mode ${shown}; others could use it. Run: chmod 600 ${path}`]);
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined) throw error;
    if (code === "ENOENT") return undefined;
    throw new ConfigError([`The root key file ${path} cannot be read (${code}).`]);
  }
}

/** Written beside its place, flushed, then linked: the path never holds half a key, and an existing file always stays. */
async function createKeyFile(path: string): Promise<string> {
  const text = `${randomBytes(keyBytes).toString("base64")}\n`;
  const folder = dirname(resolve(path));
  const draft = `${resolve(path)}.${randomBytes(6).toString("hex")}.new`;
  try {
    await writeFlushed(draft, text);
    const linked = await linkIfFree(draft, path).finally(() => unlink(draft));
    await flushFolder(folder);
    if (linked) return text;
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined) throw error;
    throw new ConfigError([`The root key file ${path} cannot be made (${code}).`]);
  }
  const existing = await readKeyFile(path);
  if (existing === undefined) throw new ConfigError([`The root key file ${path} vanished while it was opened.`]);
  return existing;
}

/** Other names of the key's file: left by a process that ended between giving it its name and taking its draft's away. */
async function removeDrafts(path: string): Promise<void> {
  const key = await stat(path);
  const { dir, base } = parse(resolve(path));
  for (const name of await readdir(dir)) {
    if (!name.startsWith(`${base}.`) || !/^[0-9a-f]{12}\.new$/.test(name.slice(base.length + 1))) continue;
    const draft = join(dir, name);
    const { ino, dev } = await stat(draft);
    if (ino === key.ino && dev === key.dev) await unlink(draft);
  }
}

async function writeFlushed(path: string, text: string): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await file.writeFile(text);
  await file.sync();
}

async function linkIfFree(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}

async function flushFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
