/** Doppler's names for integrations that are a function of AWS Lambda, by the kind of target that it works at. */
const kinds: Readonly<Record<string, string>> = { aws_mssql: "sqlserver", aws_mysql: "mysql", aws_postgres: "postgres" };

/** The kind of target, for a type of integrations that may be nothing but a function of AWS Lambda. */
export const kindThroughLambda = (type: string): string | undefined => (Object.hasOwn(kinds, type) ? kinds[type] : undefined);
