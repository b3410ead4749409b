import type { JWK } from "jose";
import { type FarKeys, readFarKeys, readKeySet } from "../crypto/message-keys.ts";
import { fetchKeyObject } from "./lambda-key-object.ts";
import { readJsonVariable, SetUpProblem } from "./lambda-set-up-problem.ts";

/** Rekey signs with a new key no earlier than ten minutes after it was published. */
const cachedMs = 5 * 60_000;

export interface LambdaKeys {
  /** Rekey's public keys. @throws SetUpProblem MissingKeySet or UnreadableKeySet */
  keySet(account: string, nowMs: number): Promise<readonly JWK[]>;
  /** The function's own. @throws SetUpProblem MissingFarKeys or UnreadableFarKeys */
  own(): Promise<FarKeys>;
}

/**
 * Reads what a function of ours needs to know whom it obeys: Rekey's public keys from REKEY_KEY_SET (JSON), else from the
 * bucket REKEY_KEY_SET_S3_BUCKET, else those it was built with; its own from REKEY_FAR_KEYS.
 */
export function createLambdaKeys(env: Readonly<Record<string, string | undefined>>, pinned: unknown): LambdaKeys {
  let known: { readonly keys: readonly JWK[]; readonly readAt: number } | undefined;
  let own: Promise<FarKeys> | undefined;

  const read = async (account: string, nowMs: number): Promise<readonly JWK[]> => {
    const { REKEY_KEY_SET: text, REKEY_KEY_SET_S3_BUCKET: bucket, REKEY_KEY_SET_S3_OWNER: owner = account } = env;
    if (text) return keysOf(readJsonVariable("REKEY_KEY_SET", text, "UnreadableKeySet"), "the function's variable REKEY_KEY_SET");
    if (bucket) {
      const found = await fetchKeyObject({ bucket, owner, env, nowMs });
      return keysOf(parsedOrUndefined(found), `what stands in the bucket ${bucket}`);
    }
    if (pinned !== undefined) return keysOf(pinned, "what the function was built with");
    throw new SetUpProblem(
      "MissingKeySet",
      "The function does not know Rekey's public keys: set its variable REKEY_KEY_SET to what rekey signing-key export prints, or REKEY_KEY_SET_S3_BUCKET to a bucket that has it as rekey/jwks.json.",
    );
  };
  return {
    async keySet(account, nowMs) {
      // A clock that was set back makes nothing last longer.
      if (known && Math.abs(nowMs - known.readAt) < cachedMs) return known.keys;
      known = { keys: await read(account, nowMs), readAt: nowMs };
      return known.keys;
    },
    own() {
      own ??= readOwn(env.REKEY_FAR_KEYS);
      return own;
    },
  };
}

async function readOwn(text: string | undefined): Promise<FarKeys> {
  if (!text)
    throw new SetUpProblem(
      "MissingFarKeys",
      "The function has no keys of its own: set its variable REKEY_FAR_KEYS to the private keys that Rekey made for it.",
    );
  const keys = await readFarKeys(readJsonVariable("REKEY_FAR_KEYS", text, "UnreadableFarKeys"));
  if (keys) return keys;
  throw new SetUpProblem(
    "UnreadableFarKeys",
    "The function's variable REKEY_FAR_KEYS holds no two private keys of P-256, one for signing and another one for sealing: set it again to what Rekey made for it.",
  );
}

async function keysOf(value: unknown, where: string): Promise<readonly JWK[]> {
  const keys = await readKeySet(value);
  if (keys) return keys;
  throw new SetUpProblem(
    "UnreadableKeySet",
    `${where[0]?.toUpperCase()}${where.slice(1)} is no key set with a key of P-521: put what rekey signing-key export prints there.`,
  );
}

function parsedOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
