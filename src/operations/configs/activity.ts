import type { Principal } from "../../core/principal.ts";
import { logActivity, type NewActivity } from "../../store/activity.ts";
import { addEvent } from "../../store/events.ts";
import type { Sql } from "../../store/sql.ts";
import type { Call } from "../operation.ts";

/** Who calls, as logs name them. */
export function who({ principal }: { readonly principal: Principal }): Pick<NewActivity, "principal" | "principalName"> {
  const { arn, kind, userName } = principal;
  const name = userName ?? (kind === "root" ? "root" : (arn.split("/").at(-1) ?? arn));
  return { principal: arn, principalName: name };
}

interface Told extends Omit<NewActivity, "at" | "principal" | "principalName"> {
  /** Type of the event, e.g. `project.created`. */
  readonly type: string;
  /** ARN of what changed. */
  readonly resource: string;
}

/** Logs what the caller did and tells subscribers, in the transaction of the change. The log entry's id. */
export async function tell(tx: Sql, call: Call, { type, resource, ...entry }: Told): Promise<string> {
  const logId = await logActivity(tx, { ...entry, ...who(call), at: call.startedAt });
  const { project = null, environment = null, config = null } = entry;
  await addEvent(tx, { at: call.startedAt, type, resource, detail: { project, environment, config, logId } });
  return logId;
}

/** After the commit: those that wait for these configs look again. */
export function hintConfigs({ services }: Call, configIds: Iterable<string>): void {
  for (const id of configIds) services.hints.give(`config/${id}`);
}
