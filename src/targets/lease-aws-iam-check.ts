import { RotatorError } from "../core/error.ts";
import { type AwsCalls, CallFailed } from "./aws-calls.ts";
import type { AwsConnection } from "./lease-aws-connection.ts";
import { groupActions, type LeasePath, userActions } from "./lease-aws-iam-policy.ts";
import { IamUsers } from "./lease-aws-iam-users.ts";
import type { LeaseFinding, LeaseTools } from "./lease-target.ts";

interface Looked {
  readonly calls: AwsCalls;
  readonly connection: AwsConnection;
  readonly settings: { readonly path: LeasePath; readonly groups?: readonly string[] | undefined };
  readonly tools: LeaseTools;
}

const remedyFor = (path: LeasePath): string =>
  `Give it the policy that \`rekey integration policy aws-iam --path ${path}\` prints.`;

/**
 * Which rights of the managing user are missing. IAM tells it by simulation where that is allowed; a question about a user that
 * does not exist tells nothing, since IAM denies it to whoever has rights under a path only.
 */
export async function checkRights({
  calls,
  connection,
  settings: { path, groups = [] },
  tools,
}: Looked): Promise<LeaseFinding[]> {
  const { arn, account } = await calls.identity();
  const findings: LeaseFinding[] = [];
  if (connection.account !== undefined && connection.account !== account) {
    const problem = `the managing credential is of AWS account ${account}, and the integration's account is ${connection.account}`;
    return [{ problem, remedy: "Correct account, or the access key." }];
  }
  const listing = await refusalOf(() => new IamUsers(calls, tools).list(path));
  if (listing) findings.push({ problem: `${listing} under ${path}`, remedy: remedyFor(path) });
  const partition = arn.split(":")[1];
  const user = `arn:${partition}:iam::${account}:user${path}Rekey-Dynamic-check`;
  const asked = [
    { actions: userActions.filter((action) => action !== "iam:ListUsers"), resource: user },
    ...groups.map((group) => ({ actions: groupActions, resource: `arn:${partition}:iam::${account}:group/${group}` })),
  ];
  const source = connection.roleArn ?? arn;
  for (const { actions, resource } of asked) {
    const denied = await simulate(calls, source, actions, resource);
    if (denied === undefined) return [...findings, unknownRights(path)];
    if (denied.length > 0)
      findings.push({ problem: `${source} may not do ${denied.join(", ")} on ${resource}`, remedy: remedyFor(path) });
  }
  return findings;
}

/** The actions that would be denied; `undefined` when there is no simulation to be had. */
async function simulate(
  calls: AwsCalls,
  source: string,
  actions: readonly string[],
  resource: string,
): Promise<string[] | undefined> {
  const { SimulatePrincipalPolicyCommand } = await import("@aws-sdk/client-iam");
  const command = new SimulatePrincipalPolicyCommand({
    PolicySourceArn: source,
    ActionNames: [...actions],
    ResourceArns: [resource],
  });
  try {
    const { EvaluationResults: results = [] } = await calls.iam("iam:SimulatePrincipalPolicy", (client, options) =>
      client.send(command, options),
    );
    return results.flatMap(({ EvalActionName: name, EvalDecision: decision }) =>
      name !== undefined && decision !== "allowed" ? [name] : [],
    );
  } catch (error) {
    if (error instanceof CallFailed) return undefined; // what IAM's own list has told already stands
    throw error;
  }
}

const unknownRights = (path: LeasePath): LeaseFinding => ({
  problem: "whether the managing credential may make and delete users is not known: IAM did not let it ask about itself",
  remedy: `Allow iam:SimulatePrincipalPolicy on itself to have it looked at. ${remedyFor(path)}`,
  warning: true,
});

async function refusalOf(work: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof RotatorError && error.outcome === "denied") return error.message;
    throw error;
  }
}
