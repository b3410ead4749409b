import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const derive = promisify(pbkdf2);

/** What the server's own default is: PostgreSQL documentation, `scram_iterations`. */
const iterationsOfOurs = 4096;
/** Hundreds of thousands are good advice for slow hashes; a server that asks for more than this keeps us busy on purpose. */
const mostIterations = 2_000_000;

/** What a password becomes under one salt: as good as the password itself at a server that has this salt. */
export interface ScramKeys {
  /** Base64. */
  readonly salt: string;
  readonly iterations: number;
  readonly clientKey: Uint8Array;
  readonly serverKey: Uint8Array;
}

/** Source: RFC 5802 section 3, RFC 7677. */
export async function scramKeys(
  password: string,
  salt: Uint8Array = randomBytes(16),
  iterations = iterationsOfOurs,
): Promise<ScramKeys> {
  const salted = await derive(prepared(password), salt, iterations, 32, "sha256");
  const clientKey = hmac(salted, "Client Key");
  return { salt: Buffer.from(salt).toString("base64"), iterations, clientKey, serverKey: hmac(salted, "Server Key") };
}

/**
 * What PostgreSQL stores for a password, `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, so that a server
 * never sees the password itself. Source: RFC 5802 section 3, RFC 7677; PostgreSQL documentation, `pg_authid`.
 */
export async function scramVerifier(password: string, salt?: Uint8Array): Promise<string> {
  return verifierOf(await scramKeys(password, salt));
}

/** As `scramVerifier`, of keys that were made before. */
export function verifierOf({ salt, iterations, clientKey, serverKey }: ScramKeys): string {
  const storedKey = sha256(clientKey).toString("base64");
  return `SCRAM-SHA-256$${iterations}:${salt}$${storedKey}:${Buffer.from(serverKey).toString("base64")}`;
}

/**
 * One login of a client: it proves a password, and has the server prove that it knows it too. Without channel binding, and with
 * no name, as PostgreSQL takes that from the startup message. Source: RFC 5802 sections 5 and 7.
 */
export class ScramLogin {
  /** The client's first message. */
  readonly first: string;
  readonly #password: string;
  readonly #known: ScramKeys | undefined;
  readonly #nonce: string;
  #serverSignature: Buffer | undefined;

  /** `known`: keys of the password, which are not made again where the server asks for their salt. */
  constructor(password: string, known?: ScramKeys, nonce: string = randomBytes(18).toString("base64")) {
    this.#password = password;
    this.#known = known;
    this.#nonce = nonce;
    this.first = `n,,n=*,r=${nonce}`;
  }

  /** The client's last message. @throws Error whose text begins with SASL, for a server that does not keep to the rules */
  async answer(serverFirst: string): Promise<string> {
    const [, nonce = "", salt = "", count = ""] =
      /^r=([!-+\--~]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9]\d{0,9})$/.exec(serverFirst) ?? [];
    const iterations = Number(count);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length)
      throw new Error("SASL: the server's nonce is wrong");
    if (iterations > mostIterations) throw new Error("SASL: the server asks for too many iterations");
    const isKnown = this.#known?.salt === salt && this.#known.iterations === iterations;
    const keys = isKnown ? this.#known : await scramKeys(this.#password, Buffer.from(salt, "base64"), iterations);
    const last = `c=biws,r=${nonce}`;
    const exchange = `n=*,r=${this.#nonce},${serverFirst},${last}`;
    this.#serverSignature = hmac(keys.serverKey, exchange);
    return `${last},p=${xor(keys.clientKey, hmac(sha256(keys.clientKey), exchange)).toString("base64")}`;
  }

  /** Looks at the server's last message. @throws Error likewise, when the server does not know the password */
  accept(serverFinal: string): void {
    const [, said = ""] = /^v=([A-Za-z0-9+/]+={0,2})$/.exec(serverFinal) ?? [];
    const [signature, due] = [Buffer.from(said, "base64"), this.#serverSignature];
    if (!due || signature.length !== due.length || !timingSafeEqual(signature, due))
      throw new Error("SASL: the server has not proven that it knows the password");
  }
}

const hmac = (key: Uint8Array, text: string): Buffer => createHmac("sha256", key).update(text).digest();
const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
const xor = (one: Uint8Array, other: Uint8Array): Buffer => Buffer.from(one.map((byte, at) => byte ^ (other[at] ?? 0)));

/** The parts of SASLprep that change bytes; printable ASCII stays as it is. Source: RFC 4013 section 2. */
function prepared(password: string): string {
  return password
    .replace(/[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu, " ")
    .replace(/\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/gu, "")
    .normalize("NFKC");
}
