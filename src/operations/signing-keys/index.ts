import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { signingKeysArn } from "../../core/rekey-arn.ts";
import {
  nextSigningKey,
  publishedBeforeSeconds,
  type SigningKeyRecord,
  servedAt,
  signingKeyState,
} from "../../core/signing-key.ts";
import { newSigningKey } from "../../crypto/new-signing-key.ts";
import { endorse } from "../../crypto/signing-key-chain.ts";
import { addEvent } from "../../store/events.ts";
import {
  endServing,
  forgetEndedSigningKeys,
  insertSigningKey,
  listSigningKeys,
  signingKeyContext,
} from "../../store/signing-keys.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";

const resource = (_input: unknown, { services }: Call): Resource => ({ arn: signingKeysArn(services), context: {} });

const shown = (key: SigningKeyRecord, keys: readonly SigningKeyRecord[], nowMs: number) => ({
  KeyId: key.kid,
  State: signingKeyState(key, keys, nowMs),
  CreatedDate: new Date(key.createdAt),
  SignsFrom: new Date(key.signsFromAt),
  ServedUntil: key.servedUntilAt === undefined ? undefined : new Date(key.servedUntilAt),
});

const listOperation = defineOperation<object, Resource>({
  name: "ListSigningKeys",
  action: "rekey:ListSigningKeys",
  noun: "signing-keys",
  verb: "list",
  mode: "read",
  summary:
    "Lists the keys that requests to agents and functions are signed with, newest first, and the public key set of those in use.",
  input: z.object({}),
  resource,
  async run(_input, _found, { sql, services }) {
    const [keys, nowMs] = [await listSigningKeys(sql), services.now()];
    return {
      SigningKeys: keys.map((key) => shown(key, keys, nowMs)).reverse(),
      KeySet: JSON.stringify({ keys: servedAt(keys, nowMs).map(({ publicKey }) => publicKey) }),
    };
  },
});

const rotateInput = z.object({
  SignsInSeconds: z
    .int()
    .min(publishedBeforeSeconds)
    .max(30 * 86_400)
    .optional(),
});

const rotateOperation = defineOperation<z.infer<typeof rotateInput>, Resource>({
  name: "RotateSigningKey",
  action: "rekey:RotateSigningKey",
  noun: "signing-keys",
  verb: "rotate",
  mode: "write",
  summary:
    "Makes the next signing key: published at once, in use ten minutes later or as SignsInSeconds says; the one before stays published for a day more.",
  input: rotateInput,
  resource,
  async run({ SignsInSeconds }, found, call) {
    const { services } = call;
    const nowMs = services.now();
    const { sequence, signsFromAt, previous, previousUntilAt } = nextSigningKey(
      await listSigningKeys(call.sql),
      nowMs,
      SignsInSeconds,
    );
    const { id } = await services.keys.resolve(undefined, services.region);
    const { kid, publicKey, secret } = await newSigningKey(services.envelope, id, signingKeyContext);
    services.signingKeys.forget();
    const endorsement = await endorse(
      { publicKey, signsFromAt, previousUntilAt },
      await services.signingKeys.current(nowMs),
      nowMs,
    );
    const added = { sequence, kid, publicKey, createdAt: nowMs, signsFromAt, endorsement };
    const keys = await call.transaction(async (tx) => {
      if (!(await insertSigningKey(tx, added, secret))) throw rotatedMeanwhile();
      await endServing(tx, previous.kid, previousUntilAt);
      await forgetEndedSigningKeys(tx, nowMs);
      await addEvent(tx, {
        at: nowMs,
        type: "signing-key.rotated",
        resource: found.arn,
        detail: { keyId: kid, previous: previous.kid },
      });
      return listSigningKeys(tx);
    });
    services.signingKeys.forget();
    return shown(added, keys, nowMs);
  },
});

const rotatedMeanwhile = () =>
  new ServiceError("InvalidRequestException", "Another call rotated the signing key at this moment; list the keys to see it.");

/** Keys that requests to agents and functions are signed with. */
export const signingKeyOperations: readonly Operation[] = [listOperation, rotateOperation];
