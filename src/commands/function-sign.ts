import { createPrivateKey, createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from "node:crypto";
import { lstatSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { Command } from "commander";
import { ConfigError, RotatorError } from "../core/error.ts";
import type { Bundle, BundleFile } from "../functions/code-bundle.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { printJson, printLine } from "./output.ts";
import { isAbsent, readPrivateFile, writePrivateFile } from "./private-file.ts";
import { numberOf } from "./typed-values.ts";

const daySeconds = 86_400;
const days = { least: 1, most: 3_650, usual: 365 };
const publisherName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** `rekey function sign`, `verify` and `new-publisher-key`: they ask no server. */
export function addFunctionSigning(noun: Command): void {
  noun
    .command("new-publisher-key <name>")
    .description("Make a key to sign the code of functions with: NAME.key, to be kept, and NAME.pem, for servers")
    .option("--out <folder>", "where to write them", ".")
    .option("--json", "print what was written as JSON")
    .addHelpText("after", exampleText(["rekey function new-publisher-key platform-team --out /etc/rekey"]))
    .action((name: string, { out, json }: { out: string; json?: boolean }) => {
      const files = writeKeyPair(name, out);
      if (json === true) printJson({ name, ...files });
      else
        printLine(
          `${files.privateKey} signs code: keep it where only ${name} gets at it\n${files.publicKey} is for --code-publishers`,
        );
    });
  noun
    .command("sign <path>")
    .description("Sign the code of a function: a folder, a zip, or a file that needs no other")
    .requiredOption("--key <file>", "private key of Ed25519 or P-521, in PEM or as a JWK, readable by you alone")
    .option("--expires <days>", `how long it may run, ${days.least} to ${days.most} days`, String(days.usual))
    .option("--json", "print the signature's content as JSON")
    .addHelpText(
      "after",
      "\nThe signature is written beside it, as PATH.sig. Every file of a folder is signed, packages with it.",
    )
    .addHelpText("after", exampleText(["rekey function sign rotate-app --key platform-team.key --expires 90"]))
    .action((path: string, { key, expires, json }: { key: string; expires: string; json?: boolean }) =>
      clean(() => sign(path, key, expires, json === true)),
    );
  noun
    .command("verify <path>")
    .description("Check the code of a function against its signature, as a server does")
    .requiredOption("--publishers <path>", "public keys of those whose code may run: a file or a folder")
    .option("--json", "print the signature's content as JSON")
    .addHelpText("after", exampleText(["rekey function verify rotate-app --publishers /etc/rekey/publishers"]))
    .action((path: string, { publishers, json }: { publishers: string; json?: boolean }) =>
      clean(() => verify(path, publishers, json === true)),
    );
}

async function sign(path: string, keyFile: string, expires: string, json: boolean): Promise<void> {
  const { signCode } = await import("../functions/code-signature.ts");
  const validDays = numberOf(expires, "--expires") ?? days.usual;
  if (validDays < days.least || validDays > days.most)
    throw new CommandError(2, `--expires must be from ${days.least} to ${days.most} days`);
  const bundle = bundleAt(path);
  const [key, publicKey] = readPrivateKey(keyFile);
  const iat = Math.floor(Date.now() / 1000);
  const { text, statement } = await signCode(bundle, key, publicKey, { iat, exp: iat + validDays * daySeconds });
  writeFileSync(`${bundle.path}.sig`, `${text}\n`, { mode: 0o644 });
  if (json) printJson({ signature: `${path}.sig`, ...statement });
  else printLine(`${path}.sig: ${count(statement.files)}, good until ${dateOf(statement.exp)}`);
}

async function verify(path: string, publishersPath: string, json: boolean): Promise<void> {
  const [{ verifyBundle }, { readPublishers }] = await Promise.all([
    import("../functions/code-verify.ts"),
    import("../functions/code-publishers.ts"),
  ]);
  const publishers = await readPublishers(publishersPath);
  const { statement, publisher } = await verifyBundle(bundleAt(path), { publishers, nowMs: Date.now() });
  if (json) printJson({ publisher: publisher.name, ...statement });
  else printLine(`${path} is as ${publisher.name} signed it: ${count(statement.files)}, good until ${dateOf(statement.exp)}`);
}

function bundleAt(path: string): Bundle {
  const absolute = resolve(path);
  try {
    const found = lstatSync(absolute);
    if (found.isDirectory()) return { path: absolute, kind: "folder" };
    if (found.isFile()) return { path: absolute, kind: "file" };
  } catch (error) {
    if (!isAbsent(error)) throw error;
    throw new CommandError(1, `${path} is not there`, { cause: error });
  }
  throw new CommandError(1, `${path} is a link or no file: name the folder or file itself`);
}

/** The key with its public half. */
function readPrivateKey(path: string): [KeyObject, KeyObject] {
  const text = readPrivateFile(path);
  if (text === undefined) throw new CommandError(1, `${path} is not there: rekey function new-publisher-key makes a key`);
  try {
    const jwk = text.trimStart().startsWith("{") ? (JSON.parse(text) as JsonWebKey) : undefined;
    const key = jwk ? createPrivateKey({ key: jwk, format: "jwk" }) : createPrivateKey(text);
    return [key, createPublicKey(key)];
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new CommandError(1, `${path} is no private key in PEM without a passphrase, and no private JWK`);
  }
}

function writeKeyPair(name: string, folder: string): { privateKey: string; publicKey: string } {
  if (!publisherName.test(name)) throw new CommandError(2, "a publisher's name has 1 to 64 letters, digits, ., _ and -");
  const files = { privateKey: join(folder, `${name}.key`), publicKey: join(folder, `${name}.pem`) };
  for (const file of Object.values(files))
    if (lstatSync(file, { throwIfNoEntry: false })) throw new CommandError(1, `${file} is there already: take another name`);
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  writePrivateFile(files.privateKey, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  writeFileSync(files.publicKey, publicKey.export({ type: "spki", format: "pem" }), { mode: 0o644, flag: "wx" });
  return files;
}

/** What is wrong with the code or the keys is no fault of the program. */
async function clean(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RotatorError || error instanceof ConfigError) throw new CommandError(1, error.message, { cause: error });
    throw error;
  }
}

const count = (files: readonly BundleFile[]): string =>
  files.length === 1 ? basename(files[0]?.path ?? "") : `${files.length} files`;
const dateOf = (seconds: number): string => new Date(seconds * 1000).toISOString();
