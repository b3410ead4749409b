import { ServiceError } from "./core/error.ts";
import { type SigningKeyRecord, servedAt, signingAt } from "./core/signing-key.ts";
import type { Envelope } from "./crypto/envelope.ts";
import type { KeyRing } from "./crypto/key-ring.ts";
import type { SigningKey } from "./crypto/message-keys.ts";
import { newSigningKey, openSigningKey } from "./crypto/new-signing-key.ts";
import type { SigningKeys } from "./operations/services.ts";
import {
  findSealedSigningKey,
  forgetEndedSigningKeys,
  insertSigningKey,
  listSigningKeys,
  signingKeyContext,
} from "./store/signing-keys.ts";
import type { Sql } from "./store/sql.ts";

interface SigningParts {
  readonly sql: Sql;
  readonly envelope: Envelope;
  now(): number;
}

/** Another process may have made a key: it signs only minutes after this. */
const keptMs = 1_000;

/** Makes the first signing key of a store that has none. When several processes do so at once, the first one's stays. */
export async function ensureSigningKey(parts: SigningParts & { readonly keys: KeyRing; readonly region: string }): Promise<void> {
  const { sql, envelope, keys, region, now } = parts;
  await forgetEndedSigningKeys(sql, now());
  if ((await listSigningKeys(sql)).length > 0) return;
  const { id } = await keys.resolve(undefined, region);
  const { kid, publicKey, secret } = await newSigningKey(envelope, id, signingKeyContext);
  const at = now();
  await insertSigningKey(sql, { sequence: 1, kid, publicKey, createdAt: at, signsFromAt: at }, secret);
}

/** The signing keys as this process knows them. */
export function createSigningKeys({ sql, envelope, now }: SigningParts): SigningKeys {
  let known: { readonly keys: Promise<SigningKeyRecord[]>; readonly readAt: number } | undefined;
  let opened: Promise<SigningKey> | undefined;
  let openedKid: string | undefined;

  const chain = (): Promise<SigningKeyRecord[]> => {
    const atMs = now();
    if (known && Math.abs(atMs - known.readAt) < keptMs) return known.keys;
    const keys = listSigningKeys(sql);
    known = { keys, readAt: atMs };
    keys.catch(() => {
      known = undefined;
    });
    return keys;
  };
  const open = async (kid: string): Promise<SigningKey> => {
    const secret = await findSealedSigningKey(sql, kid);
    if (!secret) throw new ServiceError("InternalServiceError", `The signing key ${kid} has no private half any more.`);
    return openSigningKey(envelope, secret, signingKeyContext(kid));
  };
  return {
    chain,
    async served(nowMs) {
      return servedAt(await chain(), nowMs).map(({ publicKey }) => publicKey);
    },
    async current(nowMs) {
      const signing = signingAt(await chain(), nowMs);
      if (!signing) throw new ServiceError("InternalServiceError", "There is no signing key yet: start the server once.");
      if (opened === undefined || openedKid !== signing.kid) {
        const opening = open(signing.kid);
        [opened, openedKid] = [opening, signing.kid];
        opening.catch(() => {
          if (opened === opening) opened = undefined;
        });
      }
      return opened;
    },
    forget() {
      known = undefined;
    },
  };
}
