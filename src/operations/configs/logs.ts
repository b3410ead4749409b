import { z } from "zod";
import { type ConfigChange, checkDocument, diffDocuments } from "../../core/config-document.ts";
import { ServiceError } from "../../core/error.ts";
import { workplaceArn } from "../../core/rekey-arn.ts";
import { type Activity, findActivity, listActivity } from "../../store/activity.ts";
import type { Config } from "../../store/configs.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { changeValues } from "./change-values.ts";
import { configMembers, refused } from "./config-input.ts";
import { type ConfigResource, configResource, existingConfig } from "./config-resource.ts";
import { ConfigReader } from "./config-values.ts";
import { paging, readPage } from "./paging.ts";
import { seesRestricted } from "./shown-values.ts";

const listInput = z.object({ ...configMembers, ...paging });

/** Source: Doppler API reference, "Config logs", List. */
const listConfigLogs = defineOperation<z.infer<typeof listInput>, ConfigResource>({
  name: "ListConfigLogs",
  action: "rekey:ListConfigLogs",
  noun: "configs",
  verb: "logs",
  mode: "read",
  summary: "Lists what was done to a config, newest first.",
  input: listInput,
  resource: configResource,
  async run(request, found, { sql }) {
    const { id: configId } = existingConfig(found);
    const { rows, NextToken } = await readPage(request, {
      scope: `config logs ${configId}`,
      fetch: (page) => listActivity(sql, { configId }, page),
      key: ({ position }) => String(position),
    });
    return { Logs: rows.map(shownLog), NextToken };
  },
});

const ofLog = z.object({ ...configMembers, LogId: z.string().min(1).max(64) });
type OfLog = z.infer<typeof ofLog>;

/** Source: Doppler API reference, "Config logs", Retrieve. */
const getConfigLog = defineOperation<OfLog, ConfigResource>({
  name: "GetConfigLog",
  action: "rekey:GetConfigLog",
  noun: "configs",
  verb: "log",
  mode: "read",
  summary: "Shows an entry of a config's log; what changed, with values for those who may read them (rekey:GetConfigSecrets).",
  input: ofLog,
  resource: configResource,
  async run({ LogId }, found, call) {
    const config = existingConfig(found);
    const log = await logOf(call, config, LogId);
    const diff = await shownDiff(call, found, config, log);
    return { Log: { ...shownLog(log), ...(diff && { Diff: diff }) } };
  },
});

/** Values are left out where the caller may not read them, and where they are not kept any more. */
async function shownDiff(call: Call, found: ConfigResource, config: Config, log: Activity) {
  if (log.toVersion === undefined) return undefined;
  const namesOnly = log.names.map((Name) => ({ Name }));
  if (call.may("rekey:GetConfigSecrets", found) !== undefined) return namesOnly;
  refuseUntrusted(call, config);
  const changes = await changesOf(call, config, log).catch(ifGone);
  const all = seesRestricted(call.principal);
  return (
    changes?.map(({ name, added, removed, restricted }) => ({
      Name: name,
      ...(all || !restricted ? { Added: added, Removed: removed } : { Restricted: true }),
    })) ?? namesOnly
  );
}

function ifGone(error: unknown): undefined {
  if (error instanceof ServiceError && error.code === "ResourceNotFoundException") return undefined;
  throw error;
}

async function changesOf(call: Call, config: Config, { fromVersion = 0, toVersion = 0 }: Activity): Promise<ConfigChange[]> {
  const reader = new ConfigReader(call.services);
  return diffDocuments(await reader.own(config, fromVersion), await reader.own(config, toVersion));
}

