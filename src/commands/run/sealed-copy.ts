import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { promisify } from "node:util";

/** What is kept of a config for when no server answers. Leased credentials are never in it: they are dead by then. */
export interface OfflineCopy {
  readonly values: Readonly<Record<string, string>>;
  /** Names whose values were leased, and so are missing. */
  readonly leasedNames: readonly string[];
  /** Of the values; absent when the server gave none. */
  readonly etag?: string;
  /** When the server last said that this holds; epoch milliseconds. */
  readonly confirmedAt: number;
  /** Of which config, as the server names it. */
  readonly project?: string;
  readonly config?: string;
}

const format = "rekey-offline-1";
const saltBytes = 16;
const ivBytes = 12;
const tagBytes = 16;
/** 32 MiB and some hundredths of a second; a token's 40 random characters are what really guards the file. */
const cost = { N: 32_768, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };

const derive = promisify<string, Buffer, number, typeof cost, Buffer>(scrypt);

/**
 * Seals and opens offline copies under a token: AES-256-GCM, key by scrypt. The key of a salt is derived once in a process's
 * life, and a copy that replaces another one keeps its salt.
 */
export class CopySealer {
  readonly #token: string;
  #known: { readonly salt: Buffer; readonly key: Promise<Buffer> } | undefined;

  constructor(token: string) {
    this.#token = token;
  }

  /** The text of a file. */
  async seal(copy: OfflineCopy): Promise<string> {
    const { salt, key } = this.#known ?? this.#keyOf(randomBytes(saltBytes));
    const iv = randomBytes(ivBytes);
    const cipher = createCipheriv("aes-256-gcm", await key, iv).setAAD(Buffer.from(format));
    const sealed = Buffer.concat([salt, iv, cipher.update(JSON.stringify(copy), "utf8"), cipher.final(), cipher.getAuthTag()]);
    return `${format}\n${sealed.toString("base64")}\n`;
  }

  /** `undefined` when the text is no such file, was changed, or was sealed under another token. */
  async open(text: string): Promise<OfflineCopy | undefined> {
    const [first, encoded = ""] = text.split("\n");
    const sealed = Buffer.from(encoded, "base64");
    if (first !== format || sealed.length < saltBytes + ivBytes + tagBytes) return undefined;
    const salt = sealed.subarray(0, saltBytes);
    const key = await this.#keyOf(salt).key;
    const iv = sealed.subarray(saltBytes, saltBytes + ivBytes);
    try {
      const decipher = createDecipheriv("aes-256-gcm", key, iv)
        .setAAD(Buffer.from(format))
        .setAuthTag(sealed.subarray(-tagBytes));
      const opened = Buffer.concat([decipher.update(sealed.subarray(saltBytes + ivBytes, -tagBytes)), decipher.final()]);
      return JSON.parse(opened.toString("utf8"));
    } catch (error) {
      if (error instanceof Error) return undefined; // what GCM does not vouch for is nothing
      throw error;
    }
  }

  #keyOf(salt: Buffer): { readonly salt: Buffer; readonly key: Promise<Buffer> } {
    if (!this.#known?.salt.equals(salt)) this.#known = { salt, key: derive(this.#token, salt, 32, cost) };
    return this.#known;
  }
}
