import { createHash } from "node:crypto";
import { ServiceError } from "../../core/error.ts";

type Position = readonly (string | number)[];

/** A page token: where the next page begins, tied to what was asked (`scope`). It grants nothing, so it is not signed. */
export function writePageToken(scope: string, position: Position): string {
  return Buffer.from(JSON.stringify([1, digest(scope), ...position])).toString("base64url");
}

/** @throws ServiceError InvalidNextTokenException when it is not one, or belongs to another request */
export function readPageToken(token: string, scope: string): Position {
  try {
    const [version, asked, ...position] = JSON.parse(Buffer.from(token, "base64url").toString("utf8")) as Position;
    // Only what a database takes: anything else would be an internal error.
    const plain = position.every((part) => (typeof part === "string" ? !part.includes("\0") : Number.isSafeInteger(part)));
    if (version === 1 && asked === digest(scope) && plain && position.length > 0) return position;
  } catch {
    // Not JSON: answered as any other token that is none of ours.
  }
  throw invalidToken();
}

export function invalidToken(): ServiceError {
  return new ServiceError("InvalidNextTokenException", "The NextToken value is invalid.");
}

function digest(scope: string): string {
  return createHash("sha256").update(scope).digest("base64url").slice(0, 12);
}
