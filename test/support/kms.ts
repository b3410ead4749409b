import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

interface KmsRequest {
  KeyId: string;
  Plaintext?: string;
  CiphertextBlob?: string;
  EncryptionContext: Record<string, string>;
}

/** Speaks as much of AWS KMS's protocol as a root key needs: Encrypt, Decrypt, and the refusals of each. */
export interface KmsServer extends AsyncDisposable {
  readonly endpoint: string;
  /** Names of the calls that came, in order. */
  readonly calls: string[];
  /** Answers every further call as a disabled key does. */
  disable(): void;
}

class Refusal extends Error {}

export async function startKms(): Promise<KmsServer> {
  const secrets = new Map<string, Buffer>();
  const calls: string[] = [];
  let disabled = false;
  const secretOf = (keyId: string): Buffer => {
    const secret = secrets.get(keyId) ?? randomBytes(32);
    secrets.set(keyId, secret);
    return secret;
  };
  const answer = (call: string, request: KmsRequest): object => {
    if (disabled) throw new Refusal("DisabledException");
    const data = Buffer.from(JSON.stringify(Object.entries(request.EncryptionContext).sort()));
    if (call === "Encrypt") return encrypt(request, secretOf(request.KeyId), data);
    return decrypt(request, secrets, data);
  };
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    const call = String(request.headers["x-amz-target"]).replace("TrentService.", "");
    calls.push(call);
    const { status, reply } = outcome(() => answer(call, JSON.parse(body.toString())));
    response.writeHead(status, { "content-type": "application/x-amz-json-1.1" }).end(JSON.stringify(reply));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    calls,
    disable: () => {
      disabled = true;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function outcome(answer: () => object): { status: number; reply: object } {
  try {
    return { status: 200, reply: answer() };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { status: 400, reply: { __type: error.message, message: "refused" } };
  }
}

/** Blob: length of the key's name (1) | name | nonce (12) | ciphertext | tag (16). */
function encrypt({ KeyId, Plaintext = "" }: KmsRequest, secret: Buffer, data: Buffer): object {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", secret, nonce).setAAD(data);
  const text = Buffer.concat([cipher.update(Plaintext, "base64"), cipher.final()]);
  const name = Buffer.from(KeyId);
  return {
    CiphertextBlob: Buffer.concat([Buffer.of(name.length), name, nonce, text, cipher.getAuthTag()]).toString("base64"),
    KeyId,
  };
}

function decrypt({ KeyId, CiphertextBlob = "" }: KmsRequest, secrets: Map<string, Buffer>, data: Buffer): object {
  const blob = Buffer.from(CiphertextBlob, "base64");
  const textAt = 1 + (blob[0] ?? 0) + 12;
  const name = blob.toString("utf8", 1, textAt - 12);
  const secret = secrets.get(name);
  if (!secret) throw new Refusal("InvalidCiphertextException");
  if (name !== KeyId) throw new Refusal("IncorrectKeyException");
  const decipher = createDecipheriv("aes-256-gcm", secret, blob.subarray(textAt - 12, textAt)).setAAD(data);
  decipher.setAuthTag(blob.subarray(-16));
  try {
    const text = Buffer.concat([decipher.update(blob.subarray(textAt, -16)), decipher.final()]);
    return { Plaintext: text.toString("base64"), KeyId };
  } catch {
    throw new Refusal("InvalidCiphertextException");
  }
}
