import { ServiceError } from "../../core/error.ts";
import { integrationArn } from "../../core/rekey-arn.ts";
import { addEvent } from "../../store/events.ts";
import { type Integration, lockIntegration } from "../../store/integrations.ts";
import type { Sql } from "../../store/sql.ts";
import type { Call } from "../operation.ts";

export function nameTaken(name: string): ServiceError {
  return new ServiceError("ResourceExistsException", `An integration named ${name} exists already.`);
}

/** As it was read, for the transaction that changes it. @throws ServiceError InvalidRequestException */
export async function lockAsRead(tx: Sql, before: Integration): Promise<Integration> {
  const locked = await lockIntegration(tx, before.id);
  if (locked?.version === before.version) return locked;
  throw new ServiceError("InvalidRequestException", "The integration was changed or deleted meanwhile; look and try again.");
}

export async function tell(
  tx: Sql,
  { services, startedAt: at, principal }: Call,
  type: string,
  { id, name, type: kindOf }: Integration,
): Promise<void> {
  await addEvent(tx, {
    at,
    type,
    resource: integrationArn(services, id),
    detail: { name, kind: kindOf, principal: principal.arn },
  });
}
