import type { RDSClient } from "@aws-sdk/client-rds";
import { CommandError } from "./command-error.ts";

const timeoutMs = 10_000;

/** What RDS tells of an instance or a cluster, as far as it is asked for here. */
interface Place {
  readonly host: string | undefined;
  readonly port: number | undefined;
}

/**
 * `host:port` of an RDS instance or cluster, by its identifier or ARN, asked at RDS or at what AWS_ENDPOINT_URL_RDS names;
 * credentials and region come from the usual places of AWS's tools. The SDK is loaded here, as few need it.
 * Source: Amazon RDS API reference, DescribeDBInstances and DescribeDBClusters.
 * @throws CommandError
 */
export async function rdsAddress(identifier: string): Promise<string> {
  const { RDSClient } = await import("@aws-sdk/client-rds");
  const region = /^arn:[^:]*:rds:([^:]+):/.exec(identifier)?.[1];
  const client = new RDSClient({ ...(region && { region }), maxAttempts: 3, requestHandler: { requestTimeout: timeoutMs } });
  try {
    const place = await ask(client, identifier);
    if (!place) throw new CommandError(1, `RDS knows no instance or cluster ${identifier} in this account and region`);
    const { host, port } = place;
    if (host === undefined || port === undefined)
      throw new CommandError(1, `${identifier} has no address yet: wait until RDS says that it is available`);
    return `${host}:${port}`;
  } catch (error) {
    throw error instanceof CommandError ? error : refusal(error, identifier);
  } finally {
    client.destroy();
  }
}

/** An ARN says what it names; a plain identifier may be either's. */
async function ask(client: RDSClient, identifier: string): Promise<Place | undefined> {
  const [, kind] = /^arn:[^:]*:rds:[^:]*:[^:]*:(db|cluster):/.exec(identifier) ?? [];
  const instance = kind === "cluster" ? undefined : await instancePlace(client, identifier);
  return instance ?? (kind === "db" ? undefined : await clusterPlace(client, identifier));
}

async function instancePlace(client: RDSClient, identifier: string): Promise<Place | undefined> {
  const { DescribeDBInstancesCommand } = await import("@aws-sdk/client-rds");
  const asked = client.send(new DescribeDBInstancesCommand({ DBInstanceIdentifier: identifier }));
  const [found] = (await unlessMissing(asked, "DBInstanceNotFound"))?.DBInstances ?? [];
  return found && { host: found.Endpoint?.Address, port: found.Endpoint?.Port };
}

async function clusterPlace(client: RDSClient, identifier: string): Promise<Place | undefined> {
  const { DescribeDBClustersCommand } = await import("@aws-sdk/client-rds");
  const asked = client.send(new DescribeDBClustersCommand({ DBClusterIdentifier: identifier }));
  const [found] = (await unlessMissing(asked, "DBClusterNotFound"))?.DBClusters ?? [];
  return found && { host: found.Endpoint, port: found.Port };
}

async function unlessMissing<T>(asked: Promise<T>, name: string): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Error && error.name.startsWith(name)) return undefined;
    throw error;
  }
}

/** RDS's own sentence, where it answered; it names actions and resources, no credentials. */
function refusal(cause: unknown, identifier: string): CommandError {
  const name = cause instanceof Error ? cause.name : "";
  const text = cause instanceof Error ? cause.message : String(cause);
  const isRefused = /AccessDenied|UnauthorizedOperation|NotAuthorized/.test(name);
  if (isRefused) {
    const remedy = "these credentials need rds:DescribeDBInstances and rds:DescribeDBClusters";
    return new CommandError(1, `RDS does not tell the address of ${identifier}: ${remedy}`, { cause });
  }
  return new CommandError(1, `the address of ${identifier} could not be asked at RDS (${name}: ${text})`, { cause });
}
