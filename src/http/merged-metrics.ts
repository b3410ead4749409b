interface Family {
  /** Lines that describe it. */
  readonly head: string[];
  readonly samples: string[];
}

/**
 * The metrics of several processes as one text: each sample says its `process`, the number of its place.
 * Source: Prometheus documentation, "Text-based format": all lines of one metric stand together.
 */
export function mergeMetrics(texts: ReadonlyMap<number, string>): string {
  const families = new Map<string, Family>();
  for (const [process, text] of texts) addText(families, process, text);
  const lines = [...families.values()].flatMap(({ head, samples }) => [...head, ...samples]);
  return lines.map((line) => `${line}\n`).join("");
}

function addText(families: Map<string, Family>, process: number, text: string): void {
  const described = new Set<string>();
  let current: Family = { head: [], samples: [] };
  for (const line of text.split("\n")) {
    const [, name] = /^# (?:HELP|TYPE) (\S+)/.exec(line) ?? [];
    if (name === undefined) {
      if (line !== "" && !line.startsWith("#")) current.samples.push(withProcess(line, process));
      continue;
    }
    const known = families.get(name);
    current = known ?? { head: [], samples: [] };
    if (!known) described.add(name);
    families.set(name, current);
    if (described.has(name)) current.head.push(line);
  }
}

/** `name{labels} value` or `name value`; no label of ours has a brace or a space in it that comes first. */
function withProcess(sample: string, process: number): string {
  return sample.replace(/^([^{\s]+)(?:\{(.*)\})? /, (_all, name: string, labels: string | undefined) => {
    const own = `process="${process}"`;
    return `${name}{${labels ? `${labels},${own}` : own}} `;
  });
}
