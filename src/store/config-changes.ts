import type { NamesDiff } from "../core/webhook.ts";
import { logActivity, type NewActivity } from "./activity.ts";
import { raiseGenerations } from "./config-generations.ts";
import type { Config } from "./configs.ts";
import { addEvent } from "./events.ts";
import type { Sql } from "./sql.ts";
import { queueWebhooks } from "./webhook-deliveries.ts";

/** What changed in a config's values, whoever or whatever changed it. */
export interface ConfigChange extends Pick<NewActivity, "at" | "principal" | "principalName" | "text" | "isRollback"> {
  readonly config: Pick<Config, "id" | "projectId" | "environment" | "name">;
  /** ARN of the config. */
  readonly arn: string;
  /** Names whose values were added, changed or removed. */
  readonly names: readonly string[];
  /** How they changed; absent: all got other values. */
  readonly diff?: NamesDiff;
  readonly fromVersion?: number;
  readonly toVersion?: number;
}

/**
 * Tells, in the transaction of a change of a config's values, all that are to know: the config's log, subscribers of events,
 * and by their generations the configs that read it. `raised` get a hint after the commit, `config/ID`.
 */
export async function recordConfigChange(tx: Sql, change: ConfigChange): Promise<{ logId: string; raised: string[] }> {
  const { config, arn, diff = { added: [], removed: [], updated: change.names }, ...about } = change;
  const raised = await raiseGenerations(tx, [config.id]);
  const place = { project: config.projectId, environment: config.environment, config: config.name };
  const logId = await logActivity(tx, { ...about, ...place, configId: config.id });
  const detail = { ...place, logId, names: about.names.slice(0, shownNames).join(","), principal: about.principal };
  await addEvent(tx, { at: about.at, type: "config.changed", resource: arn, detail });
  const { id: configId, projectId } = config;
  await queueWebhooks(tx, { projectId, configId, type: "config.secrets.update", diff, at: about.at });
  return { logId, raised };
}

/** As many stand in an event; the log has all. */
const shownNames = 100;
