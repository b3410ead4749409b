import { type CryptoKey, FlattenedSign, flattenedVerify, type JWK } from "jose";
import { z } from "zod";
import { ConfigError } from "../core/error.ts";
import { imported, importSigningKey, publicJwk } from "../crypto/message-keys.ts";

/** Runtimes of AWS Lambda that the zips run on. */
export const lambdaRuntimes = ["nodejs20.x", "nodejs22.x", "nodejs24.x"] as const;

const digest = z.string().regex(/^[A-Za-z0-9+/]{43}=$/);
const release = z.strictObject({
  /** `rekey-postgres`: its zip is `rekey-postgres.zip` beside the manifest. */
  id: z.string().regex(/^rekey-[a-z-]{1,40}$/),
  kind: z.string().regex(/^[a-z-]{1,40}$/),
  version: z.string().regex(/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/),
  releasedAt: z.iso.datetime(),
  /** Of the zip, base64: AWS Lambda's CodeSha256. */
  sha256: digest,
  /** What the function's `status` tells as its build: SHA-256 of `app.js`, base64url. */
  build: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  bytes: z.int().min(1),
  runtimes: z.array(z.string().regex(/^nodejs\d+\.x$/)).min(1),
  handler: z.string().min(1),
  protocol: z.int().min(1),
});
const manifest = z.strictObject({ functions: z.array(release).max(100) });
const header = { alg: "ES512", typ: "rekey-manifest+json" } as const;
const maxChars = 256 * 1024;

/** One function's code as it was released. */
export type LambdaRelease = z.infer<typeof release>;

/** JSON: a flattened JWS. `key`: private, P-521, with `kid`. Source: RFC 7515 section 7.2.2. */
export async function writeLambdaManifest(functions: readonly LambdaRelease[], key: JWK): Promise<string> {
  const { kid, key: signing } = await importSigningKey(key);
  const payload = new TextEncoder().encode(JSON.stringify({ functions }));
  const signed = await new FlattenedSign(payload).setProtectedHeader({ ...header, kid }).sign(signing);
  return `${JSON.stringify(signed, null, 2)}\n`;
}

/**
 * What a manifest releases, once one of the given public keys has signed it.
 * @throws ConfigError: not signed by any of them, changed, or not a manifest
 */
export async function readLambdaManifest(text: string, releaseKeys: readonly JWK[]): Promise<readonly LambdaRelease[]> {
  if (text.length > maxChars) throw refused("it is longer than 256 KiB");
  const { payload } = await verified(text, releaseKeys);
  const parsed = manifest.safeParse(JSON.parse(new TextDecoder().decode(payload)));
  if (!parsed.success) throw refused("it is signed, but not of a form that this version of Rekey knows: update Rekey");
  return parsed.data.functions;
}

async function verified(text: string, releaseKeys: readonly JWK[]) {
  try {
    return await flattenedVerify(
      JSON.parse(text),
      async (protectedHeader?: { kid?: string; typ?: string }): Promise<CryptoKey> => {
        const key = releaseKeys.find(({ kid }) => kid !== undefined && kid === protectedHeader?.kid);
        if (!key || protectedHeader?.typ !== header.typ) throw new Error("of another key, or another thing");
        return imported(publicJwk(key), "sig");
      },
      { algorithms: [header.alg] },
    );
  } catch (error) {
    throw refused("none of the release keys that this server trusts has signed it as it stands", error);
  }
}

function refused(why: string, cause?: unknown): ConfigError {
  return Object.assign(new ConfigError([`the manifest of functions is refused: ${why}`]), { cause });
}
