import { z } from "zod";
import { RotatorError } from "../core/error.ts";

/** The key that signs requests. */
export interface SigningKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** Where to ask; absent endpoints are AWS's own. */
export interface Place {
  readonly region: string;
  readonly endpoint?: string | undefined;
  readonly stsEndpoint?: string | undefined;
}

const region = z.string().regex(/^[a-z]{2,3}(-[a-z]+)+-\d$/, "must be a region, e.g. eu-west-1");
const endpoint = z.string().refine(isSafeEndpoint, "must be https://HOST or https://HOST:PORT; http only on this machine");
const accessKeyId = z.string().regex(/^\w{16,128}$/, "must be an access key ID");
const oneLine = z.string().regex(/^[\x21-\x7e]{1,16384}$/, "must be printable, without spaces");
const roleArn = z.string().regex(/^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]{1,512}$/, "must be the ARN of a role");
const externalId = z.string().regex(/^[\w+=,.@:/-]{2,1224}$/, "must have 2 to 1224 letters, digits and +=,.@:/-");
const account = z.string().regex(/^\d{12}$/, "must have 12 digits");
const placeKeys = { region: region.optional(), endpoint: endpoint.optional(), stsEndpoint: endpoint.optional() };
/** Rules for what a connection to AWS is made of. */
export const awsFields = { accessKeyId, secretAccessKey: oneLine, roleArn, externalId, account, ...placeKeys };

/** An access key of an IAM user; keys that are not named here are kept. */
export const iamCredential = z.looseObject({
  engine: z.literal("aws-iam").optional(),
  username: z.string().regex(/^[\w+=,.@-]{1,64}$/, "must be the name of an IAM user, without its path"),
  accessKeyId,
  secretAccessKey: oneLine,
  /** Its AWS account: needed where the superuser is to help when the key itself is refused. */
  account: account.optional(),
  masterarn: z.string().optional(),
  ...placeKeys,
});
export type IamCredential = z.infer<typeof iamCredential>;

/** Whoever manages the user: an access key, and a role to take on with it where `roleArn` names one. */
export const iamAdmin = z.looseObject({
  accessKeyId,
  secretAccessKey: oneLine,
  sessionToken: oneLine.optional(),
  roleArn: roleArn.optional(),
  externalId: externalId.optional(),
  ...placeKeys,
});
export type IamAdmin = z.infer<typeof iamAdmin>;

/** An answer to CreateAccessKey carries the new key: it travels in clear on this machine only. */
function isSafeEndpoint(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, pathname, search, hash } = new URL(text);
  const bare = `${username}${password}${search}${hash}` === "" && pathname === "/";
  return bare && (protocol === "https:" || (protocol === "http:" && isLoopback(hostname)));
}

export const isLoopback = (hostname: string): boolean => ["localhost", "127.0.0.1", "[::1]"].includes(hostname);

const origin = (url: string | undefined): string | undefined => (url === undefined ? undefined : new URL(url).origin);

export function placeOf(keys: { readonly [Key in keyof Place]?: Place[Key] | undefined }): Place {
  const sts = keys.stsEndpoint;
  const named = sts === undefined ? undefined : /^sts\.([a-z0-9-]+)\.amazonaws\.com/.exec(new URL(sts).hostname)?.[1];
  return { region: keys.region ?? named ?? "us-east-1", endpoint: keys.endpoint, stsEndpoint: sts };
}

/** Else whoever writes the secret could have the superuser sign requests for a server of theirs. @throws RotatorError `invalid` */
export function mustShareEndpoints(current: IamCredential, admin: IamAdmin): void {
  const differing = (["endpoint", "stsEndpoint"] as const).find((name) => origin(current[name]) !== origin(admin[name]));
  if (differing) {
    throw new RotatorError("invalid", `${differing} of the superuser's value does not match the secret's current version`);
  }
}

/** `aws-iam://iam.amazonaws.com/123456789012/deploy`; `-` where the secret does not say which AWS account. */
export function accountOf({ username, account, endpoint: url }: IamCredential): string {
  const host = url === undefined ? "iam.amazonaws.com" : new URL(url).host;
  return `aws-iam://${host}/${account ?? "-"}/${username.toLowerCase()}`;
}
