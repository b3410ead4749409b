import { z } from "zod";
import { defineOperation } from "../operation.ts";

const input = z.object({});

/** Needs no permission. Source: STS API reference, GetCallerIdentity. */
export const getCallerIdentityOperation = defineOperation<z.infer<typeof input>, { arn: string; context: Record<string, never> }>(
  {
    name: "GetCallerIdentity",
    noun: "sts",
    verb: "get-caller-identity",
    mode: "read",
    summary: "Tells who the caller is.",
    input,
    resource: (_input, { principal }) => ({ arn: principal.arn, context: {} }),
    run: (_input, _found, { principal: { userId, accountId, arn } }) =>
      Promise.resolve({ UserId: userId, Account: accountId, Arn: arn }),
  },
);
