import { type ConfigPlace, findReferences, type Reference } from "./config-references.ts";

const maxDepth = 32;
const maxComputedBytes = 500 * 1024;
const maxAddedBytes = 2 * 1024 * 1024;

/** A value as it was written. `home`: where its own references are looked up, unless that is where it was found. */
interface RawValue {
  readonly value: string;
  readonly home?: ConfigPlace;
  /** Nobody wrote it: what looks like a reference is chance, as in a password. */
  readonly literal?: boolean;
}

/** What a config shows under a name, with what it takes from its root and parents; `undefined`: nothing. */
export type FindRaw = (place: ConfigPlace, name: string) => RawValue | undefined;

/** Why a reference stayed text: nothing is there, it leads back to itself, it leads too far, or the value would get too long. */
type UnresolvedReason = "missing" | "cycle" | "depth" | "size";

export interface Computed {
  /** The names asked for that are there, in that order. */
  readonly values: Map<string, string>;
  /** Of the names asked for; `reference` as it is written. */
  readonly unresolved: { readonly name: string; readonly reference: string; readonly reason: UnresolvedReason }[];
}

/**
 * Puts in the place of each reference what it refers to. A reference that can't be resolved stays as it is written: one that is
 * part of a cycle (so the outcome does not depend on where one begins), one over more than 32 others, or one that would make its
 * value longer than 500 KiB or all of them together more than 2 MiB longer. Values that were put in are not looked through again.
 */
export function computeValues(home: ConfigPlace, names: Iterable<string>, find: FindRaw): Computed {
  const graph: Graph = { find, nodes: new Map(), open: [], visited: 0, addedBytes: 0 };
  const computed: Computed = { values: new Map(), unresolved: [] };
  for (const name of names) {
    const node = nodeAt(graph, home, name);
    if (!node) continue;
    if (node.order === undefined) visit(graph, node);
    computed.values.set(name, node.value);
    for (const [reference, reason] of node.unresolved) computed.unresolved.push({ name, reference, reason });
  }
  return computed;
}

/** One secret. `order` and `low` are those of Tarjan's algorithm: secrets on one cycle end with the same `component`. */
interface Node {
  readonly raw: string;
  readonly references: readonly Reference[];
  readonly home: ConfigPlace;
  readonly targets: Map<string, Node | undefined>;
  readonly unresolved: Map<string, UnresolvedReason>;
  order?: number;
  low: number;
  component?: number;
  value: string;
  bytes: number;
  depth: number;
}

interface Graph {
  readonly find: FindRaw;
  readonly nodes: Map<string, Node | undefined>;
  readonly open: Node[];
  visited: number;
  addedBytes: number;
}

function nodeAt(graph: Graph, place: ConfigPlace, name: string): Node | undefined {
  const key = `${place.project}/${place.config}/${name}`;
  if (graph.nodes.has(key)) return graph.nodes.get(key);
  const raw = graph.find(place, name);
  const node = raw && newNode(raw, place);
  graph.nodes.set(key, node);
  return node;
}

function newNode({ value, home, literal = false }: RawValue, place: ConfigPlace): Node {
  return {
    raw: value,
    references: literal ? [] : findReferences(value),
    home: home ?? place,
    targets: new Map(),
    unresolved: new Map(),
    low: 0,
    value,
    bytes: Buffer.byteLength(value),
    depth: 0,
  };
}

/** Depth first without recursion, as chains may be as long as there are secrets; a secret is computed after all it refers to. */
function visit(graph: Graph, start: Node): void {
  const path = [enter(graph, start)];
  for (let top = path.at(-1); top; top = path.at(-1)) {
    const reference = top.node.references[top.next++];
    const fresh = reference && follow(graph, top.node, reference);
    if (fresh) path.push(enter(graph, fresh));
    else if (!reference) {
      path.pop();
      leave(graph, top.node, path.at(-1)?.node);
    }
  }
}

/** What a reference leads to, when that has not been visited yet. */
function follow(graph: Graph, node: Node, reference: Reference): Node | undefined {
  const target = nodeAt(graph, { ...node.home, ...placeOf(reference) }, reference.name);
  node.targets.set(reference.text, target);
  if (target?.order === undefined) return target;
  if (target.component === undefined) node.low = Math.min(node.low, target.order);
  return undefined;
}

function enter(graph: Graph, node: Node): { node: Node; next: number } {
  node.order = graph.visited++;
  node.low = node.order;
  graph.open.push(node);
  return { node, next: 0 };
}

function placeOf({ project, config }: Reference): Partial<ConfigPlace> {
  return { ...(project !== undefined && { project }), ...(config !== undefined && { config }) };
}

function leave(graph: Graph, node: Node, above: Node | undefined): void {
  if (above) above.low = Math.min(above.low, node.low);
  if (node.low === node.order) close(graph, node);
}

/** `first` and all that was opened after it are one cycle, or `first` is alone. */
function close(graph: Graph, first: Node): void {
  const members = graph.open.splice(graph.open.lastIndexOf(first));
  for (const member of members) member.component = first.low;
  for (const member of members) resolve(graph, member);
}

function resolve(graph: Graph, node: Node): void {
  if (node.references.length === 0) return;
  const parts: string[] = [];
  let from = 0;
  for (const { text } of node.references) {
    const at = node.raw.indexOf(text, from);
    const target = node.targets.get(text);
    const reason = whyNot(graph, node, target, text);
    if (reason) node.unresolved.set(text, reason);
    parts.push(node.raw.slice(from, at), reason || !target ? text : target.value);
    from = at + text.length;
    if (reason || !target) continue;
    node.bytes += target.bytes - text.length;
    node.depth = Math.max(node.depth, target.depth + 1);
    graph.addedBytes += target.bytes;
  }
  node.value = parts.join("") + node.raw.slice(from);
}

function whyNot(graph: Graph, node: Node, target: Node | undefined, text: string): UnresolvedReason | undefined {
  if (!target) return "missing";
  if (target.component === node.component) return "cycle";
  if (target.depth >= maxDepth) return "depth";
  const bytes = node.bytes + target.bytes - text.length;
  if (bytes > maxComputedBytes || graph.addedBytes + target.bytes > maxAddedBytes) return "size";
  return undefined;
}
