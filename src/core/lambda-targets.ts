/** Kinds for which there is a function of AWS Lambda; what AWS's own API reaches, or nothing at all, needs none. */
export const lambdaTargets = [
  "activedirectory",
  "http-api",
  "ldap",
  "mongodb",
  "mysql",
  "oracle",
  "postgres",
  "redis",
  "redshift",
  "sqlserver",
] as const;
