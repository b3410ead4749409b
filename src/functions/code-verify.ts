import { lstat } from "node:fs/promises";
import { basename } from "node:path";
import { type Bundle, type BundleFile, CodeRefused, listBundle, pathIn, readRegular, sha256 } from "./code-bundle.ts";
import type { Publisher, Publishers } from "./code-publishers.ts";
import { type CodeStatement, maxSignatureBytes, openSignature } from "./code-signature.ts";

/** Who may sign, and when it is asked. */
export interface Trust {
  readonly publishers: Publishers;
  readonly nowMs: number;
}

/** A signature that holds, and files that are those it names, by name, size and executable bit. Their content is not looked at. */
export interface SignedBundle {
  readonly statement: CodeStatement;
  readonly publisher: Publisher;
  /** Changes with every change of the bundle or its signature. */
  readonly print: string;
}

const signatureSuffix = ".sig";

export async function hasSignature(path: string): Promise<boolean> {
  return (await lstat(`${path}${signatureSuffix}`).catch(() => undefined)) !== undefined;
}

/** @throws CodeRefused for a signature that does not hold here and now, and for files that are not those it names. */
export async function openBundle(bundle: Bundle, trust: Trust): Promise<SignedBundle> {
  if (!(await hasSignature(bundle.path)))
    throw new CodeRefused("it has no signature: rekey function sign makes one, which lies beside it and ends in .sig");
  const text = await readRegular(`${bundle.path}${signatureSuffix}`, maxSignatureBytes);
  const { statement, publisher } = await openSignature(text.toString("latin1"), trust);
  if (statement.name !== basename(bundle.path) || statement.kind !== bundle.kind)
    throw new CodeRefused(`its signature is that of the ${statement.kind} ${JSON.stringify(statement.name)}`);
  const { files, print } = await listBundle(bundle);
  requireSame(files, statement.files);
  return { statement, publisher, print: `${print} ${sha256(text)}` };
}

/** The same with the content of every file. @throws CodeRefused */
export async function verifyBundle(bundle: Bundle, trust: Trust): Promise<SignedBundle> {
  const signed = await openBundle(bundle, trust);
  for (const file of signed.statement.files) await readSigned(bundle, file);
  return signed;
}

/** The bytes that were signed, and no others. @throws CodeRefused */
export async function readSigned(bundle: Bundle, { path, size, sha256: digest }: BundleFile): Promise<Buffer> {
  const bytes = await readRegular(pathIn(bundle, path), size);
  if (sha256(bytes) !== digest) throw new CodeRefused(`${path} is not as it was signed`);
  return bytes;
}

function requireSame(files: readonly Omit<BundleFile, "sha256">[], signed: CodeStatement["files"]): void {
  const expected = new Map(signed.map((file) => [file.path, file]));
  for (const { path, size, executable } of files) {
    const file = expected.get(path);
    if (!file) throw new CodeRefused(`${path} was added after it was signed`);
    if (file.size !== size) throw new CodeRefused(`${path} is not as it was signed`);
    if (file.executable !== executable)
      throw new CodeRefused(`${path} ${executable ? "became" : "is no longer"} executable after it was signed`);
    expected.delete(path);
  }
  const [missing] = expected.keys();
  if (missing !== undefined) throw new CodeRefused(`${missing} was signed, and is missing`);
}
