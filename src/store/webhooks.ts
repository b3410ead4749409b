import { ServiceError } from "../core/error.ts";
import type { SealedSecret } from "./credentials.ts";
import type { Sql } from "./sql.ts";

/** Where changes of a project's configs are told. */
export interface Webhook {
  readonly id: string;
  readonly projectId: string;
  readonly name: string | undefined;
  readonly url: string;
  readonly enabled: boolean;
  /** Ids of the configs whose changes are told; undefined: of all, later ones too. */
  readonly configIds: readonly string[] | undefined;
  /** JSON that is sent in place of the usual body. */
  readonly payload: string | undefined;
  /** `WebhookSecrets` as JSON, encryption context `{WebhookId}`. */
  readonly sealed: SealedSecret | undefined;
  readonly createdAt: number;
}

interface WebhookRow {
  id: string;
  project_id: string;
  name: string | null;
  url: string;
  enabled: number;
  configs: string;
  payload: string | null;
  sealed: Uint8Array | null;
  wrapped_data_key: Uint8Array | null;
  key_id: string | null;
  key_version: number | null;
  created_at: number;
}

const maxPerProject = 100;

function toWebhook(row: WebhookRow): Webhook {
  const { sealed, wrapped_data_key: wrappedDataKey, key_id: keyId, key_version: keyVersion } = row;
  const isSealed = sealed !== null && wrappedDataKey !== null && keyId !== null && keyVersion !== null;
  return {
    id: row.id,
    projectId: row.project_id,
    name: row.name ?? undefined,
    url: row.url,
    enabled: row.enabled === 1,
    configIds: (JSON.parse(row.configs) as string[] | null) ?? undefined,
    payload: row.payload ?? undefined,
    sealed: isSealed ? { sealed, wrappedDataKey, keyId, keyVersion } : undefined,
    createdAt: row.created_at,
  };
}

const valuesOf = ({ id, name, url, enabled, configIds, payload, sealed }: Omit<Webhook, "projectId" | "createdAt">) => [
  id,
  name ?? null,
  url,
  enabled ? 1 : 0,
  JSON.stringify(configIds ?? null),
  payload ?? null,
  sealed?.sealed ?? null,
  sealed?.wrappedDataKey ?? null,
  sealed?.keyId ?? null,
  sealed?.keyVersion ?? null,
];

/** @throws ServiceError LimitExceededException; ResourceNotFoundException when the project is gone by now. */
export async function insertWebhook(tx: Sql, webhook: Webhook): Promise<void> {
  const lock = tx.dialect === "postgres" ? "for update" : "";
  const [project] = await tx.query(`select id from projects where id = $1 ${lock}`, [webhook.projectId]);
  if (!project) throw new ServiceError("ResourceNotFoundException", "The project does not exist any more.");
  const [row] = await tx.query<{ count: number }>("select count(*) as count from webhooks where project_id = $1", [
    webhook.projectId,
  ]);
  if (Number(row?.count) >= maxPerProject)
    throw new ServiceError("LimitExceededException", `A project can have ${maxPerProject} webhooks.`);
  await tx.query(
    `insert into webhooks (id, name, url, enabled, configs, payload, sealed, wrapped_data_key, key_id, key_version, project_id,
       created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [...valuesOf(webhook), webhook.projectId, webhook.createdAt],
  );
}

/** A project's webhooks, by age. */
export async function listWebhooks(sql: Sql, projectId: string): Promise<Webhook[]> {
  const text = "select * from webhooks where project_id = $1 order by created_at, id";
  return (await sql.query<WebhookRow>(text, [projectId])).map(toWebhook);
}

export async function findWebhook(sql: Sql, projectId: string, id: string): Promise<Webhook | undefined> {
  const [row] = await sql.query<WebhookRow>("select * from webhooks where id = $1 and project_id = $2", [id, projectId]);
  return row && toWebhook(row);
}

/** Of whatever project, for the engine. */
export async function loadWebhook(sql: Sql, id: string): Promise<Webhook | undefined> {
  const [row] = await sql.query<WebhookRow>("select * from webhooks where id = $1", [id]);
  return row && toWebhook(row);
}

/** Changes one as `change` says; what it was read with is locked meanwhile. Undefined when it is gone. */
export async function changeWebhook(
  tx: Sql,
  { projectId, id }: { projectId: string; id: string },
  change: (before: Webhook) => Webhook,
): Promise<Webhook | undefined> {
  const lock = tx.dialect === "postgres" ? "for update" : "";
  const [row] = await tx.query<WebhookRow>(`select * from webhooks where id = $1 and project_id = $2 ${lock}`, [id, projectId]);
  if (!row) return undefined;
  const after = change(toWebhook(row));
  await tx.query(
    `update webhooks set name = $2, url = $3, enabled = $4, configs = $5, payload = $6, sealed = $7, wrapped_data_key = $8,
       key_id = $9, key_version = $10 where id = $1`,
    valuesOf(after),
  );
  return after;
}

/** Takes its deliveries with it. False when there is none. */
export async function deleteWebhook(tx: Sql, projectId: string, id: string): Promise<boolean> {
  await tx.query(
    "delete from webhook_deliveries where webhook_id in (select id from webhooks where id = $1 and project_id = $2)",
    [id, projectId],
  );
  return (await tx.query("delete from webhooks where id = $1 and project_id = $2 returning id", [id, projectId])).length > 0;
}
