import { repeatedName } from "../core/json-object.ts";

const maxSteps = 20;

/** `data.items[0].id`, `$[0]`, `$`: names and indices only. `undefined` for anything else. */
export function parsePath(text: string): readonly (string | number)[] | undefined {
  const rest = text === "$" ? "" : text.replace(/^\$(?=[.[])\.?/, "");
  if (rest === "") return text === "$" ? [] : undefined;
  if (!/^(?:[\w@-]+|\[\d{1,6}\])(?:\.[\w@-]+|\[\d{1,6}\])*$/.test(rest)) return undefined;
  const steps = (rest.match(/[\w@-]+|\[\d+\]/g) ?? []).map((step) => (step.startsWith("[") ? Number(step.slice(1, -1)) : step));
  return steps.length <= maxSteps ? steps : undefined;
}

/** What stands at a path; `undefined` where nothing does. Reads own properties only. */
export function at(json: unknown, path: string): unknown {
  let value: unknown = json;
  for (const step of parsePath(path) ?? [""]) {
    const fits = typeof value === "object" && value !== null && Array.isArray(value) === (typeof step === "number");
    if (!fits || !Object.hasOwn(value as object, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}

/** `undefined` for what is no JSON, and for JSON that says one name twice: readers differ on which counts. */
export function parseJson(text: string): unknown {
  try {
    const json: unknown = JSON.parse(text);
    return repeatedName(text) === undefined ? json : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) return undefined;
    throw error;
  }
}
