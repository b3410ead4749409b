import { ServiceError } from "../core/error.ts";
import type { Strategy } from "../targets/target.ts";

/** What a built-in function does: the rotator it uses and the strategy. */
export interface BuiltinFunction {
  /** Kind of the rotator, as in the secret's `engine` key. */
  readonly kind: string;
  readonly strategy: Strategy;
}

/** By the names of AWS's own rotation templates. */
const builtinFunctions: ReadonlyMap<string, BuiltinFunction> = new Map([
  ["RekeyActiveDirectoryRotationMultiUser", { kind: "activedirectory", strategy: "alternating-users" }],
  ["RekeyIAMAccessKeyRotation", { kind: "aws-iam", strategy: "issuer" }],
  ["RekeyKeyPairRotation", { kind: "key-pair", strategy: "generator" }],
  ["RekeyLDAPRotationSingleUser", { kind: "ldap", strategy: "single-user" }],
  ["RekeyLDAPRotationMultiUser", { kind: "ldap", strategy: "alternating-users" }],
  ["RekeyRandomRotation", { kind: "random", strategy: "generator" }],
  ["RekeyRedisRotation", { kind: "redis", strategy: "dual-slot" }],
  ["RekeyRedisRotationSingleUser", { kind: "redis", strategy: "single-user" }],
  ["SecretsManagerActiveDirectoryRotationSingleUser", { kind: "activedirectory", strategy: "single-user" }],
  ["SecretsManagerElasticacheUserRotation", { kind: "redis", strategy: "dual-slot" }],
  ["SecretsManagerMongoDBRotationSingleUser", { kind: "mongodb", strategy: "single-user" }],
  ["SecretsManagerMongoDBRotationMultiUser", { kind: "mongodb", strategy: "alternating-users" }],
  ["SecretsManagerRDSMariaDBRotationSingleUser", { kind: "mysql", strategy: "single-user" }],
  ["SecretsManagerRDSMariaDBRotationMultiUser", { kind: "mysql", strategy: "alternating-users" }],
  ["SecretsManagerRDSMySQLRotationSingleUser", { kind: "mysql", strategy: "single-user" }],
  ["SecretsManagerRDSMySQLRotationMultiUser", { kind: "mysql", strategy: "alternating-users" }],
  ["SecretsManagerRDSOracleRotationSingleUser", { kind: "oracle", strategy: "single-user" }],
  ["SecretsManagerRDSOracleRotationMultiUser", { kind: "oracle", strategy: "alternating-users" }],
  ["SecretsManagerRDSPostgreSQLRotationSingleUser", { kind: "postgres", strategy: "single-user" }],
  ["SecretsManagerRDSPostgreSQLRotationMultiUser", { kind: "postgres", strategy: "alternating-users" }],
  ["SecretsManagerRDSSQLServerRotationSingleUser", { kind: "sqlserver", strategy: "single-user" }],
  ["SecretsManagerRDSSQLServerRotationMultiUser", { kind: "sqlserver", strategy: "alternating-users" }],
  ["SecretsManagerRedshiftRotationSingleUser", { kind: "redshift", strategy: "single-user" }],
  ["SecretsManagerRedshiftRotationMultiUser", { kind: "redshift", strategy: "alternating-users" }],
]);

/** The rest of AWS's templates: what they are for. Source: AWS Secrets Manager user guide, rotation function templates. */
const otherTemplates: ReadonlyMap<string, string> = new Map([
  ["SecretsManagerActiveDirectoryAndKeytabRotationSingleUser", "Active Directory with keytabs"],
  ["SecretsManagerInfluxDBRotationSingleUser", "InfluxDB"],
  ["SecretsManagerInfluxDBRotationMultiUser", "InfluxDB"],
  ["SecretsManagerRDSDb2RotationSingleUser", "Db2"],
  ["SecretsManagerRDSDb2RotationMultiUser", "Db2"],
  ["SecretsManagerRotationTemplate", "targets of your own"],
]);

/** Their names, for people. */
export const builtinFunctionNames: readonly string[] = [...builtinFunctions.keys()];

/** What their names begin with, by the `engine` key of the secrets that they are for, or the `type` of those that no target knows. */
const namesByEngine: Readonly<Record<string, readonly string[]>> = {
  activedirectory: ["SecretsManagerActiveDirectory", "RekeyActiveDirectory"],
  "aurora-mysql": ["SecretsManagerRDSMySQL"],
  "aurora-postgresql": ["SecretsManagerRDSPostgreSQL"],
  "aws-iam": ["RekeyIAMAccessKey"],
  docdb: ["SecretsManagerMongoDB"],
  ed25519: ["RekeyKeyPair"],
  "key-pair": ["RekeyKeyPair"],
  ldap: ["RekeyLDAP"],
  mariadb: ["SecretsManagerRDSMariaDB"],
  mongo: ["SecretsManagerMongoDB"],
  mongodb: ["SecretsManagerMongoDB"],
  mssql: ["SecretsManagerRDSSQLServer"],
  mysql: ["SecretsManagerRDSMySQL"],
  openldap: ["RekeyLDAP"],
  oracle: ["SecretsManagerRDSOracle"],
  "oracle-ee": ["SecretsManagerRDSOracle"],
  "oracle-se2": ["SecretsManagerRDSOracle"],
  postgres: ["SecretsManagerRDSPostgreSQL"],
  postgresql: ["SecretsManagerRDSPostgreSQL"],
  random: ["RekeyRandom"],
  redis: ["RekeyRedis"],
  rsa: ["RekeyKeyPair"],
  "ssh-ed25519": ["RekeyKeyPair"],
  "ssh-rsa": ["RekeyKeyPair"],
  redshift: ["SecretsManagerRedshift"],
  sqlserver: ["SecretsManagerRDSSQLServer"],
  valkey: ["RekeyRedis"],
};

/** The built-in function for secrets with this `engine` key; the usual one when no strategy is asked for. */
export function functionForEngine(engine: string, strategy?: Strategy): string | undefined {
  const prefixes = Object.hasOwn(namesByEngine, engine) ? (namesByEngine[engine] ?? []) : [];
  const names = prefixes.flatMap((prefix) => builtinFunctionNames.filter((name) => name.startsWith(`${prefix}Rotation`)));
  return names.find((name) => strategy === undefined || builtinFunctions.get(name)?.strategy === strategy);
}

/** What rotates an engine's credentials, by the name that secrets give it; `undefined` for an engine that none is for. */
export function kindOfEngine(engine: string): string | undefined {
  return builtinFunctions.get(functionForEngine(engine) ?? "")?.kind;
}

/** The built-in function that an ARN names in its region and account; `undefined` for any other. */
export function builtinFunction(functionArn: string): BuiltinFunction | undefined {
  return builtinFunctions.get(functionArn.split(":")[6] ?? "");
}

/** What to say of a template of AWS's that is not built in, when no function has its name; `undefined` for any other name. */
export function templateRefusal(functionArn: string): ServiceError | undefined {
  const name = functionArn.split(":")[6] ?? "";
  const purpose = otherTemplates.get(name);
  if (purpose === undefined) return undefined;
  return new ServiceError(
    "InvalidParameterException",
    `${name}: Rekey has no rotation function of its own for ${purpose}. Make a function from AWS's template or your own code with rekey function create, and name that one.`,
  );
}

/** The refusal that AWS gives where the service may not invoke a function, or there is none. */
export function cannotInvoke(cause?: Error): ServiceError {
  return new ServiceError(
    "AccessDeniedException",
    "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to the principal secretsmanager.amazonaws.com.",
    { cause },
  );
}
