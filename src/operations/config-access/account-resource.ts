import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { userArn } from "../../core/identity.ts";
import type { User } from "../../store/identity.ts";
import { findServiceAccount } from "../../store/service-accounts.ts";
import type { Call, Resource } from "../operation.ts";

/** Its id or its name. */
export const accountName = z.string().min(1).max(64);

/** A service account as authorization sees it, whether it exists or not: a user of its name. */
export interface AccountResource extends Resource {
  readonly account: User | undefined;
}

export async function accountResource(idOrName: string, call: Call): Promise<AccountResource> {
  const account = await findServiceAccount(call.sql, idOrName);
  const arn = userArn(call.account, account?.name ?? idOrName);
  return { arn, shown: `service account ${idOrName}`, context: {}, account };
}

/** @throws ServiceError ResourceNotFoundException */
export function existingAccount({ account, shown }: AccountResource): User {
  if (!account) throw new ServiceError("ResourceNotFoundException", `There is no ${shown}.`);
  return account;
}
