const pieces = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}:]/g;

/** The first name that stands twice in one object of a well-formed JSON text; `JSON.parse` would silently keep the last. */
export function repeatedName(json: string): string | undefined {
  const objects: Set<string>[] = [];
  let text = '""';
  for (const [piece] of json.matchAll(pieces)) {
    if (piece === "{") objects.push(new Set());
    else if (piece === "}") objects.pop();
    else if (piece !== ":") text = piece;
    else {
      const name: unknown = JSON.parse(text);
      const names = objects.at(-1);
      if (typeof name !== "string" || names === undefined) continue;
      if (names.has(name)) return name;
      names.add(name);
    }
  }
  return undefined;
}

/** Whether a parsed JSON value is an object, not an array and not null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value of a JSON text; `undefined` when it is none. */
export function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