/** Source: Doppler API reference, "Config logs", Rollback; documentation, "Versioning". */
const rollbackConfig = defineOperation<OfLog, ConfigResource>({
  name: "RollbackConfig",
  action: "rekey:RollbackConfig",
  noun: "configs",
  verb: "rollback",
  mode: "write",
  summary: "Undoes the change of one log entry by a new version: the values it changed become what they were before it.",
  input: ofLog,
  resource: configResource,
  permissions: (_input, found) => [{ action: "rekey:SetConfigSecrets", resource: found }],
  async run({ LogId }, found, call) {
    const config = existingConfig(found);
    refuseUntrusted(call, config);
    const log = await logOf(call, config, LogId);
    if (log.toVersion === undefined) throw refused("This entry of the log changed no values: there is nothing to roll back.");
    const reader = new ConfigReader(call.services);
    const then = await reader.own(config, log.fromVersion ?? 0);
    const undone = await changesOf(call, config, log);
    const decide = (own: ReadonlyMap<string, { readonly visibility?: string }>) => {
      const after = new Map(own) as Map<string, NonNullable<ReturnType<typeof then.get>>>;
      for (const { name } of undone) {
        const before = then.get(name);
        if (own.get(name)?.visibility === "restricted" && before?.visibility !== "restricted") requireMachine(call, name);
        if (before) after.set(name, before);
        else after.delete(name);
      }
      checkDocument(after);
      return after;
    };
    const done = await changeValues(call, config.id, ({ own }) => ({ own: decide(own) }), true);
    if (done.logId === undefined)
      throw refused("There is nothing to roll back: what this entry changed is as it was before it already.");
    return { Log: shownLog(await logOf(call, config, done.logId)) };
  },
});

function requireMachine(call: Call, name: string): void {
  if (!seesRestricted(call.principal))
    throw new ServiceError(
      "AccessDeniedException",
      `Secret ${name} is restricted now: people cannot bring back a value that was not.`,
    );
}

async function logOf(call: Call, config: Config, logId: string): Promise<Activity> {
  const log = await findActivity(call.sql, logId);
  if (log?.configId !== config.id)
    throw new ServiceError("ResourceNotFoundException", `Could not find log ${logId} of config ${config.name}.`);
  return log;
}

const activity = (_input: unknown, { services }: Call): Resource => ({ arn: workplaceArn(services), context: {} });
const activityInput = z.object(paging);

/** Source: Doppler API reference, "Activity logs", List. */
const listActivityLogs = defineOperation<z.infer<typeof activityInput>, Resource>({
  name: "ListActivityLogs",
  action: "rekey:ListActivityLogs",
  noun: "activity",
  verb: "list",
  mode: "read",
  summary: "Lists what people and programs did to projects, configs and all that belongs to them, newest first.",
  input: activityInput,
  resource: activity,
  async run(request, _found, { sql }) {
    const { rows, NextToken } = await readPage(request, {
      scope: "activity logs",
      fetch: (page) => listActivity(sql, {}, page),
      key: ({ position }) => String(position),
    });
    return { Logs: rows.map(shownLog), NextToken };
  },
});

const ofActivity = z.object({ LogId: z.string().min(1).max(64) });

/** Source: Doppler API reference, "Activity logs", Retrieve. */
const getActivityLog = defineOperation<z.infer<typeof ofActivity>, Resource>({
  name: "GetActivityLog",
  action: "rekey:GetActivityLog",
  noun: "activity",
  verb: "get",
  mode: "read",
  summary: "Shows one entry of the activity log.",
  input: ofActivity,
  resource: activity,
  async run({ LogId }, _found, { sql }) {
    const log = await findActivity(sql, LogId);
    if (!log) throw new ServiceError("ResourceNotFoundException", `Could not find log ${LogId}.`);
    return { Log: shownLog(log) };
  },
});

function shownLog(log: Activity) {
  return {
    Id: log.logId,
    Text: log.text,
    CreatedAt: new Date(log.at),
    Project: log.project,
    Environment: log.environment,
    Config: log.config,
    User: { Name: log.principalName, Arn: log.principal },
    Rollback: log.isRollback,
  };
}

export const logOperations: readonly Operation[] = [
  listConfigLogs,
  getConfigLog,
  rollbackConfig,
  listActivityLogs,
  getActivityLog,
];
