import { pageAt } from "./config-api-call.ts";
import { anyText, json, mapped, param, renamed, text } from "./config-api-input.ts";
import { type RoleOutput, roleOf } from "./config-api-people.ts";
import { type ConfigRoute, config, done, noContent, paging, project, route } from "./config-api-route.ts";
import {
  type ApiTokenOutput,
  apiTokenOf,
  callerOf,
  type ServiceTokenOutput,
  serviceTokenOf,
  time,
  type WorkplaceOutput,
  workplaceOf,
} from "./config-api-shapes.ts";

interface LoginOutput {
  readonly Token?: string;
  readonly Name?: string;
  readonly DashboardUrl?: string;
  readonly Error?: string;
}

const oneWorkplace = ({ Workplace }: { Workplace: WorkplaceOutput }) => ({ workplace: workplaceOf(Workplace) });

/** Who calls, and how a person or a program gets a token. */
const callerRoutes: readonly ConfigRoute[] = [
  route("GET /v3/me", "GetCaller", { input: {}, answer: callerOf }),
  route<{ Code: string; PollingCode: string; AuthUrl: string }>("GET /v3/auth/cli/generate/2", "BeginLogin", {
    caller: "anyone",
    input: { Hostname: text("hostname"), Version: text("version"), Os: text("os"), Arch: text("arch") },
    answer: ({ Code, PollingCode, AuthUrl }, asked) => ({
      code: Code,
      polling_code: PollingCode,
      auth_url: pageAt(AuthUrl, asked),
    }),
  }),
  route<LoginOutput>("POST /v3/auth/cli/authorize", "PollLogin", {
    caller: "anyone",
    input: { Code: text("code") },
    answer: ({ Token, Name, DashboardUrl, Error: error }, asked) =>
      error === undefined ? { token: Token, name: Name ?? "", dashboard_url: pageAt(DashboardUrl, asked) } : { error },
  }),
  route<{ Token: string }>("POST /v3/auth/cli/roll", "RollToken", {
    caller: "body",
    input: { Token: text("token") },
    answer: ({ Token }) => ({ token: Token }),
  }),
  route("POST /v3/auth/cli/revoke", "RevokeToken", { caller: "body", input: { Token: text("token") }, answer: done }),
  route("POST /v3/auth/revoke", "RevokeToken", { caller: "body", input: { Token: text("token") }, answer: done }),
  route<{ Token: string; ExpiresAt: Date; DashboardUrl?: string }>("POST /v3/auth/oidc", "IssueOidcToken", {
    caller: "oidc",
    input: { Identity: text("identity"), Token: text("token") },
    answer: ({ Token, ExpiresAt, DashboardUrl }, asked) => ({
      token: Token,
      expires_at: time(ExpiresAt),
      dashboard_url: pageAt(DashboardUrl, asked),
    }),
  }),
  route("GET /v3/workplace", "GetWorkplace", { input: {}, answer: oneWorkplace }),
  route("POST /v3/workplace", "UpdateWorkplace", {
    input: { Name: text("name"), BillingEmail: text("billing_email") },
    answer: oneWorkplace,
  }),
];

/** Seconds since 1970, also as text; an ISO time otherwise. */
const moment = (value: unknown): unknown =>
  typeof value === "string" && /^\d{9,11}$/.test(value)
    ? new Date(Number(value) * 1000).toISOString()
    : typeof value === "number"
      ? isoOf(value)
      : value;

const isoOf = (seconds: number): unknown => {
  const at = new Date(seconds * 1000);
  return Number.isNaN(at.getTime()) ? seconds : at.toISOString();
};

/** Tokens of one config, and from where it may be asked. */
const configAccessRoutes: readonly ConfigRoute[] = [
  route<{ Tokens: ServiceTokenOutput[] }>("GET /v3/configs/config/tokens", "ListServiceTokens", {
    input: config,
    answer: ({ Tokens }) => ({ tokens: Tokens.map(serviceTokenOf), success: true }),
  }),
  route<{ Token: ServiceTokenOutput }>("POST /v3/configs/config/tokens", "CreateServiceToken", {
    input: { ...config, Name: text("name"), Access: text("access"), ExpiresAt: mapped(text("expire_at"), moment) },
    answer: ({ Token }) => ({ token: serviceTokenOf(Token), success: true }),
  }),
  route("DELETE /v3/configs/config/tokens/token", "DeleteServiceToken", {
    input: { ...config, Id: text("slug"), Token: text("token") },
    answer: done,
  }),
  route<{ Ips: string[] }>("GET /v3/configs/config/trusted_ips", "ListTrustedIps", {
    input: config,
    answer: ({ Ips }) => ({ ips: Ips }),
  }),
  route<{ Ip: string; Added: boolean }>("POST /v3/configs/config/trusted_ips", "AddTrustedIp", {
    input: { ...config, Ip: text("ip") },
    answer: ({ Ip, Added }) => (Added ? { ip: Ip } : noContent()),
  }),
  route("DELETE /v3/configs/config/trusted_ips", "DeleteTrustedIp", {
    input: { ...config, Ip: text("ip") },
    answer: noContent,
  }),
];

interface WebhookOutput {
  readonly Id: string;
  readonly Url: string;
  readonly Name?: string | null;
  readonly Enabled: boolean;
  readonly Project: string;
  readonly EnabledConfigs: readonly string[];
  readonly HasSecret: boolean;
  readonly Authentication?: { readonly Type: string; readonly Username?: string } | null;
  readonly Payload?: string | null;
}

