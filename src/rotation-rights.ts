import type { Authorize } from "./auth/authorize.ts";
import { ServiceError } from "./core/error.ts";
import type { PolicyText, Principal } from "./core/principal.ts";
import { type RotationPrincipal, withSession } from "./core/rotation-principal.ts";
import type { Secret } from "./core/secret.ts";
import { keyUse } from "./operations/secrets/key-use.ts";
import { SecretResource } from "./operations/secrets/secret-resource.ts";
import type { Services } from "./operations/services.ts";
import { loadPrincipal } from "./store/identity.ts";
import { defaultDocument } from "./store/policies.ts";
import type { Sql } from "./store/sql.ts";

/** What built-in functions may do: each question is answered as things stand when it is asked, with the refusal if not. */
export interface RotationRights {
  /** Whether whoever configured the rotation is still there. */
  mayRun(configured: RotationPrincipal): Promise<ServiceError | undefined>;
  /** Whether it may read a secret's current value, the secret's key included, within the limits of the session it had. */
  mayRead(configured: RotationPrincipal, secret: Secret): Promise<ServiceError | undefined>;
  /** Whether a role may read or write values of a secret: only then can a function that has the role know them. */
  mayKnow(roleArn: string, secret: Secret): Promise<boolean>;
}

/** Built-in functions act with the rights of the principal that configured the rotation, never with more. */
export function createRotationRights(
  { sql, account, now, keys }: Pick<Services, "sql" | "account" | "now" | "keys">,
  authorize: Authorize,
): RotationRights {
  const factsAt = ({ region }: Secret) => ({
    sourceIp: "",
    userAgent: "secretsmanager.amazonaws.com",
    secure: true,
    region,
    now: now(),
  });
  const ask = (principal: Principal, action: string, secret: Secret): ServiceError | undefined => {
    const place = { region: secret.region, account };
    const resource = new SecretResource(secret.arn, secret, place, { "secretsmanager:VersionStage": ["AWSCURRENT"] });
    return authorize(principal, action, resource, factsAt(secret));
  };
  const mayRead = async (configured: RotationPrincipal, secret: Secret): Promise<ServiceError | undefined> => {
    const principal = await findConfigured(sql, account, configured);
    if (!principal) return gone(configured);
    const refusal = ask(principal, "secretsmanager:GetSecretValue", secret);
    if (refusal) return refusal;
    const key = await keys.resolve(secret.kmsKeyId, secret.region);
    return key.isDefault ? undefined : authorize(principal, "kms:Decrypt", keyUse(key, secret.arn), factsAt(secret));
  };
  return {
    mayRead,
    async mayKnow(roleArn, secret) {
      const role = await loadPrincipal(sql, account, roleArn);
      const actions = ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"];
      return role !== undefined && actions.some((action) => ask(role, action, secret) === undefined);
    },
    mayRun: async (configured) => ((await findConfigured(sql, account, configured)) ? undefined : gone(configured)),
  };
}

async function findConfigured(sql: Sql, account: string, configured: RotationPrincipal): Promise<Principal | undefined> {
  const principal = await loadPrincipal(sql, account, configured.arn);
  return principal && withSession(principal, configured, await sessionPolicies(sql, configured));
}

/** A named policy that is gone allows nothing; the empty list that may be left does so, too. */
async function sessionPolicies(sql: Sql, { session }: RotationPrincipal): Promise<PolicyText[] | undefined> {
  if (!session?.policies) return undefined;
  const texts: PolicyText[] = [];
  for (const { name, document = await defaultDocument(sql, name) } of session.policies)
    if (document !== undefined) texts.push({ name, document });
  return texts;
}

function gone({ arn }: RotationPrincipal): ServiceError {
  return new ServiceError("AccessDeniedException", `${arn}, which configured the rotation, does not exist any more`);
}
