/** The six parts of `arn:partition:service:region:account:resource`; the resource may hold further colons. */
export interface Arn {
  readonly partition: string;
  readonly service: string;
  /** Empty for global services. */
  readonly region: string;
  readonly accountId: string;
  readonly resource: string;
}

/** A secret's ARN taken apart. `suffix` is absent from a partial ARN, one without the hyphen and six characters. */
export interface SecretArn {
  readonly partition: string;
  readonly region: string;
  readonly accountId: string;
  readonly name: string;
  readonly suffix?: string;
}

const secretSuffix = /^(.+)-([A-Za-z0-9]{6})$/s;

/** Undefined when the text is not an ARN: fewer than six parts, or no partition, service or resource. */
export function parseArn(text: string): Arn | undefined {
  if (!text.startsWith("arn:")) return undefined;
  const [, partition = "", service = "", region = "", accountId = "", ...rest] = text.split(":");
  const resource = rest.join(":");
  if (partition === "" || service === "" || resource === "") return undefined;
  return { partition, service, region, accountId, resource };
}

export function formatArn({ partition, service, region, accountId, resource }: Arn): string {
  return `arn:${partition}:${service}:${region}:${accountId}:${resource}`;
}

/**
 * Undefined when the text is no secret's ARN. A name that itself ends in a hyphen and six characters is read as a full ARN.
 * Source: AWS Secrets Manager User Guide, "Troubleshoot AWS Secrets Manager", partial ARNs.
 */
export function parseSecretArn(text: string): SecretArn | undefined {
  const arn = parseArn(text);
  if (arn?.service !== "secretsmanager" || !arn.resource.startsWith("secret:")) return undefined;
  const { partition, region, accountId } = arn;
  const name = arn.resource.slice("secret:".length);
  if (region === "" || accountId === "" || name === "") return undefined;
  const [, bare, suffix] = secretSuffix.exec(name) ?? [];
  if (bare === undefined || suffix === undefined) return { partition, region, accountId, name };
  return { partition, region, accountId, name: bare, suffix };
}

/** The partial ARN when there is no suffix. */
export function formatSecretArn({ partition, region, accountId, name, suffix }: SecretArn): string {
  const resource = `secret:${name}${suffix === undefined ? "" : `-${suffix}`}`;
  return formatArn({ partition, service: "secretsmanager", region, accountId, resource });
}
