import { ServiceError } from "../core/error.ts";

type Member = string | Member[] | { [name: string]: Member };
type Node = Map<string, Node | string>;

const maxMembers = 500;
const maxDepth = 8;
const ampersand = 38;

/** Whether a form has too many members: told from its bytes, since to take a long one apart costs seconds. */
export function isTooLong(body: Uint8Array): boolean {
  let found = 0;
  for (let at = body.indexOf(ampersand); at >= 0; at = body.indexOf(ampersand, at + 1)) if (++found > maxMembers) return true;
  return false;
}

/**
 * The members of a query-protocol form: `Tags.member.1.Key=a` is `{Tags: [{Key: "a"}]}`. All values are text.
 * @throws ServiceError SerializationException for a form that contradicts itself or is too large.
 * Source: Smithy 2.0, "AWS query protocol".
 */
export function formMembers(form: URLSearchParams): object {
  const root: Node = new Map();
  if (form.size > maxMembers) throw tooLong();
  for (const [path, value] of form) {
    if (path === "Action" || path === "Version") continue;
    const names = path.split(".");
    const last = names.pop() ?? "";
    if (names.length > maxDepth) throw unreadable("members inside each other too deeply");
    const node = names.reduce(step, root);
    if (node.has(last)) throw unreadable("a member twice");
    node.set(last, value);
  }
  return toMember(root) as object;
}

function step(node: Node, name: string): Node {
  const next = node.get(name) ?? new Map();
  if (typeof next === "string") throw unreadable("a member as text and as a structure");
  node.set(name, next);
  return next;
}

function toMember(node: Node | string): Member {
  if (typeof node === "string") return node;
  const list = node.size === 1 ? node.get("member") : undefined;
  if (list instanceof Map) {
    const items = [...list].sort(([a], [b]) => Number(a) - Number(b));
    return items.map(([, item]) => toMember(item));
  }
  // Without a prototype, a member called __proto__ is only a member.
  return Object.assign(
    Object.create(null) as object,
    Object.fromEntries([...node].map(([name, item]) => [name, toMember(item)])),
  );
}

export const tooLong = (): ServiceError => unreadable(`more than ${maxMembers} members`);

function unreadable(what: string): ServiceError {
  return new ServiceError("SerializationException", `The form has ${what}.`);
}

/** Members of an answer as elements: lists as `<member>`, times in ISO 8601; absent members stay absent. */
export function toXml(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (value instanceof Date) return `${value.toISOString().slice(0, 19)}Z`;
  if (Array.isArray(value)) return value.map((item) => `<member>${toXml(item)}</member>`).join("");
  if (typeof value !== "object") return escapeText(String(value));
  return Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([name, item]) => `<${name}>${toXml(item)}</${name}>`)
    .join("");
}

const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;" };

/** Characters that XML 1.0 cannot hold are shown as U+FFFD. */
function escapeText(text: string): string {
  return text
    .toWellFormed()
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "\ufffd")
    .replace(/[&<>"']/g, (character) => entities[character] ?? character);
}
