import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeMetrics } from "../../src/http/merged-metrics.ts";

test("samples of one metric stand together and say their process", () => {
  const text = (count: number, more = "") =>
    `# HELP a Some.\n# TYPE a counter\na ${count}\n\n# HELP b Others.\n# TYPE b gauge\nb{x="HTTP 431",y="{}"} ${count}\n${more}`;
  const merged = mergeMetrics(
    new Map([
      [0, text(1)],
      [2, text(3, "# HELP c More.\n# TYPE c gauge\nc 4\n")],
    ]),
  );
  assert.deepEqual(merged.split("\n"), [
    "# HELP a Some.",
    "# TYPE a counter",
    'a{process="0"} 1',
    'a{process="2"} 3',
    "# HELP b Others.",
    "# TYPE b gauge",
    'b{x="HTTP 431",y="{}",process="0"} 1',
    'b{x="HTTP 431",y="{}",process="2"} 3',
    "# HELP c More.",
    "# TYPE c gauge",
    'c{process="2"} 4',
    "",
  ]);
  assert.equal(mergeMetrics(new Map()), "");
});
