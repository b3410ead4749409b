import { ServiceError } from "../core/error.ts";

/** The alias of each region's default key. Source: AWS API reference, CreateSecret, KmsKeyId. */
export const defaultAlias = "alias/aws/secretsmanager";

/** What a KmsKeyId names within its region. */
export type KeyName = { readonly id: string } | { readonly alias: string };

/**
 * Reads a KmsKeyId: key id, key ARN, `alias/NAME` or alias ARN. Absent or empty is the default key.
 * @throws ServiceError InvalidParameterException for another shape or region, AccessDeniedException for another account.
 * Source: AWS API reference, CreateSecret, KmsKeyId; the texts are what AWS answers.
 */
export function readKeyName(kmsKeyId: string | undefined, region: string, account: string): KeyName {
  if (!kmsKeyId) return { alias: defaultAlias };
  if (!kmsKeyId.startsWith("arn:")) return readShortName(kmsKeyId);
  const [, keyRegion, keyAccount, rest] = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):(\d{12}):(.+)$/.exec(kmsKeyId) ?? [];
  if (keyRegion === undefined || rest === undefined) throw invalidKeyId();
  if (keyRegion !== region) throw invalidKey(`Invalid arn ${keyRegion}`);
  if (keyAccount !== account) throw new ServiceError("AccessDeniedException", "Access to KMS is not allowed");
  if (rest.startsWith("key/")) return { id: rest.slice("key/".length) };
  return readShortName(rest);
}

/** A KmsKeyId that names no key of this region. Source: as AWS answers for names that it cannot resolve. */
export function invalidKeyId(): ServiceError {
  return invalidKey("Invalid keyId");
}

/** `arn:aws:kms:REGION:ACCOUNT:key/ID`, in the partition that the region belongs to. */
export function kmsArn(region: string, account: string, resource: string): string {
  const partition = region.startsWith("cn-") ? "aws-cn" : region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
  return `arn:${partition}:kms:${region}:${account}:${resource}`;
}

/**
 * Refuses alias names that a key may not be given.
 * @throws ServiceError InvalidParameterException. Source: AWS KMS API reference, CreateAlias.
 */
export function checkNewAlias(alias: string): void {
  if (!/^alias\/[a-zA-Z0-9/_-]{1,250}$/.test(alias))
    throw new ServiceError("InvalidParameterException", "An alias must be alias/ followed by 1 to 250 letters, digits, and /_-");
  if (alias.startsWith("alias/aws/"))
    throw new ServiceError("InvalidParameterException", "Aliases that begin with alias/aws/ are reserved for default keys.");
}

function readShortName(name: string): KeyName {
  if (name.startsWith("alias/")) return { alias: name };
  if (/^[a-zA-Z0-9-]+$/.test(name)) return { id: name };
  throw invalidKeyId();
}

function invalidKey(detail: string): ServiceError {
  return new ServiceError("InvalidParameterException", `The operation failed because of an invalid KMS key: ${detail}`);
}
