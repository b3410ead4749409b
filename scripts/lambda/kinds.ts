import type { lambdaTargets } from "../../src/core/lambda-targets.ts";

/** Where a kind's rotator and lease target are exported. */
interface LambdaKind {
  readonly rotator: readonly [file: string, name: string];
  readonly lease?: readonly [file: string, name: string];
}

/** One function for each kind that lives inside private networks. */
const lambdaKinds: Readonly<Record<(typeof lambdaTargets)[number], LambdaKind>> = {
  activedirectory: { rotator: ["ldap", "activeDirectory"] },
  "http-api": { rotator: ["http-api", "httpApiRotator"], lease: ["lease-http-api", "httpApiLease"] },
  ldap: { rotator: ["ldap", "ldap"], lease: ["lease-ldap", "ldapLeases"] },
  mongodb: { rotator: ["mongodb", "mongodb"], lease: ["lease-mongodb", "mongodbLeases"] },
  mysql: { rotator: ["mysql", "mysql"], lease: ["lease-mysql", "mysqlLeases"] },
  oracle: { rotator: ["oracle", "oracle"] },
  postgres: { rotator: ["postgres", "postgres"], lease: ["lease-postgres", "postgresLeases"] },
  redis: { rotator: ["redis", "redis"], lease: ["lease-redis", "redisLeases"] },
  redshift: { rotator: ["redshift", "redshift"] },
  sqlserver: { rotator: ["sqlserver", "sqlserver"] },
};

/** The program that is bundled: one handler with one kind in it. */
export function entryOf(kind: string, version: string, pinnedKeySet?: unknown): string {
  const found: LambdaKind | undefined = Object.hasOwn(lambdaKinds, kind)
    ? lambdaKinds[kind as keyof typeof lambdaKinds]
    : undefined;
  if (!found) throw new Error(`no function is built for ${kind}: one of ${Object.keys(lambdaKinds).join(", ")}`);
  const [file, name] = found.rotator;
  const isDeclared = kind === "http-api";
  const lines = [
    `import { createLambdaHandler } from "./src/functions/lambda-handler.ts";`,
    `import { ${name}${isDeclared ? ", parseHttpApiDeclaration" : ""} } from "./src/targets/${file}.ts";`,
  ];
  if (found.lease) lines.push(`import { ${found.lease[1]} } from "./src/targets/${found.lease[0]}.ts";`);
  lines.push(
    "export const handler = createLambdaHandler({",
    `  kind: ${JSON.stringify(kind)}, version: ${JSON.stringify(version)}, file: __filename,`,
    `  rotatorOf: ${isDeclared ? `(declaration) => ${name}(parseHttpApiDeclaration(declaration))` : `() => ${name}`},`,
    ...(found.lease ? [`  lease: ${found.lease[1]},`] : []),
    ...(pinnedKeySet === undefined ? [] : [`  pinnedKeySet: ${JSON.stringify(pinnedKeySet)},`]),
    "});",
  );
  return lines.join("\n");
}
