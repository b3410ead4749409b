import { randomUUID } from "node:crypto";
import { userInfo } from "node:os";
import type { Config } from "../config.ts";
import { rootArn } from "../core/identity.ts";
import { auditKeyPurpose } from "../open-store.ts";
import type { LocalStore } from "./local-store.ts";

/**
 * Puts what a command did on the store itself into the audit trail, under the name of the system's user. Call it before the
 * change, so that no change goes unrecorded.
 */
export async function recordLocally(
  config: Config,
  { sql, keys }: LocalStore,
  action: string,
  parameters: object,
): Promise<void> {
  const { openAudit } = await import("../store/audit.ts");
  const dir = config.databaseUrl === undefined ? { dir: config.data } : {};
  await using audit = await openAudit({ sql, key: keys.deriveKey(auditKeyPurpose), ...dir });
  await audit.append({
    requestId: randomUUID(),
    at: Date.now(),
    principal: `local:${userInfo().username}`,
    action,
    resource: rootArn(config.account),
    region: config.region,
    sourceIp: "",
    userAgent: "rekey command line",
    parameters,
    outcome: "ok",
  });
}
