import type { Rotator } from "./target.ts";

/** A secret's JSON value, when a rotator's own shape for it is not known. */
export type AnyCredential = Record<string, unknown>;

/** By the kind that functions name; drivers are loaded on first use. */
const rotators: Readonly<Record<string, () => Promise<Rotator<AnyCredential>>>> = {
  activedirectory: async () => (await import("./ldap.ts")).activeDirectory as unknown as Rotator<AnyCredential>,
  "aws-iam": async () => (await import("./aws-iam.ts")).awsIam as unknown as Rotator<AnyCredential>,
  "key-pair": async () => (await import("./key-pair.ts")).keyPair as unknown as Rotator<AnyCredential>,
  ldap: async () => (await import("./ldap.ts")).ldap as unknown as Rotator<AnyCredential>,
  mongodb: async () => (await import("./mongodb.ts")).mongodb as unknown as Rotator<AnyCredential>,
  mysql: async () => (await import("./mysql.ts")).mysql as unknown as Rotator<AnyCredential>,
  oracle: async () => (await import("./oracle.ts")).oracle as unknown as Rotator<AnyCredential>,
  postgres: async () => (await import("./postgres.ts")).postgres as unknown as Rotator<AnyCredential>,
  random: async () => (await import("./random.ts")).random as unknown as Rotator<AnyCredential>,
  redis: async () => (await import("./redis.ts")).redis as unknown as Rotator<AnyCredential>,
  redshift: async () => (await import("./redshift.ts")).redshift as unknown as Rotator<AnyCredential>,
  sqlserver: async () => (await import("./sqlserver.ts")).sqlserver as unknown as Rotator<AnyCredential>,
};

/** `undefined` for a kind that Rekey does not know. @throws ServiceError InvalidParameterException when a declaration is not valid */
export async function findRotator(kind: string, declaration?: unknown): Promise<Rotator<AnyCredential> | undefined> {
  if (kind !== "http-api") return Object.hasOwn(rotators, kind) ? rotators[kind]?.() : undefined;
  const { httpApiRotator, parseHttpApiDeclaration } = await import("./http-api.ts");
  return httpApiRotator(parseHttpApiDeclaration(declaration));
}
