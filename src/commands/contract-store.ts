import { isErrorCode, ServiceError } from "../core/error.ts";
import type { ContractStore, Members } from "../functions/contract-door.ts";
import { type Connection, callApi, callPages } from "./api-client.ts";
import { CommandError } from "./command-error.ts";
import type { Answer } from "./output.ts";

/** The operation of the native API behind one of Secrets Manager's, and the members of its answer. */
const operations: Readonly<Record<string, { readonly path: string; readonly answer: readonly string[] }>> = {
  DescribeSecret: { path: "secrets/describe", answer: ["ARN", "Name", "KmsKeyId", "RotationLambdaARN", "VersionIdsToStages"] },
  GetSecretValue: {
    path: "secrets/get-value",
    answer: ["ARN", "Name", "VersionId", "SecretString", "SecretBinary", "VersionStages"],
  },
  ListSecretVersionIds: { path: "secrets/list-versions", answer: ["Versions"] },
  PutSecretValue: { path: "secrets/put-value", answer: ["ARN", "Name", "VersionId", "VersionStages"] },
  UpdateSecretVersionStage: { path: "secrets/update-version-stage", answer: ["ARN", "Name"] },
  GetRandomPassword: { path: "passwords/generate", answer: ["RandomPassword"] },
};

/** Secrets of the server that a connection leads to, with the rights of whoever it belongs to. */
export function contractStore(connection: Connection): ContractStore {
  return async (operation, input) => {
    const known = operations[operation];
    if (!known) throw new ServiceError("UnknownOperationException", `${operation} is not for functions.`);
    try {
      const sent = Object.fromEntries(Object.entries(input).map(([name, value]) => [nativeName(name), value]));
      const isList = operation === "ListSecretVersionIds";
      const answer = isList
        ? await callPages(connection, known.path, "versions", { ...sent, limit: 100 })
        : await callApi(connection, known.path, sent);
      return membersOf(answer, known.answer);
    } catch (error) {
      throw serviceError(error);
    }
  };
}

function membersOf(answer: Answer, names: readonly string[]): Members {
  const entries = names.map((name) => [name, answer[nativeName(name)]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** `SecretId` → `secretId`, `RotationLambdaARN` → `rotationLambdaArn`. */
function nativeName(member: string): string {
  const name = member.replace("ARN", "Arn");
  return name.slice(0, 1).toLowerCase() + name.slice(1);
}

/** What the server refused, as it said it; that nobody answered stays what it is. */
function serviceError(error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  const [, code = "", text = ""] = /^(\w+): (.*)$/s.exec(error.message) ?? [];
  return isErrorCode(code) ? new ServiceError(code, text, { cause: error }) : error;
}
