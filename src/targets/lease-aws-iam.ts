import { setTimeout } from "node:timers/promises";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { AwsCalls, CallFailed } from "./aws-calls.ts";
import { placeOf, type SigningKeys } from "./aws-iam-secret.ts";
import { type AwsConnection, accountOf, awsConnection, awsTarget, openAws, policyDocument } from "./lease-aws-connection.ts";
import { checkRights } from "./lease-aws-iam-check.ts";
import { type LeasePath, leasePaths, managingPolicy } from "./lease-aws-iam-policy.ts";
import { IamUsers } from "./lease-aws-iam-users.ts";
import type { FoundUser, LeasedUser, LeaseMark, LeaseTarget, LeaseTools } from "./lease-target.ts";

/** All inline policies of one user together. Source: IAM quotas, "character limits". */
const maxPolicyChars = 2_048;
const tagText = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u, "may hold letters, digits, spaces and _.:/=+-@");

const settings = z.strictObject({
  path: z.enum(leasePaths).default("/rekey/"),
  /** What the users may do. */
  policy: policyDocument("identity", maxPolicyChars),
  groups: z
    .array(z.string().regex(/^[\w+=,.@-]{1,128}$/, "must be the name of a group, without its path"))
    .max(10)
    .optional(),
  permissionsBoundary: z
    .string()
    .regex(/^arn:aws[a-z-]*:iam::(\d{12}|aws):policy\/[\w+=,.@/-]{1,512}$/, "must be the ARN of a managed policy")
    .optional(),
  tags: z
    .record(tagText(128).regex(/^(?!aws:|rekey:)./i, "must not be empty, and begin with neither aws: nor rekey:"), tagText(256))
    .refine((tags) => Object.keys(tags).length <= 40, "has at most 40 names")
    .optional(),
});
export type AwsIamSettings = z.infer<typeof settings>;

/** Changes in IAM take seconds to be known everywhere. Source: IAM User Guide, eventual consistency. */
const createMs = 30_000;
const askMs = 5_000;
const pauseMs = 500;
/** What hangs on a user may be listed a while after it was made. */
const attempts = 4;

const prefixes: Readonly<Record<LeasePath, { user: string; policy: string }>> = {
  "/rekey/": { user: "Rekey-Dynamic-", policy: "rekey-policy-" },
  "/doppler/": { user: "Doppler-Dynamic-", policy: "doppler-policy-" },
};

/** Of 25 letters and digits, since IAM does not tell capitals from small letters. */
const shortId = (leaseId: string): string =>
  BigInt(`0x${leaseId.replaceAll("-", "")}`)
    .toString(36)
    .padStart(25, "0");
const suffixOf = ({ installation, leaseId }: LeaseMark): string => `${installation}-${shortId(leaseId)}`;
const nameOf = (path: LeasePath, mark: LeaseMark): string => `${prefixes[path].user}${suffixOf(mark)}`;

/** Where a user of that name stands: told by the name alone, since of an orphan nothing else is known. */
function pathOf(name: string, installation: string): LeasePath | undefined {
  return leasePaths.find((path) => {
    const begin = `${prefixes[path].user}${installation}-`;
    return name.startsWith(begin) && /^[0-9a-z]{25}$/.test(name.slice(begin.length));
  });
}

/** IAM users with an inline policy and one access key each. */
export const awsIamLease: LeaseTarget<AwsConnection, AwsIamSettings> = {
  kind: "aws-iam",
  connection: awsConnection,
  secretMembers: ["secretAccessKey"],
  settings,
  fieldNames: () => ["ARN", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "USERNAME", "POLICY_NAME"],
  createMs,
  revocable: true,
  renewable: true,
  target: awsTarget,
  name: ({ path }, mark) => nameOf(path, mark),

  async verify(connection, tools) {
    const { arn, account } = await (await open(connection, leasePaths[0], tools)).identity();
    mustBeAccount(account, connection.account, "the integration's account");
    return { identity: arn };
  },

  check: async (connection, asked, tools) =>
    checkRights({ calls: await open(connection, asked.path, tools), connection, settings: asked, tools }),

  create,
  revoke,
  list,
};

/** A role's session is held to what leases take. */
const open = (connection: AwsConnection, path: LeasePath, tools: LeaseTools): Promise<AwsCalls> => {
  const policy = managingPolicy({ path, groups: ["*"], partition: "*" }) as { Statement: { Action: string[] }[] };
  policy.Statement[0]?.Action.push("iam:PutUserPermissionsBoundary");
  return openAws(connection, "rekey-leases", policy, tools);
};

