import { randomUUID } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { logActivity } from "../../store/activity.ts";
import { clearDeliveries, listDeliveries } from "../../store/webhook-deliveries.ts";
import { changeWebhook, deleteWebhook, insertWebhook, listWebhooks, type Webhook } from "../../store/webhooks.ts";
import { actor, projectMembers } from "../config-access/access-input.ts";
import { existingProject, type ProjectResource } from "../configs/config-resource.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import {
  allConfigIds,
  checkMembers,
  configIds,
  existingWebhook,
  mergeSecrets,
  ofWebhook,
  openSecrets,
  sealSecrets,
  sensitiveMembers,
  shownWebhook,
  url,
  type WebhookResource,
  webhookMembers,
  webhookResource,
  webhooksResource,
} from "./webhook-input.ts";

const ofProject = z.object(projectMembers);
const createInput = z.object({ ...projectMembers, Url: url, ...webhookMembers });
const updateInput = z.object({
  ...ofWebhook.shape,
  Url: url.optional(),
  ...webhookMembers,
  DisableConfigs: webhookMembers.EnableConfigs,
  AllConfigs: z.boolean().optional(),
});
type UpdateInput = z.infer<typeof updateInput>;
type OfWebhook = z.infer<typeof ofWebhook>;

const createWebhook = defineOperation<z.infer<typeof createInput>, ProjectResource>({
  name: "CreateWebhook",
  action: "rekey:CreateWebhook",
  noun: "webhooks",
  verb: "create",
  mode: "write",
  summary: "Tells a URL of changes in a project's configs: names of secrets, never values. Without EnableConfigs of all configs.",
  input: createInput,
  sensitive: sensitiveMembers,
  check: checkMembers,
  resource: webhooksResource,
  async run(input, found, call) {
    const { id: projectId } = existingProject(found);
    const id = randomUUID();
    const webhook: Webhook = {
      id,
      projectId,
      name: input.Name,
      url: input.Url,
      enabled: true,
      configIds: input.EnableConfigs && (await configIds(call, projectId, input.EnableConfigs)),
      payload: input.Payload || undefined,
      sealed: await sealSecrets(call.services, id, mergeSecrets({}, input)),
      createdAt: call.services.now(),
    };
    await call.transaction(async (tx) => {
      await insertWebhook(tx, webhook);
      await logActivity(tx, { ...actor(call), project: projectId, text: `created ${named(webhook)}` });
    });
    return { Webhook: await shownWebhook(call, webhook) };
  },
});

const listWebhooksOperation = defineOperation<z.infer<typeof ofProject>, ProjectResource>({
  name: "ListWebhooks",
  action: "rekey:ListWebhooks",
  noun: "webhooks",
  verb: "list",
  mode: "read",
  summary: "Lists a project's webhooks.",
  input: ofProject,
  resource: webhooksResource,
  async run(_input, found, call) {
    const webhooks = await listWebhooks(call.sql, existingProject(found).id);
    return { Webhooks: await Promise.all(webhooks.map((webhook) => shownWebhook(call, webhook))) };
  },
});

const getWebhook = defineOperation<OfWebhook, WebhookResource>({
  name: "GetWebhook",
  action: "rekey:GetWebhook",
  noun: "webhooks",
  verb: "get",
  mode: "read",
  summary: "Shows a webhook, without its secret.",
  input: ofWebhook,
  resource: webhookResource,
  run: async ({ Id }, found, call) => ({ Webhook: await shownWebhook(call, existingWebhook(found, Id).webhook) }),
});

/** Which configs it is told of after a change. @throws ServiceError ResourceNotFoundException */
async function nextConfigs(input: UpdateInput, webhook: Webhook, call: Call): Promise<readonly string[] | undefined> {
  const { EnableConfigs = [], DisableConfigs = [], AllConfigs } = input;
  if (AllConfigs === true) return undefined;
  if (AllConfigs === undefined && EnableConfigs.length + DisableConfigs.length === 0) return webhook.configIds;
  const all = webhook.configIds === undefined && AllConfigs === undefined;
  if (all && DisableConfigs.length === 0) return undefined;
  const before = all ? await allConfigIds(call, webhook.projectId) : (webhook.configIds ?? []);
  const enabled = await configIds(call, webhook.projectId, EnableConfigs);
  const disabled = new Set(await configIds(call, webhook.projectId, DisableConfigs));
  return [...new Set([...before, ...enabled])].filter((id) => !disabled.has(id));
}

