import { randomUUID } from "node:crypto";
import type { NamesDiff } from "../core/webhook.ts";
import type { Sql } from "./sql.ts";
import { listWebhooks } from "./webhooks.ts";
import { readWorkplace } from "./workplace.ts";

/** A change that webhooks are told of; names only. */
export interface WebhookEvent {
  readonly projectId: string;
  readonly configId: string;
  /** `config.secrets.update` */
  readonly type: string;
  readonly diff: NamesDiff;
  readonly at: number;
}

/** What is to be sent, or was. */
export interface Delivery {
  readonly id: string;
  readonly webhookId: string;
  /** The body, JSON. */
  readonly event: string;
  /** How often it was begun to be sent. */
  readonly attempt: number;
  readonly runAt: number;
  readonly fence: number;
  /** `delivered`, `failed`, `canceled`; of one that goes on, how the last try ended. */
  readonly outcome: string | undefined;
  readonly error: string | undefined;
  readonly createdAt: number;
  readonly endedAt: number | undefined;
}

type DeliveryRow = Omit<Delivery, "outcome" | "error" | "endedAt"> & {
  outcome: string | null;
  error: string | null;
  endedAt: number | null;
};

const columns = `id, webhook_id as "webhookId", event, attempt, run_at as "runAt", fence, outcome, error, created_at as "createdAt",
  ended_at as "endedAt"`;
const toDelivery = (row: DeliveryRow): Delivery => ({
  ...row,
  outcome: row.outcome ?? undefined,
  error: row.error ?? undefined,
  endedAt: row.endedAt ?? undefined,
});

/**
 * Queues the deliveries of a change in its own transaction, one for each webhook that is told of the config. How many; when
 * there are any, the engine may be woken after the commit.
 */
export async function queueWebhooks(tx: Sql, { projectId, configId, type, diff, at }: WebhookEvent): Promise<number> {
  const webhooks = await listWebhooks(tx, projectId);
  const told = webhooks.filter(({ enabled, configIds }) => enabled && (configIds?.includes(configId) ?? true));
  if (told.length === 0) return 0;
  const event = await describe(tx, projectId, configId);
  if (!event) return 0;
  const body = JSON.stringify({ type, ...event, diff });
  for (const { id } of told) {
    await tx.query(
      `insert into webhook_deliveries (id, webhook_id, event, attempt, run_at, fence, created_at) values ($1, $2, $3, 0, $4, 0, $4)`,
      [randomUUID(), id, body, at],
    );
  }
  return told.length;
}

interface ConfigRow {
  name: string;
  environment: string;
  created_at: number;
  project_name: string;
  description: string | null;
  project_created_at: number;
}

/** The config, project and workplace as a delivery tells of them; undefined when the config is gone. */
async function describe(tx: Sql, projectId: string, configId: string): Promise<object | undefined> {
  const [row] = await tx.query<ConfigRow>(
    `select c.name, c.environment, c.created_at, p.name as project_name, p.description, p.created_at as project_created_at
       from configs c join projects p on p.id = c.project_id where c.id = $1 and p.id = $2`,
    [configId, projectId],
  );
  if (!row) return undefined;
  const { id, name, billingEmail } = await readWorkplace(tx);
  return {
    config: { name: row.name, environment: row.environment, project: projectId, created_at: isoTime(row.created_at) },
    project: {
      id: projectId,
      name: row.project_name,
      description: row.description ?? "",
      created_at: isoTime(row.project_created_at),
    },
    workplace: { id, name, billing_email: billingEmail },
  };
}

const isoTime = (ms: number): string => new Date(ms).toISOString();

export async function anyDeliveryDue(sql: Sql, nowMs: number): Promise<boolean> {
  const text = "select 1 as due from webhook_deliveries where ended_at is null and run_at <= $1 limit 1";
  return (await sql.query(text, [nowMs])).length > 0;
}

/**
 * Takes deliveries that are due, those due longest first: each is due again when the claim ends, so that one whose sender dies
 * is sent again.
 */
export async function claimDeliveries(
  tx: Sql,
  { node, nowMs, untilMs, limit }: { node: string; nowMs: number; untilMs: number; limit: number },
): Promise<Delivery[]> {
  const due = await tx.query<DeliveryRow>(
    `select ${columns} from webhook_deliveries where ended_at is null and run_at <= $1 order by run_at limit $2
     ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  for (const { id } of due) {
    await tx.query(
      `update webhook_deliveries set claim_node = $2, claim_until = $3, run_at = $3, fence = fence + 1, attempt = attempt + 1
       where id = $1`,
      [id, node, untilMs],
    );
  }
  return due.map((row) => ({ ...toDelivery(row), fence: row.fence + 1, attempt: row.attempt + 1 }));
}

type Claimed = Pick<Delivery, "id" | "fence">;

/** False when somebody else took it meanwhile; then nothing is changed. */
export async function endDelivery(
  tx: Sql,
  { id, fence }: Claimed,
  { outcome, error, at }: { outcome: "delivered" | "failed" | "canceled"; error?: string | undefined; at: number },
): Promise<boolean> {
  const rows = await tx.query(
    `update webhook_deliveries set ended_at = $3, outcome = $4, error = $5, claim_node = null, claim_until = null
     where id = $1 and fence = $2 and ended_at is null returning id`,
    [id, fence, at, outcome, error ?? null],
  );
  return rows.length > 0;
}

/** Plans another try. One that was not begun at all, for want of room, gives its attempt back. */
export async function postponeDelivery(
  sql: Sql,
  { id, fence }: Claimed,
  { runAt, outcome, error, begun }: { runAt: number; outcome?: string; error?: string; begun: boolean },
): Promise<void> {
  await sql.query(
    `update webhook_deliveries set run_at = $3, outcome = coalesce($4, outcome), error = coalesce($5, error),
       attempt = attempt - $6, claim_node = null, claim_until = null where id = $1 and fence = $2 and ended_at is null`,
    [id, fence, runAt, outcome ?? null, error ?? null, begun ? 0 : 1],
  );
}

/** A webhook's deliveries, the newest first; `before`: the last one of the page before. */
export async function listDeliveries(
  sql: Sql,
  { webhookId, limit, before }: { webhookId: string; limit: number; before?: { createdAt: number; id: string } | undefined },
): Promise<Delivery[]> {
  const rows = await sql.query<DeliveryRow>(
    `select ${columns} from webhook_deliveries where webhook_id = $1 and (created_at, id) < ($2, $3)
       order by created_at desc, id desc limit $4`,
    [webhookId, before?.createdAt ?? Number.MAX_SAFE_INTEGER, before?.id ?? "", limit],
  );
  return rows.map(toDelivery);
}

const removedAtOnce = 500;

/** Removes what a webhook was told, a page at a time, before the webhook itself is removed: then little is left to go with it. */
export async function clearDeliveries(sql: Sql, webhookId: string): Promise<void> {
  for (let removed = removedAtOnce; removed === removedAtOnce; ) {
    const rows = await sql.query(
      `delete from webhook_deliveries where id in (select id from webhook_deliveries where webhook_id = $1 and ended_at is not null
         limit $2) returning id`,
      [webhookId, removedAtOnce],
    );
    removed = rows.length;
  }
}

/** As `clearDeliveries`, of all webhooks of a project. */
export async function clearDeliveriesOf(sql: Sql, projectId: string): Promise<void> {
  for (const { id } of await listWebhooks(sql, projectId)) await clearDeliveries(sql, id);
}
