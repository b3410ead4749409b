import { RotatorError } from "../core/error.ts";
import type { LambdaFunction } from "./lambda.ts";

interface Refusal {
  readonly name?: string | undefined;
  readonly message?: string | undefined;
  readonly reason?: string | undefined;
}

/** By the names that Rekey's functions give. */
const remedies: Readonly<Record<string, string>> = {
  MissingKeySet:
    "it has no public keys of this Rekey. Set its variable REKEY_KEY_SET to what rekey signing-key export prints, or REKEY_KEY_SET_S3_BUCKET to the bucket that holds rekey/jwks.json.",
  UnreadableKeySet:
    "it cannot read the public keys of this Rekey. See that REKEY_KEY_SET is what rekey signing-key export prints; for a bucket, that its role may s3:GetObject rekey/jwks.json, and that a function in a VPC reaches S3: through an S3 gateway endpoint or a way out.",
  MissingFarKeys: "it has no keys of its own. Set its variable REKEY_FAR_KEYS to the file that rekey aws keys wrote.",
  UnreadableFarKeys: "its variable REKEY_FAR_KEYS is not what rekey aws keys wrote. Set it again.",
};

/** By why a message was refused. */
const reasons: Readonly<Record<string, string>> = {
  audience: "Its ARN at AWS is another than the one that is registered: correct --lambda.",
  "other-receiver": "Its REKEY_FAR_KEYS and --far-key must be of one rekey aws keys.",
  signature: "Give it the public keys of this Rekey again: rekey signing-key export.",
  "too-early": "Set this server's clock right.",
  "too-old": "Set this server's clock right; a function that starts slowly may need more memory.",
  "unknown-key": "Give it the public keys of this Rekey again: rekey signing-key export.",
};

/** Whether it was this very message that a function of ours did not take. */
export const isRefusal = ({ name }: Refusal): boolean => name === "MessageRefused";

/**
 * Why a function of ours did not act on a message. It says so unsealed, so it counts as not having run only where nothing can
 * have: what was sent before, or met an error inside, may have been acted on.
 */
export function farRefusal({ name }: LambdaFunction, { name: what = "", message, reason = "" }: Refusal): RotatorError {
  const remedy = remedies[what];
  if (remedy !== undefined) return new RotatorError("invalid", `function ${name}: ${remedy}`);
  if (isRefusal({ name: what }) && reason !== "replayed" && reason !== "full") {
    const why = `function ${name} refused the message (${plain(reason)}). ${reasons[reason] ?? ""}`.trim();
    return new RotatorError(reason === "expired" || reason.startsWith("too-") ? "unreachable" : "invalid", why);
  }
  const known = dopplerRefusal(message ?? "");
  if (known !== undefined) return new RotatorError("invalid", `function ${name}: ${known}`);
  return new RotatorError(
    "unknown",
    `function ${name} answered an error (${plain(reason || what) || "without name"}); its log at AWS says more.`,
  );
}

/** Doppler's published agents, before they act: they check the signature, the age and the shape first. */
function dopplerRefusal(message: string): string | undefined {
  if (/signature verification failed|no applicable key found|JWKS|key set/i.test(message))
    return "it does not take this Rekey's signature. Set its variable OVERRIDE_KEY_SET to what rekey signing-key export prints, or OVERRIDE_KEY_SET_S3_BUCKET to a bucket that holds secret-agents/jwks.json.";
  if (/age is outside/i.test(message)) return "it takes messages of the last 30 s only. Set this server's clock right.";
  if (/Unknown request type/i.test(message))
    return "it does not know what it was asked: it is no agent for this kind of target, or an old one.";
  return undefined;
}

/** A far side's word in a sentence of ours: a name and nothing else. */
export const plain = (word: string): string => word.replaceAll(/[^\w-]/g, "").slice(0, 60);
