import type { DynamicSecret } from "../../store/dynamic-secrets.ts";
import { loadIntegration } from "../../store/integrations.ts";
import type { Call } from "../operation.ts";

/** What a lease of a dynamic secret is shown as in its config: `NAME_FIELD`; none when its target is not known any more. */
export async function leaseNames(
  { name, integrationId, settings }: Pick<DynamicSecret, "name" | "integrationId" | "settings">,
  { sql, services }: Pick<Call, "sql" | "services">,
): Promise<string[]> {
  const integration = await loadIntegration(sql, integrationId);
  const target = integration && (await services.findLeaseTarget(integration.type));
  const parsed = target?.settings.safeParse(JSON.parse(settings));
  const fields = target && parsed?.success ? target.fieldNames(parsed.data) : [];
  return [...fields, "LEASE_ID", "LEASE_EXPIRATION"].map((field) => `${name}_${field}`);
}
