// What the kill campaign rotates: one strategy at one target each.
import type { Strategy } from "../../../src/targets/target.ts";
import { mariadbSkip } from "../../support/mariadb-server.ts";
import { postgresSkip } from "../../support/postgres-server.ts";
import { redisSkip } from "../../support/redis-server.ts";
import { slapdSkip } from "../../support/slapd-server.ts";
import {
  startHttpApiTarget,
  startIamTarget,
  startLdapTarget,
  startMariaDbTarget,
  startMySqlWireTarget,
  startNoTarget,
  startPostgresTarget,
  startRedisTarget,
  type Target,
} from "./targets.ts";

export interface Scenario {
  readonly name: string;
  readonly functionName: string;
  readonly strategy: Strategy;
  /** Why it cannot run here; false when it can. */
  readonly skip: string | false;
  /** Current and old credential are in force at once: no login is ever refused (I1). */
  readonly overlap: boolean;
  /** The old credential stays until this long after a rotation; 0: it is ended at once. */
  readonly retireAfterSeconds?: number;
  /** A config shows them. */
  readonly inConfig?: boolean;
  start(): Promise<Target>;
}

const hourSeconds = 3_600;

export const scenarios: readonly Scenario[] = [
  {
    name: "postgres/single-user",
    functionName: "SecretsManagerRDSPostgreSQLRotationSingleUser",
    strategy: "single-user",
    skip: postgresSkip,
    overlap: false,
    start: () => startPostgresTarget(),
  },
  {
    name: "postgres/alternating-users",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    start: () => startPostgresTarget(),
  },
  {
    name: "postgres/alternating-users, retired",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    retireAfterSeconds: 0,
    start: () => startPostgresTarget(),
  },
  {
    name: "postgres/alternating-users, kept",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    retireAfterSeconds: 2,
    start: () => startPostgresTarget(),
  },
  {
    name: "mariadb/single-user",
    functionName: "SecretsManagerRDSMariaDBRotationSingleUser",
    strategy: "single-user",
    skip: mariadbSkip,
    overlap: false,
    start: startMariaDbTarget,
  },
  {
    name: "mariadb/alternating-users",
    functionName: "SecretsManagerRDSMariaDBRotationMultiUser",
    strategy: "alternating-users",
    skip: mariadbSkip,
    overlap: true,
    start: startMariaDbTarget,
  },
  {
    name: "redis/dual-slot",
    functionName: "RekeyRedisRotation",
    strategy: "dual-slot",
    skip: redisSkip,
    overlap: true,
    retireAfterSeconds: hourSeconds,
    start: startRedisTarget,
  },
  {
    name: "redis/dual-slot, retired",
    functionName: "RekeyRedisRotation",
    strategy: "dual-slot",
    skip: redisSkip,
    overlap: true,
    retireAfterSeconds: 0,
    start: startRedisTarget,
  },
  {
    name: "aws-iam/issuer",
    functionName: "RekeyIAMAccessKeyRotation",
    strategy: "issuer",
    skip: false,
    overlap: true,
    retireAfterSeconds: 0,
    start: startIamTarget,
  },
  {
    name: "aws-iam/issuer, kept",
    functionName: "RekeyIAMAccessKeyRotation",
    strategy: "issuer",
    skip: false,
    overlap: true,
    // Shorter than what a rotation waits for room at the target.
    retireAfterSeconds: 4,
    start: startIamTarget,
  },
  {
    name: "postgres/alternating-users, named",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    start: () => startPostgresTarget({ named: true }),
  },
  {
    name: "postgres/alternating-users, shown by a config",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    inConfig: true,
    start: () => startPostgresTarget({ named: true }),
  },
  {
    name: "ldap/single-user",
    functionName: "RekeyLDAPRotationSingleUser",
    strategy: "single-user",
    skip: slapdSkip,
    overlap: false,
    start: startLdapTarget,
  },
  {
    name: "mysql, wire fake/dual-slot",
    functionName: "SecretsManagerRDSMySQLRotationSingleUser",
    strategy: "dual-slot",
    skip: false,
    overlap: true,
    retireAfterSeconds: 0,
    start: startMySqlWireTarget,
  },
  {
    name: "http-api/issuer",
    functionName: "keys-of-an-api",
    strategy: "issuer",
    skip: false,
    overlap: true,
    retireAfterSeconds: 0,
    start: startHttpApiTarget,
  },
  {
    name: "random/generator",
    functionName: "RekeyRandomRotation",
    strategy: "generator",
    skip: false,
    overlap: true,
    start: startNoTarget,
  },
];
