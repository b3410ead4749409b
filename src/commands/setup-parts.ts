import { functionPolicies, type PolicyNeeds } from "../core/function-policy.ts";
import { type Connection, callApi } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import type { Answer } from "./output.ts";

/** One thing that a rotation needs: there already, or made by `apply`. Applying again what is there changes nothing. */
export interface SetupPart {
  readonly part: string;
  readonly name: string;
  readonly state: "there" | "to make" | "to change";
  /** Absent when it is there. */
  readonly apply?: () => Promise<unknown>;
}

/** What is asked of a function that runs as a process with a role of its own. */
export interface OwnFunction {
  readonly name: string;
  readonly arn: string;
  /** Members of `functions/create`; absent: it has to be there. */
  readonly settings?: object | undefined;
  readonly needs: PolicyNeeds;
}

/** The answer, or `undefined` when what is asked for is not there. */
export async function ifThere(asked: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof CommandError && error.message.startsWith("ResourceNotFoundException")) return undefined;
    throw error;
  }
}

/**
 * Function, role, the role's policy and the function's own, in the order in which they can be made. A function that is not
 * run as a process has no role.
 * @throws CommandError when there is neither a function nor the settings of one
 */
export async function functionParts(connection: Connection, wanted: OwnFunction): Promise<SetupPart[]> {
  const { name, arn, settings, needs } = wanted;
  const found = await ifThere(callApi(connection, "functions/get", { functionName: name }));
  if (!found && !settings)
    throw new CommandError(1, `there is no function ${name}: give --runtime and --file to make it, or rekey function create`);
  const least = functionPolicies({ arn, region: arn.split(":")[3] ?? "" }, needs);
  const account = arn.split(":")[4];
  const roleArn = String(found?.role ?? `arn:aws:iam::${account}:role/${name}-role`);
  const create = () => callApi(connection, "functions/create", { functionName: name, role: roleArn, ...settings });
  const setPolicy = () => callApi(connection, "functions/put-policy", { functionName: name, policy: least.resource });
  const isProcess = !found || found.kind === "process";
  return [
    ...(isProcess ? await roleParts(connection, roleArn, least) : []),
    { part: "function", name, ...(found ? { state: "there" } : { state: "to make", apply: create }) },
    {
      part: "who may invoke it",
      name,
      ...stateOf(typeof found?.policy === "string" ? found.policy : undefined, "secretsmanager.amazonaws.com", setPolicy),
    },
  ];
}

/** A document of somebody's own that lets the service in is left as it is. */
function stateOf(
  document: string | undefined,
  service: string,
  apply: () => Promise<unknown>,
): Pick<SetupPart, "state" | "apply"> {
  if (document?.includes(service)) return { state: "there" };
  return { state: document === undefined ? "to make" : "to change", apply };
}

async function roleParts(
  connection: Connection,
  roleArn: string,
  least: { readonly role: string; readonly trust: string },
): Promise<SetupPart[]> {
  const roleName = roleArn.slice(roleArn.lastIndexOf("/") + 1);
  const role = await ifThere(callApi(connection, "roles/get", { roleName }));
  const create = () => callApi(connection, "roles/create", { roleName, assumeRolePolicyDocument: least.trust });
  const setTrust = () => callApi(connection, "roles/set-trust", { roleName, policyDocument: least.trust });
  const trust = typeof role?.assumeRolePolicyDocument === "string" ? role.assumeRolePolicyDocument : undefined;
  return [
    { part: "role", name: roleName, ...stateOf(trust, "lambda.amazonaws.com", role ? setTrust : create) },
    await rolePolicyPart(connection, roleName, role, least.role),
  ];
}

async function rolePolicyPart(
  connection: Connection,
  roleName: string,
  role: Answer | undefined,
  document: string,
): Promise<SetupPart> {
  const policyName = `${roleName}-policy`;
  const account = String((await callApi(connection, "sts/get-caller-identity")).account);
  const policyArn = `arn:aws:iam::${account}:policy/${policyName}`;
  const found = await ifThere(callApi(connection, "policies/get", { policyArn }));
  const inForce = (found?.versions as readonly Answer[] | undefined)?.find(({ isDefaultVersion }) => isDefaultVersion === true);
  const same = found !== undefined && sameJson(String(inForce?.document), document);
  const attached = (role?.attachedPolicyArns as string[] | undefined)?.includes(policyArn) === true;
  const apply = async () => {
    if (!found) await callApi(connection, "policies/create", { policyName, policyDocument: document });
    else if (!same)
      await callApi(connection, "policies/create-version", { policyArn, policyDocument: document, setAsDefault: true });
    if (!attached) await callApi(connection, "policies/attach", { policyArn, roleName });
  };
  const part = { part: "what the role may do", name: policyName };
  if (same && attached) return { ...part, state: "there" };
  return { ...part, state: found ? "to change" : "to make", apply };
}

function sameJson(a: string, b: string): boolean {
  try {
    return JSON.stringify(JSON.parse(a)) === JSON.stringify(JSON.parse(b));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

/** What AWSCURRENT holds; `value`: as a JSON object, when it is one. */
export interface SecretValue {
  readonly value?: Answer | undefined;
  readonly versionId?: unknown;
}

export interface Superuser {
  readonly arn: string;
  /** `host:port` when its value has none, and its tag does not say it either. */
  readonly missingAddress?: string | undefined;
  readonly keyArn?: string | undefined;
}

/** What the secret itself needs before its rotation is configured. */
export function secretParts(
  connection: Connection,
  secretId: string,
  { value, versionId }: SecretValue,
  superuser: Superuser | undefined,
): SetupPart[] {
  if (!superuser) return [];
  const { arn, missingAddress } = superuser;
  const name = arn.split(":")[6] ?? arn;
  const tags = [{ key: "rekey:address", value: missingAddress }];
  const secretString = JSON.stringify({ ...value, masterarn: arn });
  const isNamed = value?.masterarn === arn;
  const putValue = async () => {
    // The plan may have been looked at for long: the value of then must not come back over one that was rotated to since.
    const now = await callApi(connection, "secrets/get-value", { secretId });
    if (now.versionId !== versionId) throw new CommandError(1, "the secret has another value by now: set it up again");
    return callApi(connection, "secrets/put-value", { secretId, secretString });
  };
  return [
    ...(missingAddress === undefined
      ? []
      : [
          {
            part: "where the superuser's secret may be used",
            name: `${name}, tag rekey:address=${missingAddress}`,
            state: "to make",
            apply: () => callApi(connection, "secrets/tag", { secretId: arn, tags }),
          } as const,
        ]),
    {
      part: "superuser's secret in masterarn",
      name,
      ...(isNamed ? { state: "there" } : { state: value?.masterarn === undefined ? "to make" : "to change", apply: putValue }),
    },
  ];
}
