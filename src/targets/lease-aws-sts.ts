import type { AssumeRoleCommandInput } from "@aws-sdk/client-sts";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { type AwsCalls, CallFailed } from "./aws-calls.ts";
import { awsFields } from "./aws-iam-secret.ts";
import { type AwsConnection, awsConnection, awsTarget, openAws, policyDocument } from "./lease-aws-connection.ts";
import type { LeaseMark, LeaseTarget, LeaseTools } from "./lease-target.ts";

/** Source: STS API reference, AssumeRole, "DurationSeconds". */
const shortestSeconds = 900;
const longestSeconds = 43_200;
/** Of a role that a role's session takes on. Source: IAM User Guide, "Role chaining". */
const chainedSeconds = 3_600;
/** What may pass between the beginning of a lease and the call. */
const slackSeconds = 10;

const tagText = (pattern: RegExp) => z.string().regex(pattern, "may hold letters, digits, spaces and _.:/=+-@");
const settings = z.strictObject({
  /** What the sessions are of. */
  roleArn: awsFields.roleArn,
  externalId: awsFields.externalId.optional(),
  /** Of what the role may do, the part that the sessions may. */
  policy: policyDocument("session", 2_048).optional(),
  policyArns: z
    .array(
      z.string().regex(/^arn:aws[a-z-]*:iam::(\d{12}|aws):policy\/[\w+=,.@/-]{1,512}$/, "must be the ARN of a managed policy"),
    )
    .min(1)
    .max(10)
    .optional(),
  tags: z
    .record(tagText(/^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$/u), tagText(/^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u))
    .refine((tags) => Object.keys(tags).length <= 50, "has at most 50 names")
    .optional(),
});
export type AwsStsSettings = z.infer<typeof settings>;

/** 42 characters: CloudTrail shows it beside all that the session does. */
const sessionName = ({ installation, leaseId }: LeaseMark): string =>
  `rekey-${installation}-${leaseId.replaceAll("-", "").slice(0, 27)}`;

/** Sessions of a role, by sts:AssumeRole. They end by themselves, and nobody can end one before. */
export const awsStsLease: LeaseTarget<AwsConnection, AwsStsSettings> = {
  kind: "aws-sts",
  connection: awsConnection,
  secretMembers: ["secretAccessKey"],
  settings,
  fieldNames: () => ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "EXPIRATION", "ARN"],
  maxTtlSeconds: longestSeconds,
  revocable: false,
  renewable: false,
  target: awsTarget,
  name: (_settings, mark) => sessionName(mark),

  async verify(connection, tools) {
    const identity = await (await open(connection, undefined, tools)).identity();
    return { identity: identity.arn };
  },

  async check(connection, asked, tools) {
    try {
      await assume(connection, asked, { name: "rekey-check", seconds: shortestSeconds }, tools);
      return [];
    } catch (error) {
      if (!(error instanceof RotatorError && (error.outcome === "denied" || error.outcome === "invalid"))) throw error;
      const tag = asked.tags === undefined ? "" : " and sts:TagSession";
      const remedy = `Allow the managing credential sts:AssumeRole${tag} on ${asked.roleArn}, and name it in the role's trust policy.`;
      return [{ problem: error.message, remedy }];
    }
  },

  async create(connection, asked, { name, expiresAt }, tools) {
    const seconds = durationOf(connection, Math.floor((expiresAt - Date.now()) / 1000));
    const { keys, arn, expiration } = await assume(connection, asked, { name, seconds }, tools);
    const { accessKeyId, secretAccessKey, sessionToken } = keys;
    const fields = {
      ACCESS_KEY_ID: accessKeyId,
      SECRET_ACCESS_KEY: secretAccessKey,
      SESSION_TOKEN: sessionToken,
      EXPIRATION: expiration.toISOString(),
      ARN: arn,
    };
    return { fields, handle: arn };
  },

  revoke: async () => undefined,
};

/** @throws RotatorError `invalid` where STS gives no session of that length */
function durationOf(connection: AwsConnection, seconds: number): number {
  if (seconds < shortestSeconds - slackSeconds) {
    throw new RotatorError("invalid", `a session of AWS STS lasts ${shortestSeconds} s at least: ask for a longer TTL`);
  }
  const most = connection.roleArn === undefined ? longestSeconds : chainedSeconds;
  if (seconds <= most) return Math.max(seconds, shortestSeconds);
  const why = connection.roleArn === undefined ? "" : ", since a role takes it on";
  throw new RotatorError("invalid", `a session of AWS STS lasts ${most} s at most here${why}: ask for a shorter TTL`);
}

async function assume(
  connection: AwsConnection,
  { roleArn, externalId, policy, policyArns, tags }: AwsStsSettings,
  { name, seconds }: { name: string; seconds: number },
  tools: LeaseTools,
) {
  const input: AssumeRoleCommandInput = {
    RoleArn: roleArn,
    RoleSessionName: name,
    DurationSeconds: seconds,
    ...(externalId !== undefined && { ExternalId: externalId }),
    ...(policy !== undefined && { Policy: JSON.stringify(JSON.parse(policy)) }),
    ...(policyArns && { PolicyArns: policyArns.map((arn) => ({ arn })) }),
    ...(tags && { Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) }),
  };
  const calls = await open(connection, roleArn, tools);
  const { AssumeRoleCommand } = await import("@aws-sdk/client-sts");
  const answer = await calls
    .sts("sts:AssumeRole", (client, options) => client.send(new AssumeRoleCommand(input), options))
    .catch((error: unknown) => explain(error, seconds));
  const {
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    SessionToken: sessionToken,
    Expiration: expiration,
  } = answer.Credentials ?? {};
  const arn = answer.AssumedRoleUser?.Arn;
  if (accessKeyId && secretAccessKey && sessionToken && expiration && arn) {
    return { keys: { accessKeyId, secretAccessKey, sessionToken }, arn, expiration };
  }
  throw new RotatorError("invalid", "sts:AssumeRole: the answer has no credentials");
}

function explain(error: unknown, seconds: number): never {
  if (error instanceof CallFailed && error.code === "ValidationError") {
    const why = seconds > shortestSeconds ? `: is the role's maximum session duration shorter than ${seconds} s?` : "";
    throw new RotatorError("invalid", `${error.message}${why}`);
  }
  throw error;
}

/** A session on the way may do nothing but take on the role that is asked for. */
function open(connection: AwsConnection, roleArn: string | undefined, tools: LeaseTools): Promise<AwsCalls> {
  const allow = {
    Effect: "Allow",
    Action: ["sts:AssumeRole", "sts:TagSession"],
    Resource: roleArn ?? "arn:aws:iam::0:role/none",
  };
  return openAws(connection, "rekey-leases", { Version: "2012-10-17", Statement: [allow] }, tools);
}
