import { addVersion, isPending, type Secret } from "../core/secret.ts";
import { holdAccount } from "../store/rotation-claims.ts";
import { type HeldRotation, Superseded } from "./held-rotation.ts";
import type { Turn } from "./turn.ts";
import { type OpenedValue, sealVersion } from "./values.ts";

/** Another running rotation changes the same account, or something else does. */
export class AccountTaken extends Error {
  override readonly name = "AccountTaken";
}

/**
 * Commits the rotation's value, if a new one is given, under its token, together with how far it has come. From then on
 * nobody else works at the account, but for a rotation that only tests. @throws AccountTaken, Superseded
 */
export async function commitPending(
  held: HeldRotation,
  { secret, account }: Turn,
  value: OpenedValue | undefined,
  decideMore: (before: Secret) => Secret,
): Promise<void> {
  const { parts, rotation } = held;
  const id = rotation.versionId;
  const sealed = value && (await sealVersion(parts, secret, id, value));
  await held.commit({
    hold: true,
    secret: (before) => {
      if (!isPending(before, id)) throw new Superseded();
      if (!sealed) return decideMore(before);
      const { secret: after } = addVersion(before, { id, stages: ["AWSPENDING"], value: sealed, createdAt: parts.now() });
      return decideMore(after);
    },
    also: async (tx) => {
      if (!rotation.testOnly && !(await holdAccount(tx, rotation, account))) throw new AccountTaken();
    },
  });
}
