import { RotatorError } from "../core/error.ts";
import { kindThroughLambda } from "../core/lambda-integration.ts";
import { configArn, integrationArn, managingUserArn } from "../core/rekey-arn.ts";
import { isOwned } from "../core/rotated-secret.ts";
import type { Secret } from "../core/secret.ts";
import { logActivity } from "../store/activity.ts";
import { recordConfigChange } from "../store/config-changes.ts";
import { type Config, loadConfig } from "../store/configs.ts";
import { addEvent } from "../store/events.ts";
import { loadIntegration, newestVersion } from "../store/integrations.ts";
import { managingUserContext, managingUserOf } from "../store/managing-users.ts";
import { rotatedSecretShowing } from "../store/rotated-secrets.ts";
import { changeSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Strategy } from "../targets/target.ts";
import { openData, openVersion, targetOfKind } from "./lease-connection.ts";
import type { EngineParts } from "./parts.ts";

/** Who did what nobody asked for just then. */
const rekey = { principal: "rekey", principalName: "Rekey" };

/** Whether `masterarn` names a user whom only a config's own secret has act: an integration's, or one that it was given itself. */
export const isOwnManager = (arn: string): boolean => /^arn:aws:rekey:[a-z0-9-]*:\d{12}:(integration|managing-user)\//.test(arn);

type Named = Pick<Secret, "id" | "region" | "arn" | "owningService">;

/**
 * That user as it is now. Only a config's own secret has it act: nobody writes such a secret, and whoever made it had leave to use
 * the integration. @throws RotatorError `denied`, in the same words whether it is there or not.
 */
export async function readOwnManager(
  { parts, rotation }: { readonly parts: EngineParts; readonly rotation: { readonly id: string } },
  secret: Named,
  arn: string,
): Promise<AnyCredential> {
  const isIntegration = arn.includes(":integration/");
  const read = !isOwned(secret)
    ? undefined
    : isIntegration
      ? await ofIntegration(parts, arn)
      : await ofSecret(parts, secret, arn);
  await parts.audit.append({
    requestId: rotation.id,
    at: parts.now(),
    principal: rekey.principal,
    action: isIntegration ? "rekey:UseIntegration" : "rekey:UseManagingUser",
    resource: arn.slice(0, 2048),
    region: secret.region,
    sourceIp: "secretsmanager.amazonaws.com",
    parameters: { rotationOf: secret.arn },
    outcome: read ? "ok" : "AccessDeniedException",
  });
  if (read) return read();
  const who = isIntegration ? "the integration" : "the managing user";
  throw new RotatorError("denied", `${who} that masterarn names may not be used, or there is none`);
}

type Read = () => Promise<AnyCredential>;

async function ofIntegration(parts: EngineParts, arn: string): Promise<Read | undefined> {
  const integration = await loadIntegration(parts.sql, arn.split("/").at(-1) ?? "");
  const found = integration?.deletedAt === undefined && integration && arn === integrationArn(parts, integration.id);
  const version = found ? await newestVersion(parts.sql, integration) : undefined;
  if (!found || !version) return undefined;
  return async () => (await openVersion(parts, await targetOfKind(parts, integration.type), version)) as AnyCredential;
}

/** What the secret was given itself: no other names it. */
async function ofSecret(parts: EngineParts, { id }: Named, arn: string): Promise<Read | undefined> {
  const found = await managingUserOf(parts.sql, id);
  if (!found || arn !== managingUserArn(parts, found.user.id)) return undefined;
  const { user, type } = found;
  return async () => {
    const target = await targetOfKind(parts, kindThroughLambda(type) ?? type);
    return (await openData(parts, target, user, managingUserContext(user.id))) as AnyCredential;
  };
}

/** Endings of what a config shows that a rotation changes. */
const changed: Readonly<Record<Strategy, readonly string[]>> = {
  "alternating-users": ["USERNAME", "PASSWORD"],
  "dual-slot": ["PASSWORD"],
  generator: ["PASSWORD"],
  issuer: ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"],
  "single-user": ["PASSWORD"],
};

/** Tells whoever reads the config that shows the secret, in the transaction that ends its rotation. Ids of configs to be hinted. */
export async function tellOwner(
  tx: Sql,
  parts: EngineParts,
  { secret, strategy }: { readonly secret: Secret; readonly strategy: Strategy },
): Promise<readonly string[]> {
  const shown = await ownerOf(tx, secret);
  if (!shown) return [];
  const { config, name } = shown;
  const names = changed[strategy].map((ending) => `${name}_${ending}`);
  const arn = configArn(parts, config.projectId, config.name);
  const text = `rotated ${name}`;
  return (await recordConfigChange(tx, { config, arn, at: parts.now(), ...rekey, text, names })).raised;
}

/**
 * Rotates a config's own secret no more by itself: somebody has changed its credential at the target, and may be at work there.
 * For a transaction that has locked the secret.
 */
export async function pauseOwned(
  tx: Sql,
  parts: EngineParts,
  secret: Secret,
  reason = "the target refuses its credential, which was changed outside",
): Promise<void> {
  const shown = secret.rotationEnabled === true ? await ownerOf(tx, secret) : undefined;
  if (!shown) return;
  const off = { rotationEnabled: false, nextRotationAt: undefined, rotationDueAt: undefined };
  await changeSecret(tx, secret.id, (before) => ({ ...before, ...off }));
  const { config, name } = shown;
  const { arn: resource, generation } = secret;
  const at = parts.now();
  const detail = { project: config.projectId, config: config.name, name, reason };
  await addEvent(tx, { at, type: "rotation.paused", resource, generation, detail });
  const place = { project: config.projectId, environment: config.environment, config: config.name };
  const text = `paused rotated secret ${name}: ${reason}`;
  await logActivity(tx, { at, ...rekey, text, ...place, configId: config.id });
}

/** What of which config shows a secret; `undefined` for one that no config owns. */
export async function ownerOf(tx: Sql, secret: Secret): Promise<{ readonly config: Config; readonly name: string } | undefined> {
  const shown = isOwned(secret) ? await rotatedSecretShowing(tx, secret.id) : undefined;
  const config = shown && (await loadConfig(tx, shown.configId));
  return config && { config, name: shown.name };
}
