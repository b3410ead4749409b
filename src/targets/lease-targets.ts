import type { LeaseTarget } from "./lease-target.ts";

/** By the integration's type; drivers are loaded on first use. */
const targets: Readonly<Record<string, () => Promise<LeaseTarget>>> = {
  "aws-iam": async () => (await import("./lease-aws-iam.ts")).awsIamLease as unknown as LeaseTarget,
  "aws-sts": async () => (await import("./lease-aws-sts.ts")).awsStsLease as unknown as LeaseTarget,
  "http-api": async () => (await import("./lease-http-api.ts")).httpApiLease as unknown as LeaseTarget,
  ldap: async () => (await import("./lease-ldap.ts")).ldapLeases as unknown as LeaseTarget,
  mongodb: async () => (await import("./lease-mongodb.ts")).mongodbLeases as unknown as LeaseTarget,
  mysql: async () => (await import("./lease-mysql.ts")).mysqlLeases as unknown as LeaseTarget,
  postgres: async () => (await import("./lease-postgres.ts")).postgresLeases as unknown as LeaseTarget,
  redis: async () => (await import("./lease-redis.ts")).redisLeases as unknown as LeaseTarget,
};

export const leaseTargetKinds = (): readonly string[] => Object.keys(targets);

/** `undefined` for a kind that Rekey cannot lease from. */
export async function findLeaseTarget(kind: string): Promise<LeaseTarget | undefined> {
  return Object.hasOwn(targets, kind) ? targets[kind]?.() : undefined;
}
