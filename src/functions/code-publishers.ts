import { createPublicKey, type JsonWebKey, type KeyObject } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { calculateJwkThumbprint, type JWK } from "jose";
import { ConfigError } from "../core/error.ts";

/** Whose code may run. */
export interface Publisher {
  readonly name: string;
  readonly key: KeyObject;
  readonly algorithm: CodeAlgorithm;
}

/** Source: RFC 7518 section 3.4; RFC 9864 section 2.2. */
export type CodeAlgorithm = "ES512" | "Ed25519";

/** By the thumbprint of their keys (RFC 7638, SHA-256). */
export type Publishers = ReadonlyMap<string, Publisher>;

const mostBytes = 1024 * 1024;
const extensions = [".pem", ".json", ".jwk", ".jwks"];

/**
 * The keys in a file, or in all `.pem`, `.json`, `.jwk` and `.jwks` files of a folder: PEM, whose file's name is the
 * publisher's, or JWK and JWK sets, whose keys may have a `name`.
 * @throws ConfigError naming the file, when one cannot be read, is no list of public keys, or may be written by everybody.
 */
export async function readPublishers(path: string): Promise<Publishers> {
  const publishers = new Map<string, Publisher>();
  for (const file of await filesOf(path))
    for (const [name, key] of keysIn(file, await textOf(file))) {
      const algorithm = algorithmOf(key);
      if (!algorithm) throw problem(`${file}: ${name} is no key of Ed25519 or P-521`);
      publishers.set(await thumbprintOf(key), { name, key, algorithm });
    }
  if (publishers.size === 0) throw problem(`${path} holds no key: rekey function new-publisher-key makes one`);
  return publishers;
}

/** `undefined` for keys that no code is signed with. */
export function algorithmOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): CodeAlgorithm | undefined {
  if (asymmetricKeyType === "ed25519") return "Ed25519";
  return asymmetricKeyType === "ec" && asymmetricKeyDetails?.namedCurve === "secp521r1" ? "ES512" : undefined;
}

export function thumbprintOf(key: KeyObject): Promise<string> {
  return calculateJwkThumbprint(key.export({ format: "jwk" }) as JWK);
}

async function filesOf(path: string): Promise<string[]> {
  await requireOwn(path);
  if (!(await stat(path)).isDirectory()) return [path];
  const names = (await readdir(path)).filter((name) => extensions.includes(extname(name)));
  return names.sort().map((name) => join(path, name));
}

async function textOf(file: string): Promise<string> {
  const { size } = await requireOwn(file);
  if (size > mostBytes) throw problem(`${file} has more than ${mostBytes} bytes`);
  return readFile(file, "utf8");
}

async function requireOwn(path: string): Promise<{ size: number }> {
  const found = await stat(path).catch((cause: Error) => {
    throw problem(`${path} cannot be read (${"code" in cause ? cause.code : "unreadable"})`);
  });
  if ((found.mode & 0o002) !== 0) throw problem(`${path} may be written by every user of the machine: chmod o-w ${path}`);
  return found;
}

function keysIn(file: string, text: string): [string, KeyObject][] {
  const name = basename(file, extname(file));
  if (/PRIVATE KEY-----/.test(text)) throw isPrivate(file);
  try {
    if (text.includes("-----BEGIN")) return [[name, createPublicKey(text)]];
    const json: unknown = JSON.parse(text);
    const all = isObject(json) && Array.isArray(json.keys) ? json.keys : [json];
    return all.map((jwk: unknown) => {
      if (!isObject(jwk)) throw new TypeError("a key is an object");
      if ("d" in jwk || "k" in jwk) throw isPrivate(file);
      return [typeof jwk.name === "string" ? jwk.name : name, createPublicKey({ key: jwk as JsonWebKey, format: "jwk" })];
    });
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw problem(`${file} is neither a public key in PEM nor a JWK or JWK set`);
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null;

function isPrivate(file: string): ConfigError {
  return problem(`${file} holds a private key, which whoever checks code must not have: give the public one`);
}

function problem(says: string): ConfigError {
  return new ConfigError([`The list of code publishers cannot be used: ${says}.`]);
}
