import type { KeyObject } from "node:crypto";
import { basename } from "node:path";
import { CompactSign, compactVerify, decodeProtectedHeader } from "jose";
import { z } from "zod";
import { type Bundle, bundleLimits, CodeRefused, describeBundle, pathsProblem } from "./code-bundle.ts";
import { algorithmOf, type Publisher, type Publishers, thumbprintOf } from "./code-publishers.ts";

/** Keeps a signature of code from being taken for another one by the same key, and the other way round. */
const signatureType = "rekey-code+jws";
/** Between the clocks of who signs and who checks. */
const clockSeconds = 300;
export const maxSignatureBytes = 8 * 1024 * 1024;

const statement = z.strictObject({
  version: z.literal(1),
  /** Of the file or folder itself: a signed one does not run in another's place. */
  name: z.string().min(1).max(255),
  kind: z.enum(["file", "folder"]),
  files: z
    .array(
      z.strictObject({
        path: z.string().min(1).max(bundleLimits.pathChars),
        sha256: z.string().regex(/^[\w-]{43}$/),
        size: z.number().int().min(0).max(bundleLimits.bytes),
        executable: z.boolean(),
      }),
    )
    .min(1)
    .max(bundleLimits.files),
  iat: z.number().int().positive(),
  exp: z.number().int().positive(),
});

/** What a publisher says of a bundle: every file of it, and from when until when (Unix seconds) it may run. */
export type CodeStatement = z.infer<typeof statement>;

/**
 * The signature of a bundle as it lies there now: a compact JWS (RFC 7515) over all its paths, sizes, digests and executable
 * bits, by Ed25519 or ES512.
 * @throws CodeRefused for what no bundle may hold, and for keys of other kinds.
 */
export async function signCode(bundle: Bundle, key: KeyObject, publicKey: KeyObject, times: { iat: number; exp: number }) {
  const algorithm = algorithmOf(key);
  if (!algorithm) throw new CodeRefused("code is signed with a key of Ed25519 or P-521");
  const files = await describeBundle(bundle);
  if (files.length === 0) throw new CodeRefused("there is no file in it");
  const said: CodeStatement = { version: 1, name: basename(bundle.path), kind: bundle.kind, files, ...times };
  const header = { alg: algorithm, kid: await thumbprintOf(publicKey), typ: signatureType };
  const payload = new TextEncoder().encode(JSON.stringify(said));
  return { text: await new CompactSign(payload).setProtectedHeader(header).sign(key), statement: said };
}

/** What the text says, by whom. @throws CodeRefused for all but a trusted publisher's signature that is valid now. */
export async function openSignature(
  text: string,
  { publishers, nowMs }: { readonly publishers: Publishers; readonly nowMs: number },
): Promise<{ readonly statement: CodeStatement; readonly publisher: Publisher }> {
  const publisher = publishers.get(keyIdIn(text));
  if (!publisher) throw new CodeRefused("its publisher is unknown: no trusted key has the id that its signature names");
  const said = statementIn(await verified(text.trim(), publisher));
  const problem = pathsProblem(said.files.map(({ path }) => path));
  if (problem !== undefined) throw new CodeRefused(`its signature names what no bundle may hold: ${problem}`);
  const seconds = nowMs / 1000;
  if (said.iat > seconds + clockSeconds)
    throw new CodeRefused(`its signature by ${publisher.name} is of the future: ${date(said.iat)}`);
  if (said.exp <= seconds)
    throw new CodeRefused(`its signature by ${publisher.name} expired at ${date(said.exp)}: let them sign it again`);
  return { statement: said, publisher };
}

function keyIdIn(text: string): string {
  try {
    return String(decodeProtectedHeader(text.trim()).kid);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CodeRefused("its signature is no compact JWS", { cause: error });
  }
}

async function verified(text: string, { key, algorithm, name }: Publisher): Promise<Uint8Array> {
  const { payload, protectedHeader } = await compactVerify(text, key, { algorithms: [algorithm] }).catch((cause: unknown) => {
    throw new CodeRefused(`its signature is not that of ${name}: it was changed, or made by another key`, { cause });
  });
  if (protectedHeader.typ !== signatureType) throw new CodeRefused(`${name} signed something else than code with this`);
  return payload;
}

function statementIn(payload: Uint8Array): CodeStatement {
  try {
    return statement.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)));
  } catch (cause) {
    throw new CodeRefused("its signature is of a form that this version does not know", { cause });
  }
}

function date(seconds: number): string {
  return Number.isFinite(new Date(seconds * 1000).getTime()) ? new Date(seconds * 1000).toISOString() : `${seconds} s`;
}
