import { count, json, requestToken, text } from "./config-api-input.ts";
import { type ConfigRoute, config, done, route } from "./config-api-route.ts";
import { type IntegrationOutput, integrationOf, type RotatedSecretOutput, rotatedSecretOf, time } from "./config-api-shapes.ts";

interface IssuedOutput {
  readonly Lease: { readonly Id: string; readonly ExpiresAt: Date };
  readonly Fields: Readonly<Record<string, string>>;
}

const leases = "/v3/configs/config/dynamic_secrets/dynamic_secret/leases";
const oneIntegration = ({ Integration }: { Integration: IntegrationOutput }) => ({ integration: integrationOf(Integration) });
const oneRotated = ({ RotatedSecret }: { RotatedSecret: RotatedSecretOutput }) => ({
  rotatedSecret: rotatedSecretOf(RotatedSecret),
});

const rotated = { ...config, Id: text("slug") };

/** Credentials that others make: connections to them, leases from them, and pairs that are rotated there. */
export const dynamicRoutes: readonly ConfigRoute[] = [
  route<IssuedOutput>(`POST ${leases}`, "IssueLease", {
    input: {
      ...config,
      DynamicSecret: text("dynamic_secret"),
      TtlSeconds: count("ttl_sec"),
      Workload: text("workload"),
      ClientRequestToken: requestToken,
    },
    answer: ({ Lease, Fields }) => ({ success: true, id: Lease.Id, expires_at: time(Lease.ExpiresAt), value: Fields }),
  }),
  route(`DELETE ${leases}/lease`, "RevokeLease", {
    input: { LeaseId: text("slug") },
    answer: done,
  }),

  route<{ Integrations: IntegrationOutput[] }>("GET /v3/integrations", "ListIntegrations", {
    input: {},
    answer: ({ Integrations }) => ({ integrations: Integrations.map(integrationOf), success: true }),
  }),
  route("POST /v3/integrations", "CreateIntegration", {
    input: { Name: text("name"), Type: text("type"), Data: json("data") },
    answer: oneIntegration,
  }),
  route("GET /v3/integrations/integration", "GetIntegration", {
    input: { Integration: text("integration") },
    answer: oneIntegration,
  }),
  route("PUT /v3/integrations/integration", "UpdateIntegration", {
    input: { Integration: text("integration"), Name: text("name"), Data: json("data") },
    answer: oneIntegration,
  }),
  route("DELETE /v3/integrations/integration", "DeleteIntegration", {
    input: { Integration: text("integration") },
    answer: done,
  }),
  route<{ ExternalId: string }>("POST /v3/integrations/generate_external_id", "GenerateExternalId", {
    input: { Type: text("type") },
    answer: ({ ExternalId }) => ({ pendingExternalId: ExternalId }),
  }),

  route<{ RotatedSecrets: RotatedSecretOutput[] }>("GET /v3/configs/config/rotated_secrets", "ListRotatedSecrets", {
    input: config,
    answer: ({ RotatedSecrets }) => ({ rotatedSecrets: RotatedSecrets.map(rotatedSecretOf) }),
  }),
  route("POST /v3/configs/config/rotated_secrets", "CreateRotatedSecret", {
    input: {
      ...config,
      Integration: text("integration"),
      Name: text("name"),
      RotationPeriodSeconds: count("rotation_period_sec"),
      Parameters: json("parameters"),
      Credentials: json("credentials"),
    },
    answer: oneRotated,
  }),
  route("GET /v3/configs/config/rotated_secrets/rotated_secret", "GetRotatedSecret", { input: rotated, answer: oneRotated }),
  route("PUT /v3/configs/config/rotated_secrets/rotated_secret", "UpdateRotatedSecret", {
    input: { ...rotated, Name: text("name"), RotationPeriodSeconds: count("rotation_period_sec") },
    answer: oneRotated,
  }),
  route("DELETE /v3/configs/config/rotated_secrets/rotated_secret", "DeleteRotatedSecret", { input: rotated, answer: done }),
];
