import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { webhookArn } from "../../core/rekey-arn.ts";
import { checkPayload, type WebhookAuthentication, type WebhookSecrets } from "../../core/webhook.ts";
import { type Config, findConfig, listConfigs, loadConfigs } from "../../store/configs.ts";
import type { SealedSecret } from "../../store/credentials.ts";
import type { Project } from "../../store/projects.ts";
import { findWebhook, type Webhook } from "../../store/webhooks.ts";
import { isPlainHost, refusesAddress } from "../../targets/http-api-address.ts";
import { givenName, projectMembers } from "../config-access/access-input.ts";
import { existingProject, type ProjectResource, projectResource } from "../configs/config-resource.ts";
import type { Call } from "../operation.ts";
import type { Services } from "../services.ts";

const maxConfigs = 1000;
const configNames = z.array(z.string().min(1).max(128)).max(maxConfigs).optional();
const text = z.string().min(1).max(4096);

export const webhookMembers = {
  Name: givenName.optional(),
  Secret: z.string().max(1024).optional(),
  Authentication: z
    .union([
      z.object({ Type: z.literal("None") }),
      z.object({ Type: z.literal("Bearer"), Token: text }),
      z.object({ Type: z.literal("Basic"), Username: z.string().max(1024), Password: text }),
    ])
    .optional(),
  Payload: z.string().max(65_536).optional(),
  EnableConfigs: configNames,
};
export const url = z.string().min(1).max(2048);
export const ofWebhook = z.object({ ...projectMembers, Id: z.string().min(1).max(64) });
type OfWebhook = z.infer<typeof ofWebhook>;

/** Members that no record of a call may hold. */
export const sensitiveMembers = ["Secret", "Authentication", "Payload"];

export interface GivenSecrets {
  readonly Secret?: string | undefined;
  readonly Authentication?:
    | { Type: "None" }
    | { Type: "Bearer"; Token: string }
    | { Type: "Basic"; Username: string; Password: string }
    | undefined;
}

/** A webhook as authorization sees it, whether it exists or not. */
export interface WebhookResource extends ProjectResource {
  readonly webhook: Webhook | undefined;
}

export async function webhookResource(input: OfWebhook, call: Call): Promise<WebhookResource> {
  const found = await projectResource(input, call);
  const webhook = found.project && (await findWebhook(call.sql, found.project.id, input.Id));
  const project = found.project?.id ?? input.Project ?? "";
  return { ...found, arn: webhookArn(call.services, project, input.Id), webhook };
}

/** Of webhooks of a project that are listed or made. */
export async function webhooksResource(input: { Project?: string | undefined }, call: Call): Promise<ProjectResource> {
  const found = await projectResource(input, call);
  return { ...found, arn: webhookArn(call.services, found.project?.id ?? input.Project ?? "", "*") };
}

/** @throws ServiceError ResourceNotFoundException */
export function existingWebhook(found: WebhookResource, id: string): { project: Project; webhook: Webhook } {
  const project = existingProject(found);
  if (!found.webhook) throw new ServiceError("ResourceNotFoundException", `Project ${project.id} has no webhook ${id}.`);
  return { project, webhook: found.webhook };
}

/** @throws ServiceError ValidationException */
function checkUrl(given: string | undefined): void {
  if (given === undefined) return;
  const parsed = URL.canParse(given) ? new URL(given) : undefined;
  const secure = parsed?.protocol === "https:" || (parsed?.protocol === "http:" && isPlainHost(parsed.hostname));
  if (!parsed || !secure || parsed.username !== "" || parsed.password !== "" || parsed.hash !== "") {
    throw new ServiceError("ValidationException", "Url must be an https:// address without user name and fragment.");
  }
  if (refusesAddress(parsed.hostname, [])(parsed.hostname))
    throw new ServiceError("ValidationException", "Url must not name an address of this machine's network or metadata.");
}

/** @throws ServiceError ValidationException */
export function checkMembers({ Url, Payload }: { Url?: string | undefined; Payload?: string | undefined }): void {
  checkUrl(Url);
  if (Payload) checkPayload(Payload);
}

/** With what is given in place of what was there; empty text takes the secret away. */
export function mergeSecrets(before: WebhookSecrets, { Secret, Authentication }: GivenSecrets): WebhookSecrets {
  const secret = Secret ?? before.secret;
  const authentication = Authentication === undefined ? before.authentication : toAuthentication(Authentication);
  return { ...(secret && { secret }), ...(authentication && authentication.type !== "None" && { authentication }) };
}

function toAuthentication(given: NonNullable<GivenSecrets["Authentication"]>): WebhookAuthentication {
  if (given.Type === "Bearer") return { type: "Bearer", token: given.Token };
  return given.Type === "Basic" ? { type: "Basic", username: given.Username, password: given.Password } : { type: "None" };
}

export async function sealSecrets(
  { envelope, keys, region }: Services,
  id: string,
  secrets: WebhookSecrets,
): Promise<SealedSecret | undefined> {
  if (Object.keys(secrets).length === 0) return undefined;
  const ringKey = await keys.resolve(undefined, region);
  return envelope.seal(new Plaintext(JSON.stringify(secrets)), { WebhookId: id }, ringKey.id);
}

export async function openSecrets({ envelope }: Services, { id, sealed }: Webhook): Promise<WebhookSecrets> {
  if (!sealed) return {};
  return JSON.parse((await envelope.open(sealed, { WebhookId: id })).revealText()) as WebhookSecrets;
}

/** Ids of a project's configs by their names. @throws ServiceError ResourceNotFoundException */
export async function configIds({ sql }: Call, projectId: string, names: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const name of new Set(names)) {
    const config = await findConfig(sql, projectId, name);
    if (!config) throw new ServiceError("ResourceNotFoundException", `Could not find config ${name} of project ${projectId}.`);
    ids.push(config.id);
  }
  return ids;
}

/** All configs of a project that are there now. */
export async function allConfigIds({ sql }: Call, projectId: string): Promise<string[]> {
  return (await listConfigs(sql, { projectId }, { limit: maxConfigs })).map(({ id }) => id);
}

/** A webhook as callers see it; its secret and credentials are not told. */
export async function shownWebhook(call: Call, webhook: Webhook): Promise<object> {
  const secrets = await openSecrets(call.services, webhook);
  const configs: Map<string, Config> = await loadConfigs(call.sql, webhook.configIds ?? []);
  const { authentication } = secrets;
  return {
    Id: webhook.id,
    Url: webhook.url,
    ...(webhook.name === undefined ? {} : { Name: webhook.name }),
    Enabled: webhook.enabled,
    Project: webhook.projectId,
    AllConfigs: webhook.configIds === undefined,
    EnabledConfigs: [...configs.values()].map(({ name }) => name).sort(),
    HasSecret: secrets.secret !== undefined,
    Authentication: {
      Type: authentication?.type ?? "None",
      ...(authentication?.type === "Basic" && { Username: authentication.username }),
    },
    ...(webhook.payload === undefined ? {} : { Payload: webhook.payload }),
    CreatedAt: new Date(webhook.createdAt),
  };
}
