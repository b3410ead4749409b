import { z } from "zod";
import { RotatorError, ServiceError } from "../core/error.ts";
import { type PolicyKind, parsePolicy } from "../core/policy.ts";
import { AwsCalls } from "./aws-calls.ts";
import { awsFields, isLoopback, placeOf } from "./aws-iam-secret.ts";
import type { LeaseTools } from "./lease-target.ts";

const { accessKeyId, secretAccessKey, roleArn, externalId, account, region, endpoint, stsEndpoint } = awsFields;

/** Who manages: an access key, or the identity of the machine that Rekey runs on; and a role to take on with it. */
export const awsConnection = z
  .strictObject({
    accessKeyId: accessKeyId.optional(),
    secretAccessKey: secretAccessKey.optional(),
    /** The machine's own identity is the base; only for a role that asks for an external ID. */
    ambient: z.literal(true).optional(),
    roleArn: roleArn.optional(),
    externalId: externalId.optional(),
    /** Its AWS account; nothing is done in another. */
    account: account.optional(),
    region,
    endpoint,
    stsEndpoint,
  })
  .superRefine((data, context) => {
    const must = (path: string, holds: boolean, message: string): void => {
      if (!holds) context.addIssue({ code: "custom", path: [path], message });
    };
    const key = data.accessKeyId !== undefined || data.secretAccessKey !== undefined;
    if (!data.ambient) {
      must("accessKeyId", data.accessKeyId !== undefined, "is missing: give accessKeyId and secretAccessKey, or ambient");
      must("secretAccessKey", data.secretAccessKey !== undefined, "is missing: give accessKeyId and secretAccessKey, or ambient");
      must("externalId", data.externalId === undefined || data.roleArn !== undefined, "is of a role: give roleArn");
      return;
    }
    must("ambient", !key, "stands beside an access key: give one of them");
    must(
      "roleArn",
      data.roleArn !== undefined,
      "is missing: the machine's own identity is used to take on a role, and for nothing else",
    );
    // Else whoever may write integrations could have the machine take on any role that trusts it.
    must("externalId", data.externalId !== undefined, "is missing: a role that the machine takes on asks for an external ID");
    for (const name of ["endpoint", "stsEndpoint"] as const) {
      must(name, isAwsOwn(data[name]), "must be AWS's own where the machine's identity signs");
    }
  });
export type AwsConnection = z.infer<typeof awsConnection>;

/** IAM's and STS's own names: below the same domain stand buckets, machines and gateways of everybody. */
const awsOwn = /^(?:iam|sts)(?:-fips)?(?:\.[a-z]{2}(?:-[a-z]+)+(?:-\d+)?)?\.amazonaws\.com(?:\.cn)?$/;

function isAwsOwn(url: string | undefined): boolean {
  if (url === undefined || !URL.canParse(url)) return true;
  const { hostname } = new URL(url);
  return isLoopback(hostname) || awsOwn.test(hostname);
}

/** A policy document as text or as JSON; kept as text. */
export const policyDocument = (kind: PolicyKind, maxChars: number) =>
  z
    .union([z.string(), z.record(z.string(), z.unknown())])
    .transform((document) => (typeof document === "string" ? document : JSON.stringify(document)))
    .superRefine((document, context) => {
      const problem = policyProblem(document, kind) ?? tooLong(document, maxChars);
      if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
    });

function policyProblem(document: string, kind: PolicyKind): string | undefined {
  try {
    parsePolicy(document, kind);
    return undefined;
  } catch (error) {
    if (error instanceof ServiceError) return error.message;
    throw error;
  }
}

/** Blanks are counted here: they are not sent. */
function tooLong(document: string, maxChars: number): string | undefined {
  return JSON.stringify(JSON.parse(document)).length > maxChars ? `has more than ${maxChars} characters` : undefined;
}

/** Calls as who the connection names; a role's session may do no more than `policy`. @throws RotatorError */
export async function openAws(connection: AwsConnection, name: string, policy: unknown, tools: LeaseTools): Promise<AwsCalls> {
  const place = placeOf(connection);
  const base = new AwsCalls(keysOf(connection), place, tools);
  const { roleArn: role, externalId: given } = connection;
  if (role === undefined) return base;
  const keys = await base.assume({ roleArn: role, externalId: given, name, policy: JSON.stringify(policy) });
  return new AwsCalls(keys, place, tools);
}

function keysOf(connection: AwsConnection) {
  if (connection.ambient) return "ambient";
  const { accessKeyId: id, secretAccessKey: secret } = connection;
  if (id === undefined || secret === undefined) throw new RotatorError("invalid", "the integration has no access key");
  return { accessKeyId: id, secretAccessKey: secret };
}

/** `aws-iam.amazonaws.com/123456789012`: the same for each key of one account. */
export function awsTarget(connection: AwsConnection): string {
  const { endpoint: url } = connection;
  const host = url === undefined ? "amazonaws.com" : new URL(url).host;
  return `aws://${host}/${accountOf(connection) ?? connection.accessKeyId ?? "-"}`;
}

/** Of the managing user, as far as the connection tells. */
export function accountOf({ account: given, roleArn: role, accessKeyId: id = "" }: AwsConnection): string | undefined {
  return given ?? role?.split(":")[4] ?? accountInKey(id);
}

/** Access keys made since 2019 begin with their account: 40 bits, after AWS's own prefix of four letters. */
function accountInKey(id: string): string | undefined {
  if (!/^A(?:KIA|SIA)[QRSTUVWXYZ234567][A-Z2-7]{15}$/.test(id)) return undefined;
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...id.slice(4, 13)].reduce((sum, letter) => sum * 32n + BigInt(letters.indexOf(letter)), 0n);
  const number = (bits >> 4n) & 0xff_ffff_ffffn;
  return number < 1_000_000_000_000n ? String(number).padStart(12, "0") : undefined;
}
