import { isOwned } from "../core/rotated-secret.ts";
import type { Secret } from "../core/secret.ts";
import { networkOfIntegrationOf } from "../store/networks.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Rotator } from "../targets/target.ts";
import type { EngineParts, RotatorFunction } from "./parts.ts";

/** The rotator that a function names, reaching the target as the secret says: from here, or through its network. */
export async function rotatorFor(
  parts: EngineParts,
  { kind, declaration }: Pick<RotatorFunction, "kind" | "declaration">,
  secret: Secret,
): Promise<Rotator<AnyCredential> | undefined> {
  return parts.findRotator(kind, declaration, await networkOf(parts, secret));
}

/** A config's own secret is where its integration is, whose user acts for it. */
async function networkOf({ sql }: EngineParts, secret: Secret): Promise<string | undefined> {
  return isOwned(secret) ? networkOfIntegrationOf(sql, secret.id) : secret.rotationPolicy?.network;
}
