// How the wire fake checks passwords: as MySQL's two plugins do, from what they store.
import {
  constants,
  createHash,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import { authSwitchPacket, type Packets } from "./mysql-wire-packets.ts";

export type Plugin = "caching_sha2_password" | "mysql_native_password";

/** What is kept of a password: enough to check it, not to know it. */
export interface Stored {
  readonly plugin: Plugin;
  readonly salt: Buffer;
  readonly digest: Buffer;
}

const hash = (name: string, ...parts: Uint8Array[]) => {
  const made = createHash(name);
  for (const part of parts) made.update(part);
  return made.digest();
};

const xor = (a: Uint8Array, b: Uint8Array) => Buffer.from(a.map((byte, index) => byte ^ (b[index % b.length] ?? 0)));

export function store(plugin: Plugin, password: string): Stored {
  const bytes = Buffer.from(password);
  const salt = randomBytes(20);
  const native = () => hash("sha1", hash("sha1", bytes));
  return { plugin, salt, digest: plugin === "mysql_native_password" ? native() : hash("sha256", salt, bytes) };
}

export function isPassword({ plugin, salt, digest }: Stored, password: string): boolean {
  const bytes = Buffer.from(password);
  const given = plugin === "mysql_native_password" ? hash("sha1", hash("sha1", bytes)) : hash("sha256", salt, bytes);
  return timingSafeEqual(given, digest);
}

/** The account's stored passwords, and what fast logins know of them. */
export interface Checked {
  readonly plugin: Plugin;
  readonly stored: readonly Stored[];
  /** SHA-256 of SHA-256 of passwords that logged in once. */
  readonly known: Buffer[];
}

let keys: { publicKey: KeyObject; privateKey: KeyObject } | undefined;

/**
 * Has the client prove a password by the account's plugin. `answer` to `scramble` may be of another plugin, then it is asked again.
 * The password itself is taken over TLS, or encrypted under the server's key.
 */
export async function prove(packets: Packets, account: Checked): Promise<boolean> {
  const scramble = hash("sha256", randomBytes(20))
    .subarray(0, 20)
    .map((byte) => (byte % 94) + 33); // no NUL, as MySQL's
  packets.write(authSwitchPacket(account.plugin, scramble));
  const answer = await packets.read();
  if (account.plugin === "mysql_native_password") return isNativeAnswer(account.stored, scramble, answer);
  return proveSha2(packets, account, scramble, answer);
}

function isNativeAnswer(stored: readonly Stored[], scramble: Uint8Array, answer: Buffer): boolean {
  if (answer.length !== 20) return false;
  return stored.some(({ digest }) => hash("sha1", xor(answer, hash("sha1", scramble, digest))).equals(digest));
}

async function proveSha2(packets: Packets, account: Checked, scramble: Uint8Array, answer: Buffer): Promise<boolean> {
  const isKnown = (twice: Buffer) => hash("sha256", xor(answer, hash("sha256", twice, scramble))).equals(twice);
  if (answer.length === 32 && account.known.some(isKnown)) {
    packets.write(Buffer.from([1, 3]));
    return true;
  }
  packets.write(Buffer.from([1, 4]));
  const password = packets.isSecure ? await packets.read() : await decrypted(packets, scramble);
  const text = password.subarray(0, -1).toString();
  if (!account.stored.some((one) => isPassword(one, text))) return false;
  account.known.push(hash("sha256", hash("sha256", Buffer.from(text))));
  return true;
}

async function decrypted(packets: Packets, scramble: Uint8Array): Promise<Buffer> {
  const asked = await packets.read();
  if (asked.length !== 1 || asked[0] !== 2) return Buffer.alloc(1); // a password in clear without TLS is none
  keys ??= generateKeyPairSync("rsa", { modulusLength: 2048 });
  packets.write(Buffer.concat([Buffer.from([1]), Buffer.from(keys.publicKey.export({ type: "spki", format: "pem" }))]));
  const sealed = await packets.read();
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return xor(privateDecrypt({ key: keys.privateKey, padding, oaepHash: "sha1" }, sealed), scramble);
}