const updateWebhook = defineOperation<UpdateInput, WebhookResource>({
  name: "UpdateWebhook",
  action: "rekey:UpdateWebhook",
  noun: "webhooks",
  verb: "update",
  mode: "write",
  summary: "Changes what is given of a webhook; an empty Secret or Payload takes it away.",
  input: updateInput,
  sensitive: sensitiveMembers,
  check: checkMembers,
  resource: webhookResource,
  async run(input, found, call) {
    const { webhook } = existingWebhook(found, input.Id);
    // Where the URL leads elsewhere, its credentials would go there too, and what its secret signs: whoever changes it gives them anew.
    const moved = input.Url !== undefined && new URL(input.Url).origin !== new URL(webhook.url).origin;
    const known = await openSecrets(call.services, webhook);
    const missing = [
      ...(known.authentication && input.Authentication === undefined ? ["Authentication"] : []),
      ...(known.secret && input.Secret === undefined ? ["Secret"] : []),
    ];
    if (moved && missing.length > 0)
      throw new ServiceError(
        "ValidationException",
        `Give ${missing.join(" and ")} with a Url of another host: it would be used there.`,
      );
    const sealed = await sealSecrets(call.services, webhook.id, mergeSecrets(known, input));
    const next = await nextConfigs(input, webhook, call);
    const after: Webhook = {
      ...webhook,
      name: input.Name ?? webhook.name,
      url: input.Url ?? webhook.url,
      configIds: next,
      payload: input.Payload === undefined ? webhook.payload : input.Payload || undefined,
      sealed,
    };
    return { Webhook: await change(call, webhook, (before) => ({ ...after, enabled: before.enabled }), "changed") };
  },
});

function switching(verb: "enable" | "disable"): Operation {
  return defineOperation<OfWebhook, WebhookResource>({
    name: verb === "enable" ? "EnableWebhook" : "DisableWebhook",
    action: "rekey:UpdateWebhook",
    noun: "webhooks",
    verb,
    mode: "write",
    summary:
      verb === "enable"
        ? "Tells a webhook of changes from now on."
        : "Tells a webhook of no more changes; what waits is not sent.",
    input: ofWebhook,
    resource: webhookResource,
    async run({ Id }, found, call) {
      const { webhook } = existingWebhook(found, Id);
      const set = (before: Webhook) => ({ ...before, enabled: verb === "enable" });
      return { Webhook: await change(call, webhook, set, `${verb}d`) };
    },
  });
}

async function change(call: Call, { projectId, id }: Webhook, set: (before: Webhook) => Webhook, did: string): Promise<object> {
  const after = await call.transaction(async (tx) => {
    const changed = await changeWebhook(tx, { projectId, id }, set);
    if (!changed) throw new ServiceError("ResourceNotFoundException", "The webhook does not exist any more.");
    await logActivity(tx, { ...actor(call), project: projectId, text: `${did} ${named(changed)}` });
    return changed;
  });
  return shownWebhook(call, after);
}

const deleteWebhookOperation = defineOperation<OfWebhook, WebhookResource>({
  name: "DeleteWebhook",
  action: "rekey:DeleteWebhook",
  noun: "webhooks",
  verb: "delete",
  mode: "write",
  summary: "Removes a webhook with its deliveries; what waits is not sent.",
  input: ofWebhook,
  resource: webhookResource,
  async run({ Id }, found, call) {
    const { project, webhook } = existingWebhook(found, Id);
    await clearDeliveries(call.sql, webhook.id);
    await call.transaction(async (tx) => {
      await deleteWebhook(tx, project.id, webhook.id);
      await logActivity(tx, { ...actor(call), project: project.id, text: `deleted ${named(webhook)}` });
    });
    return {};
  },
});

const deliveriesInput = z.object({
  ...ofWebhook.shape,
  MaxResults: z.number().int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(256).optional(),
});

const listDeliveriesOperation = defineOperation<z.infer<typeof deliveriesInput>, WebhookResource>({
  name: "ListDeliveries",
  action: "rekey:ListDeliveries",
  noun: "webhooks",
  verb: "list-deliveries",
  mode: "read",
  summary: "Lists what a webhook was told or is to be told, the newest first, with tries and why they failed.",
  input: deliveriesInput,
  resource: webhookResource,
  async run({ Id, MaxResults, NextToken }, found, call) {
    const { webhook } = existingWebhook(found, Id);
    const before = NextToken === undefined ? undefined : readToken(NextToken);
    const rows = await listDeliveries(call.sql, { webhookId: webhook.id, limit: MaxResults + 1, before });
    const last = rows.length > MaxResults ? rows[MaxResults - 1] : undefined;
    return {
      Deliveries: rows.slice(0, MaxResults).map((row) => ({
        Id: row.id,
        Event: row.event,
        State: row.endedAt === undefined ? (row.attempt === 0 ? "waiting" : "retrying") : row.outcome,
        Attempts: row.attempt,
        CreatedAt: new Date(row.createdAt),
        ...(row.error === undefined ? {} : { Error: row.error }),
        ...(row.endedAt === undefined ? { NextTryAt: new Date(row.runAt) } : { EndedAt: new Date(row.endedAt) }),
      })),
      ...(last && { NextToken: `${last.createdAt}/${last.id}` }),
    };
  },
});

function readToken(token: string): { createdAt: number; id: string } {
  const [createdAt = "", id = ""] = token.split("/");
  if (!/^\d{1,15}$/.test(createdAt)) throw new ServiceError("InvalidNextTokenException", "NextToken is not one of this list.");
  return { createdAt: Number(createdAt), id };
}

const named = ({ id, name }: Webhook): string => `webhook ${name ?? id}`;

export const webhookOperations: readonly Operation[] = [
  createWebhook,
  listWebhooksOperation,
  getWebhook,
  updateWebhook,
  switching("enable"),
  switching("disable"),
  deleteWebhookOperation,
  listDeliveriesOperation,
];
