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
]);

/** Their names, for people. */
export const builtinFunctionNames: readonly string[] = [...builtinFunctions.keys()];

/** The built-in function that an ARN names in its region and account; `undefined` for any other. */
export function builtinFunction(functionArn: string): BuiltinFunction | undefined {
  return builtinFunctions.get(functionArn.split(":")[6] ?? "");
}

/** The refusal that AWS gives where the service may not invoke a function, or there is none. */
export function cannotInvoke(cause?: Error): ServiceError {
  return new ServiceError(
    "AccessDeniedException",
    "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to the principal secretsmanager.amazonaws.com.",
    { cause },
  );
}
