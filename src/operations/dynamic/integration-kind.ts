import { ServiceError } from "../../core/error.ts";

/** Names that Doppler gives to what Rekey has under its own. */
const alike: Readonly<Record<string, string>> = {
  aws_iam: "aws-iam",
  aws_iam_user_keys: "aws-iam",
  aws_mysql: "mysql",
  aws_postgres: "postgres",
};
/** What stands where Rekey does not change credentials itself but has a function of the caller's do so. */
const remote = /^_*(lambda|function)_*arn$/i;

const needs: Readonly<Record<string, string>> = {
  "aws-iam": "accessKeyId and secretAccessKey of the managing user",
  mysql: "host, port, username and password of the managing user",
  postgres: "host, port, username and password of the managing user",
};

/** The kind that a type names, as policies ask for it. */
export const kindNamed = (type: string): string => (Object.hasOwn(alike, type) ? (alike[type] ?? type) : type);

/**
 * The same, of an integration that is to be made. @throws ServiceError ValidationException for one whose work a function of the caller's is to
 * do, with what to give instead
 */
export function integrationKind(type: string, data: Readonly<Record<string, unknown>>): string {
  const kind = kindNamed(type);
  const asksFunction = Object.keys(data).some((name) => remote.test(name));
  if (type === "aws_mssql")
    throw refused("Pairs of SQL Server users are rotated as secrets of their own, not in configs: see rekey rotation setup.");
  if (type !== kind && asksFunction)
    throw refused(
      `Rekey changes credentials of ${kind} itself, or through a network's function: give Data.${needs[kind] ?? "what the kind asks for"}, and as Network one whose function this is (rekey function create --lambda, rekey network create).`,
    );
  return kind;
}

const refused = (message: string): ServiceError => new ServiceError("ValidationException", message);
