import { ServiceError } from "../../core/error.ts";
import type { Policy } from "../../core/policy.ts";
import { findRole, findUser } from "../../store/identity.ts";
import type { Call } from "../operation.ts";

/**
 * Refuses a policy whose principals are not there: users and roles of this account must exist, other accounts have none here.
 * @throws ServiceError MalformedPolicyDocumentException, as AWS does for unknown principals
 */
export async function checkPrincipals(policy: Policy, call: Call): Promise<void> {
  for (const { principals } of policy.statements) {
    for (const account of principals?.accounts ?? []) if (account !== call.account) throw unsupported();
    for (const arn of principals?.arns ?? []) if (!(await exists(arn, call))) throw unsupported();
  }
}

async function exists(arn: string, { account, sql }: Call): Promise<boolean> {
  const [, , , , owner, ...rest] = arn.split(":");
  if (owner !== account) return false;
  const [type, ...names] = rest.join(":").split("/");
  if (type === "user") return (await findUser(sql, names.at(-1) ?? "")) !== undefined;
  const role = type === "assumed-role" ? names[0] : names.at(-1);
  return (await findRole(sql, role ?? "")) !== undefined;
}

function unsupported(): ServiceError {
  return new ServiceError("MalformedPolicyDocumentException", "This resource policy contains an unsupported principal.");
}
