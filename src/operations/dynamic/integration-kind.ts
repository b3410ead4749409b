import { ServiceError } from "../../core/error.ts";
import { kindThroughLambda } from "../../core/lambda-integration.ts";

/** Names that Doppler gives to what Rekey has under its own. */
const alike: Readonly<Record<string, string>> = { aws_iam: "aws-iam", aws_iam_user_keys: "aws-iam" };
/** How Doppler names the function that changes credentials, and how people write it. */
const functionMember = /^_*(lambda|function)_*arn$/i;

/** The kind that a type names, as policies ask for it. */
export const kindNamed = (type: string): string =>
  kindThroughLambda(type) ?? (Object.hasOwn(alike, type) ? (alike[type] ?? type) : type);

/** Whether what is to be made is a function of AWS Lambda, and no connection. */
export const isThroughLambda = (type: string, data: Readonly<Record<string, unknown>>): boolean =>
  kindThroughLambda(type) !== undefined && Object.keys(data).some((name) => functionMember.test(name));

/** That of an integration with a connection of its own. @throws ServiceError ValidationException for one that cannot have any */
export function integrationKind(type: string): string {
  if (type !== "aws_mssql") return kindNamed(type);
  throw new ServiceError(
    "ValidationException",
    "Data.roleARN and Data.lambdaARN are missing: pairs of SQL Server users in configs are rotated by a function of AWS Lambda. Others are secrets of their own: see rekey rotation setup.",
  );
}