const webhookOf = (webhook: WebhookOutput) => ({
  id: webhook.Id,
  slug: webhook.Id,
  name: webhook.Name ?? null,
  url: webhook.Url,
  enabled: webhook.Enabled,
  project: webhook.Project,
  enabledConfigs: webhook.EnabledConfigs,
  hasSecret: webhook.HasSecret,
  authentication: { type: webhook.Authentication?.Type ?? "None", username: webhook.Authentication?.Username ?? null },
  payload: webhook.Payload ?? null,
});

const oneWebhook = ({ Webhook }: { Webhook: WebhookOutput }) => ({ webhook: webhookOf(Webhook), success: true });
const webhook = { ...project, Id: param("slug") };
const authentication = mapped(
  json("authentication"),
  renamed({ type: "Type", token: "Token", username: "Username", password: "Password" }),
);
const webhookSettings = {
  Url: text("url"),
  Secret: anyText("secret"),
  Authentication: authentication,
  Payload: anyText("payload"),
  EnableConfigs: json("enableConfigs"),
};

const webhookRoutes: readonly ConfigRoute[] = [
  route<{ Webhooks: WebhookOutput[] }>("GET /v3/webhooks", "ListWebhooks", {
    input: project,
    answer: ({ Webhooks }) => ({ webhooks: Webhooks.map(webhookOf), success: true }),
  }),
  route("POST /v3/webhooks", "CreateWebhook", {
    input: { ...project, Name: text("name"), ...webhookSettings },
    answer: oneWebhook,
  }),
  route("GET /v3/webhooks/webhook/:slug", "GetWebhook", { input: webhook, answer: oneWebhook }),
  route("PATCH /v3/webhooks/webhook/:slug", "UpdateWebhook", {
    input: { ...webhook, Name: text("name"), ...webhookSettings, DisableConfigs: json("disableConfigs") },
    answer: oneWebhook,
  }),
  route("DELETE /v3/webhooks/webhook/:slug", "DeleteWebhook", { input: webhook, answer: done }),
  route("POST /v3/webhooks/webhook/:slug/enable", "EnableWebhook", { input: webhook, answer: oneWebhook }),
  route("POST /v3/webhooks/webhook/:slug/disable", "DisableWebhook", { input: webhook, answer: oneWebhook }),
];

interface AccountOutput {
  readonly Id: string;
  readonly Name: string;
  readonly CreatedAt: Date;
  readonly WorkplaceRole?: RoleOutput | null;
}

const accountOf = ({ Id, Name, CreatedAt, WorkplaceRole: role }: AccountOutput) => ({
  slug: Id,
  name: Name,
  created_at: time(CreatedAt),
  workplace_role: role ? roleOf(role) : null,
});

const oneAccount = ({ ServiceAccount }: { ServiceAccount: AccountOutput }) => ({
  service_account: accountOf(ServiceAccount),
  success: true,
});
const account = { Id: param("slug") };
const accountSettings = {
  Name: text("name"),
  WorkplaceRole: mapped(json("workplace_role"), renamed({ identifier: "Identifier", permissions: "Permissions" })),
};
const accountTokens = "/v3/workplace/service_accounts/service_account/:slug/tokens";
const accountToken = { ServiceAccount: param("slug"), Id: param("token") };

const serviceAccountRoutes: readonly ConfigRoute[] = [
  route<{ ServiceAccounts: AccountOutput[] }>("GET /v3/workplace/service_accounts", "ListServiceAccounts", {
    input: paging,
    answer: ({ ServiceAccounts }) => ({ service_accounts: ServiceAccounts.map(accountOf), success: true }),
  }),
  route("POST /v3/workplace/service_accounts", "CreateServiceAccount", { input: accountSettings, answer: oneAccount }),
  route("GET /v3/workplace/service_accounts/service_account/:slug", "GetServiceAccount", { input: account, answer: oneAccount }),
  route("PATCH /v3/workplace/service_accounts/service_account/:slug", "UpdateServiceAccount", {
    input: { ...account, ...accountSettings },
    answer: oneAccount,
  }),
  route("DELETE /v3/workplace/service_accounts/service_account/:slug", "DeleteServiceAccount", {
    input: account,
    answer: noContent,
  }),
  route<{ ApiTokens: ApiTokenOutput[] }>(`GET ${accountTokens}`, "ListServiceAccountTokens", {
    input: { ServiceAccount: param("slug") },
    answer: ({ ApiTokens }) => ({ api_tokens: ApiTokens.map(apiTokenOf), success: true }),
  }),
  route<{ ApiToken: ApiTokenOutput; ApiKey: string }>(`POST ${accountTokens}`, "CreateServiceAccountToken", {
    input: { ServiceAccount: param("slug"), Name: text("name"), ExpiresAt: mapped(text("expires_at"), moment) },
    answer: ({ ApiToken, ApiKey }) => ({ api_token: apiTokenOf(ApiToken), api_key: ApiKey, success: true }),
  }),
  route<{ ApiToken: ApiTokenOutput }>(`GET ${accountTokens}/token/:token`, "GetServiceAccountToken", {
    input: accountToken,
    answer: ({ ApiToken }) => ({ api_token: apiTokenOf(ApiToken), success: true }),
  }),
  route(`DELETE ${accountTokens}/token/:token`, "DeleteServiceAccountToken", { input: accountToken, answer: noContent }),
];

/** Who may call, and what is told to whom. */
export const accessRoutes: readonly ConfigRoute[] = [
  ...callerRoutes,
  ...configAccessRoutes,
  ...webhookRoutes,
  ...serviceAccountRoutes,
];
