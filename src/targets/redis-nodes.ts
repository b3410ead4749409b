import { z } from "zod";

const maxNodes = 100;
const shape = /^(?:\[([^\]\s]+)\]|([^:\s]+))(?::(\d{1,5}))?$/;

/** Redis replicates no users: each server keeps its own. */
export interface Node {
  readonly host: string;
  readonly port: number;
}

/** `nodes` of a secret or a connection. */
export const nodeList = z.array(z.string().regex(shape, "must be host or host:port")).max(maxNodes).default([]);

/** `persist` likewise: whether changes of users are saved. */
export const persistence = z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]).default(true);

/** Every server that keeps users of its own, `first` among them. */
export function allNodes(first: Node, nodes: readonly string[]): Node[] {
  const others = nodes.map((text) => {
    const [, v6, name, at] = shape.exec(text) ?? [];
    return { host: v6 ?? name ?? text, port: Number(at ?? first.port) };
  });
  return [...new Map([first, ...others].map(({ host, port }) => [placeOf({ host, port }), { host, port }])).values()];
}

export const placeOf = ({ host, port }: Node): string => `${host.toLowerCase()}:${port}`;

/** At all nodes at once; throws what the first of those that failed met, when all have ended. */
export async function atAll<T>(nodes: readonly Node[], work: (node: Node) => Promise<T>): Promise<T[]> {
  const results = await Promise.allSettled(nodes.map(work));
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}
