import { ServiceError } from "../core/error.ts";

/** Deeper than any input; far below what would exhaust the stack of whoever walks through it. */
const maxDepth = 64;

/** The JSON object that a request's body is; `{}` for none. @throws ServiceError SerializationException */
export function readJsonObject(body: Buffer): object {
  try {
    const parsed: unknown = JSON.parse(body.length === 0 ? "{}" : body.toString("utf8"));
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) && isShallow(parsed)) return parsed;
  } catch {
    // Answered below, without the text: it may hold a secret value.
  }
  throw new ServiceError("SerializationException", "The request body is not a JSON object.");
}

/** Looks level by level, never deeper than the bound. */
function isShallow(value: object): boolean {
  let level: object[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > maxDepth) return false;
    const next: object[] = [];
    for (const parent of level)
      for (const item of Object.values(parent)) if (typeof item === "object" && item !== null) next.push(item);
    level = next;
  }
  return true;
}
