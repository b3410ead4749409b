import { createHash, createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject, randomBytes } from "node:crypto";

/** The types that are written here, as in authorized_keys. */
type SshType = "ssh-ed25519" | "ssh-rsa";

const magic = "openssh-key-v1\0";
const [begin, end] = ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"];
const lineLength = 70;
/** Of the cipher `none`: what the private part is padded to. */
const blockBytes = 8;

/** The key as it stands on the wire. Source: RFC 4253, section 6.6; RFC 8709, section 4. */
function publicBlob(key: KeyObject): Buffer {
  const { kty, x, n, e } = createPublicKey(key).export({ format: "jwk" });
  if (kty === "OKP") return Buffer.concat([text("ssh-ed25519"), text(bytesOf(x))]);
  return Buffer.concat([text("ssh-rsa"), number(e), number(n)]);
}

/** A line of authorized_keys. `comment`: without line breaks. */
export function sshPublicKey(key: KeyObject, comment: string): string {
  const type: SshType = key.asymmetricKeyType === "ed25519" ? "ssh-ed25519" : "ssh-rsa";
  return [type, publicBlob(key).toString("base64"), ...(comment === "" ? [] : [comment])].join(" ");
}

/** As `ssh-keygen -l` shows it: `SHA256:` and 43 characters. */
export function sshFingerprint(key: KeyObject): string {
  return `SHA256:${createHash("sha256").update(publicBlob(key)).digest("base64").replace(/=+$/, "")}`;
}

/** A private key file without passphrase. Source: OpenSSH, PROTOCOL.key. */
export function sshPrivateKey(key: KeyObject, comment: string): string {
  const { kty, x, d, n, e, p, q, qi } = key.export({ format: "jwk" });
  const fields =
    kty === "OKP"
      ? [text("ssh-ed25519"), text(bytesOf(x)), text(Buffer.concat([bytesOf(d), bytesOf(x)]))]
      : [text("ssh-rsa"), ...[n, e, d, qi, p, q].map(number)];
  const check = randomBytes(4); // twice the same: shows that a passphrase was right
  const secret = Buffer.concat([check, check, ...fields, text(comment)]);
  const padding = Buffer.from(
    Array.from({ length: (blockBytes - (secret.length % blockBytes)) % blockBytes }, (_, index) => index + 1),
  );
  const file = Buffer.concat([
    Buffer.from(magic),
    text("none"), // cipher
    text("none"), // how a passphrase makes its key
    text(""),
    uint32(1),
    text(publicBlob(key)),
    text(Buffer.concat([secret, padding])),
  ]);
  const lines = file.toString("base64").match(new RegExp(`.{1,${lineLength}}`, "g")) ?? [];
  return `${[begin, ...lines, end].join("\n")}\n`;
}

/** The key of such a file. @throws Error when it is no private key without passphrase of one of the two types */
export function readSshPrivateKey(file: string): KeyObject {
  const body = file.trim();
  if (!body.startsWith(begin) || !body.endsWith(end)) throw new Error("no OpenSSH private key");
  const outer = new Reader(Buffer.from(body.slice(begin.length, -end.length), "base64"));
  if (outer.take(magic.length).toString() !== magic) throw new Error("no OpenSSH private key");
  if (outer.text().toString() !== "none") throw new Error("the key has a passphrase");
  outer.text();
  outer.text();
  if (outer.uint32() !== 1) throw new Error("more than one key");
  outer.text();
  const inner = new Reader(outer.text());
  const check = inner.uint32();
  if (inner.uint32() !== check) throw new Error("the key is damaged");
  const type = inner.text().toString();
  if (type === "ssh-ed25519") return fromEd25519(inner);
  if (type === "ssh-rsa") return fromRsa(inner);
  throw new Error("another type of key");
}

function fromEd25519(fields: Reader): KeyObject {
  const x = fields.text();
  const d = fields.text().subarray(0, 32);
  return privateKey({ kty: "OKP", crv: "Ed25519", x: x.toString("base64url"), d: d.toString("base64url") });
}

function fromRsa(fields: Reader): KeyObject {
  const [n = 0n, e = 0n, d = 0n, qi = 0n, p = 0n, q = 0n] = Array.from({ length: 6 }, () => integer(fields.text()));
  const parts = { n, e, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qi };
  return privateKey({
    kty: "RSA",
    ...Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, base64url(value)])),
  });
}

const privateKey = (key: JsonWebKey): KeyObject => createPrivateKey({ key, format: "jwk" });

const bytesOf = (value: string | undefined): Buffer => Buffer.from(value ?? "", "base64url");
const integer = (bytes: Buffer): bigint => BigInt(`0x0${bytes.toString("hex")}`);

function base64url(value: bigint): string {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex").toString("base64url");
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function text(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string); // a copy of a buffer, the UTF-8 of a text
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** A positive number: its first bit would be read as a sign. */
function number(value: string | undefined): Buffer {
  const bytes = bytesOf(value);
  return text((bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes);
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new Error("the key is cut short");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  uint32(): number {
    return this.take(4).readUInt32BE();
  }

  text(): Buffer {
    return this.take(this.uint32());
  }
}