async function create(connection: AwsConnection, asked: AwsIamSettings, user: LeasedUser, tools: LeaseTools) {
  const { mark, name } = user;
  const { path, policy, groups = [], permissionsBoundary, tags = {} } = asked;
  const calls = await open(connection, path, tools);
  if (connection.account !== undefined)
    mustBeAccount((await calls.identity()).account, connection.account, "the integration's account");
  const users = new IamUsers(calls, tools);
  const marks = { "rekey:installation": mark.installation, "rekey:lease": mark.leaseId, "rekey:dynamic-secret": mark.secretName };
  const allTags = Object.entries({ ...tags, ...marks }).map(([Key, Value]) => ({ Key, Value }));
  const arn = await users.create({ name, path, tags: allTags, permissionsBoundary });
  const policyName = `${prefixes[path].policy}${suffixOf(mark)}`;
  await users.putPolicy(name, policyName, JSON.stringify(JSON.parse(policy)));
  for (const group of groups) await users.join(name, group);
  const key = await users.createKey(name);
  await mustBeKnown(key, arn, connection, tools);
  const fields = {
    ARN: arn,
    ACCESS_KEY_ID: key.accessKeyId,
    SECRET_ACCESS_KEY: key.secretAccessKey,
    USERNAME: name,
    POLICY_NAME: policyName,
  };
  return { fields, handle: arn };
}

/** Waits until STS answers the new key twice in a row. @throws RotatorError when it does not in time */
async function mustBeKnown(key: SigningKeys, arn: string, connection: AwsConnection, tools: LeaseTools): Promise<void> {
  const startedAt = Date.now();
  let last = "";
  for (let inRow = 0; Date.now() < tools.deadlineAt - pauseMs; ) {
    try {
      const asks = { deadlineAt: Math.min(Date.now() + askMs, tools.deadlineAt) };
      const { arn: found } = await new AwsCalls(key, placeOf(connection), asks).identity();
      if (found !== arn) throw new RotatorError("invalid", `the new access key is not of ${arn} but of ${found}`);
      inRow += 1;
      if (inRow === 2) return;
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      inRow = 0;
      last = error.message;
    }
    await setTimeout(pauseMs);
  }
  const seconds = Math.round((Date.now() - startedAt) / 1000);
  throw new RotatorError(
    "timeout",
    `AWS did not know the new access key after ${seconds} s (${last || "no time was left to ask"})`,
  );
}

async function revoke(connection: AwsConnection, _asked: AwsIamSettings, user: LeasedUser, tools: LeaseTools): Promise<void> {
  const { name, mark, handle } = user;
  const path = pathOf(name, mark.installation);
  if (path === undefined) throw new RotatorError("invalid", `${name} is not the name of a leased user of this installation`);
  const calls = await open(connection, path, tools);
  // In another account nobody of that name is found, which would look as if all were done.
  const expected = handle?.split(":")[4] ?? connection.account ?? accountOf(connection);
  const { account } = await calls.identity();
  if (handle !== undefined || connection.account !== undefined) mustBeAccount(account, expected, `${name}'s account`);
  const users = new IamUsers(calls, tools);
  const found = await users.pathOf(name, path, handle === undefined);
  if (found === undefined) return;
  if (found !== path)
    throw new RotatorError("invalid", `user ${name} stands under ${found} now and not under ${path}: left alone`);
  for (let attempt = 1; attempt <= attempts; attempt++) {
    await users.deleteKeys(name);
    await users.deletePolicies(name);
    await users.leaveGroups(name);
    await users.deleteLogin(name);
    if (await users.delete(name)) return;
    await setTimeout(pauseMs);
  }
  throw new RotatorError(
    "invalid",
    `user ${name} has no access keys and no policies any more, and IAM does not delete it: look for MFA devices, certificates, SSH keys or service credentials of it`,
  );
}

function mustBeAccount(account: string, expected: string | undefined, what: string): void {
  if (expected === undefined || account === expected) return;
  throw new RotatorError("denied", `the managing credential is of AWS account ${account}, and ${what} is ${expected}`);
}

/** By name: IAM's list tells no tags. A path that the managing user may not list has no users of his. */
async function list(connection: AwsConnection, installation: string, tools: LeaseTools): Promise<readonly FoundUser[]> {
  const found: FoundUser[] = [];
  const refusals: unknown[] = [];
  for (const path of leasePaths) {
    const users = new IamUsers(await open(connection, path, tools), tools);
    const begin = `${prefixes[path].user}${installation}-`.toLowerCase();
    try {
      found.push(...(await users.list(path)).filter(({ name }) => name.toLowerCase().startsWith(begin)));
    } catch (error) {
      if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
      refusals.push(error);
    }
  }
  if (refusals.length === leasePaths.length) throw refusals[0];
  return found;
}
