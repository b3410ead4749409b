import { RotatorError } from "../core/error.ts";
import { currentInForce, type Secret } from "../core/secret.ts";
import { findSecret } from "../store/secrets.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Endpoint } from "../targets/target.ts";
import { isOwnManager, readOwnManager } from "./owned-secrets.ts";
import type { EngineParts } from "./parts.ts";
import { credentialOf } from "./values.ts";

/**
 * Tag of a superuser's secret whose value has no host, as those that RDS manages: `host:port` of the server that it is for.
 * The rotated secret cannot say it: whoever writes that could have the superuser's password sent anywhere.
 */
const addressTag = "rekey:address";

/**
 * The credential that `masterarn` names, read with the rights of the principal that configured the rotation, as they are now:
 * else whoever writes a secret could have Rekey use any other. `undefined` when the credential names none.
 * `address`: in place of the tag, where the caller itself vouches for it.
 * @throws RotatorError `denied`, in the same words whether the secret is there or not.
 */
export async function readSuperuser(
  held: { readonly parts: EngineParts; readonly rotation: { readonly id: string } },
  secret: Pick<Secret, "id" | "region" | "arn" | "rotationPrincipal" | "owningService" | "rotationPolicy">,
  current: AnyCredential,
  address?: string,
): Promise<AnyCredential | undefined> {
  const { masterarn: arn } = current;
  if (arn === undefined) return undefined;
  if (typeof arn !== "string") throw new RotatorError("invalid", "masterarn must be the ARN of a secret");
  const { parts, rotation } = held;
  if (isOwnManager(arn)) return readOwnManager(held, secret, arn);
  const { rotationPrincipal: configured } = secret;
  const who = configured?.session?.arn ?? configured?.arn ?? "nobody";
  const master = arn.startsWith("arn:") ? await findSecret(parts.sql, secret.region, arn) : undefined;
  const found = master?.deletedAt === undefined ? master : undefined;
  const refusal = found && configured && (await parts.mayRead(configured, found));
  const allowed = found && configured && !refusal;
  await parts.audit.append({
    requestId: rotation.id,
    at: parts.now(),
    principal: who,
    action: "secretsmanager:GetSecretValue",
    resource: arn.slice(0, 2048),
    region: secret.region,
    sourceIp: "secretsmanager.amazonaws.com",
    parameters: { SecretId: arn.slice(0, 2048), rotationOf: secret.arn },
    outcome: allowed ? "ok" : "AccessDeniedException",
  });
  if (!allowed) {
    const cause = refusal ?? new Error("there is no such secret");
    throw new RotatorError("denied", `${who} may not read the superuser's secret that masterarn names, or there is none`, {
      cause,
    });
  }
  requireSameNetwork(found, secret);
  // It may be in the middle of a switch itself.
  const credential = await credentialOf(parts, found, currentInForce(found), "the superuser's value");
  if (!credential) throw new RotatorError("invalid", "the superuser's secret has no current value");
  const atOne = atAddress(credential, address ?? found.tags?.[addressTag]);
  return (found.rotationPolicy?.endpoints ?? []).some((endpoint) => isPlaceOf(current, endpoint, atOne))
    ? { ...atOne, host: current.host, port: current.port }
    : atOne;
}

/**
 * In another network the same host name is another host: that the superuser is of that one, only whoever may move the superuser's
 * own secret can say. Else who moves the rotated secret could have the superuser's password sent there. @throws RotatorError
 */
function requireSameNetwork(superuser: Pick<Secret, "rotationPolicy">, secret: Pick<Secret, "rotationPolicy">): void {
  const [its, own] = [superuser, secret].map(({ rotationPolicy }) => rotationPolicy?.network);
  if (its === own) return;
  const remedy = own === undefined ? "--clear network" : `--network ${own}`;
  throw new RotatorError(
    "denied",
    `the superuser's secret is not in the network of this one: rekey rotation policy SUPERUSER ${remedy}, if it is for that server`,
  );
}

/**
 * Whether the rotated secret is for an endpoint of the superuser's secret: a further name of the same server, as whoever
 * may read the superuser's value has said.
 */
function isPlaceOf({ host, port }: AnyCredential, endpoint: Endpoint, superuser: AnyCredential): boolean {
  const { host: name, port: at = superuser.port } = endpoint;
  return String(host).toLowerCase() === name.toLowerCase() && String(port) === String(at);
}

/** A value with a host stays as it is. */
function atAddress(credential: AnyCredential, address: string | undefined): AnyCredential {
  if (credential.host !== undefined || address === undefined) return credential;
  const at = address.lastIndexOf(":");
  return at < 0
    ? { ...credential, host: address }
    : { ...credential, host: address.slice(0, at), port: credential.port ?? address.slice(at + 1) };
}
