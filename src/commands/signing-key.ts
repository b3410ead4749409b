import { createPublicKey, type JsonWebKey } from "node:crypto";
import type { Command } from "commander";
import { type ApiCommand, addNoun, sentence, table } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { type Answer, printLine } from "./output.ts";
import { secondsOf } from "./typed-values.ts";

/** Commands on the keys that requests to agents and functions are signed with. */
export function addSigningKeyCommands(program: Command): void {
  addNoun(program, "signing-key", "Keys that requests to agents and functions are signed with", [list, rotate, exported]);
}

const list: ApiCommand = {
  usage: "list",
  about: "list signing keys, newest first",
  examples: ["rekey signing-key list"],
  operation: "signing-keys/list",
  show: table(
    "signingKeys",
    { ID: "keyId", STATE: "state", CREATED: "createdDate", "SIGNS FROM": "signsFrom", "SERVED UNTIL": "servedUntil" },
    "no signing keys",
  ),
};

const rotate: ApiCommand = {
  usage: "rotate",
  about: "make the next signing key",
  notes: `It is published at once and signs ten minutes later; the one before stays published for a day more. Agents follow by
themselves. Where keys are written down for functions, as REKEY_KEY_SET, OVERRIDE_KEY_SET or an object in S3, put in what
rekey signing-key export prints before the new key signs: --signs-in gives the time that this takes.`,
  options: { "--signs-in <time>": "when the new key begins to sign, such as 24h; default 10m, which is the least" },
  examples: ["rekey signing-key rotate", "rekey signing-key rotate --signs-in 7d"],
  operation: "signing-keys/rotate",
  input: ({ options }) => ({ signsInSeconds: secondsOf(options.signsIn, "--signs-in") }),
  show: sentence(({ keyId, signsFrom }) => `the signing key ${keyId} is published, and signs from ${signsFrom} on`),
};

const exported: ApiCommand = {
  usage: "export",
  about: "print the public keys that are in use now",
  options: { "--format <format>": "jwks, for REKEY_KEY_SET, a bucket's rekey/jwks.json and OVERRIDE_KEY_SET; or pem" },
  notes: "The same keys stand at /.well-known/jwks.json of the server, for everyone.",
  examples: ["rekey signing-key export", "rekey signing-key export --format pem > rekey-signing.pem"],
  operation: "signing-keys/list",
  input({ options }) {
    formatOf(options.format);
    return {};
  },
  show: ({ keySet }, { options }) => printLine(formatOf(options.format) === "pem" ? pemOf(String(keySet)) : String(keySet)),
};

function formatOf(format: unknown = "jwks"): "jwks" | "pem" {
  if (format === "jwks" || format === "pem") return format;
  throw new CommandError(2, "--format must be jwks or pem");
}

function pemOf(keySet: string): string {
  const { keys } = JSON.parse(keySet) as { keys: (JsonWebKey & Answer)[] };
  const texts = keys.map((key) =>
    createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" }).toString().trim(),
  );
  return texts.join("\n");
}
