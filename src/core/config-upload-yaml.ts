import { isAlias, isMap, isScalar, LineCounter, type Scalar, type YAMLMap } from "yaml";
import { type UploadedSecret, unreadable } from "./config-uploaded.ts";
import { isBoundedYaml, parseYaml } from "./config-yaml.ts";
import { ServiceError } from "./error.ts";

/** Tags that say what a plain value is anyway; any other would ask for more than text. */
const plainTags: ReadonlySet<string> = new Set(["str", "int", "float", "bool"].map((tag) => `tag:yaml.org,2002:${tag}`));

/**
 * One flat YAML 1.2 mapping of texts, numbers and booleans; numbers stay as they are written. An alias may stand for one value;
 * nothing after the colon is an empty value. Other tags, merge keys, nested values and more than one document are refused.
 */
export function* readYaml(text: string): Generator<UploadedSecret> {
  if (!isBoundedYaml(text))
    throw new ServiceError("ValidationException", "The YAML file has too many parts: upload it as env or JSON.");
  const lines = new LineCounter();
  const { errors, contents } = parseYaml(text, lines);
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  const [problem] = errors;
  // Its own words may hold words of the file.
  if (problem) throw unreadable(lineAt(problem.pos[0]), `this is not YAML as expected (${problem.code}).`);
  if (contents === null) return;
  if (!isMap(contents)) throw unreadable(lineAt(contents.range[0]), "expected NAME: value, or NAME=value on every line.");
  yield* membersOf(contents, lineAt);
}

function* membersOf({ items }: YAMLMap.Parsed, lineAt: (offset: number) => number): Generator<UploadedSecret> {
  const anchors = new Map<string, Scalar>();
  for (const { key, value } of items) {
    const line = lineAt(key.range[0]);
    const name = isScalar(key) && key.tag === undefined ? key.source : undefined;
    if (!name) throw unreadable(line, "a name must be plain text.");
    const text = textOf(isAlias(value) ? anchors.get(value.source) : value);
    if (text === undefined) throw unreadable(line, "a value must be one text, number, true or false.");
    if (isScalar(value) && value.anchor !== undefined) anchors.set(value.anchor, value);
    yield { name, value: text, line };
  }
}

function textOf(scalar: unknown): string | undefined {
  if (scalar === null) return "";
  if (!isScalar(scalar) || (scalar.tag !== undefined && !plainTags.has(scalar.tag))) return undefined;
  const { value, source } = scalar;
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return String(value);
  return value !== null || source === "" ? source : undefined;
}
