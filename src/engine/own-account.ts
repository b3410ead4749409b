import type { Secret } from "../core/secret.ts";
import { versionWith } from "../core/secret.ts";
import { functionThatRotatedTo } from "../store/rotations.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { EngineParts } from "./parts.ts";
import { credentialOf } from "./values.ts";

/**
 * Whether a rotation of this secret has logged in to the account with what it made, which still bears a label. Else nothing
 * says that the account is the secret's: whoever writes the secret could name any, and have a superuser set its password.
 * `kind`: of the rotator; another one has not logged in there, or to something else. `isOfAccount`: whether a value is for the account.
 */
export async function hasRotated(
  parts: EngineParts,
  secret: Secret,
  kind: string,
  isOfAccount: (value: AnyCredential) => boolean,
): Promise<boolean> {
  for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) {
    const version = versionWith(secret, label);
    const by = version && (await functionThatRotatedTo(parts.sql, secret.id, version.id));
    if (!version || by === undefined || !(await hasLoggedIn(parts, secret, by, kind))) continue;
    const value = await credentialOf(parts, secret, version, `the value labelled ${label}`);
    if (value && isOfAccount(value)) return true;
  }
  return false;
}

/** Whether the function logs in as rotators of this kind do; of declared ones each is a kind of its own. */
async function hasLoggedIn(parts: EngineParts, secret: Secret, functionArn: string, kind: string): Promise<boolean> {
  const found = await parts.findFunction(functionArn);
  return found?.kind === kind && (found.declaration === undefined || functionArn === secret.rotationFunctionArn);
}
