import type { Secret } from "../core/secret.ts";
import { versionWith } from "../core/secret.ts";
import { wasRotatedTo } from "../store/rotations.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { EngineParts } from "./parts.ts";
import { credentialOf } from "./values.ts";

/**
 * Whether a rotation of this secret has logged in to the account with what it made, which still bears a label. Else nothing
 * says that the account is the secret's: whoever writes the secret could name any, and have a superuser set its password.
 * `isOfAccount`: whether a value is for the account.
 */
export async function hasRotated(
  parts: EngineParts,
  secret: Secret,
  isOfAccount: (value: AnyCredential) => boolean,
): Promise<boolean> {
  for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) {
    const version = versionWith(secret, label);
    if (!version || !(await wasRotatedTo(parts.sql, secret.id, version))) continue;
    const value = await credentialOf(parts, secret, version, `the value labelled ${label}`);
    if (value && isOfAccount(value)) return true;
  }
  return false;
}
