import type { Authorize } from "./auth/authorize.ts";
import { ServiceError } from "./core/error.ts";
import type { Secret } from "./core/secret.ts";
import { keyUse } from "./operations/secrets/key-use.ts";
import { SecretResource } from "./operations/secrets/secret-resource.ts";
import type { Services } from "./operations/services.ts";
import { loadPrincipal } from "./store/identity.ts";

/**
 * Whether a principal may read a secret's current value as things stand now, its key included; the refusal if not. Built-in
 * functions act with these rights: a principal that lost them, or is gone, cannot make Rekey read for it.
 */
export function createMayRead(services: Services, authorize: Authorize) {
  return async (principalArn: string, secret: Secret): Promise<ServiceError | undefined> => {
    const { sql, account, now, keys } = services;
    const principal = await loadPrincipal(sql, account, principalArn);
    if (!principal) return new ServiceError("AccessDeniedException", `Principal ${principalArn} does not exist any more.`);
    const place = { region: secret.region, account };
    const resource = new SecretResource(secret.arn, secret, place, { "secretsmanager:VersionStage": ["AWSCURRENT"] });
    const facts = { sourceIp: "", userAgent: "secretsmanager.amazonaws.com", secure: true, region: secret.region, now: now() };
    const refusal = authorize(principal, "secretsmanager:GetSecretValue", resource, facts);
    if (refusal) return refusal;
    const key = await keys.resolve(secret.kmsKeyId, secret.region);
    return key.isDefault ? undefined : authorize(principal, "kms:Decrypt", keyUse(key, secret.arn), facts);
  };
}
