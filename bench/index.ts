// Measures what Rekey claims about itself: `npm run bench`, `npm run bench -- --only get,start --quick --json`.
import { parseArgs } from "node:util";
import { type Figure, isMet, table } from "./figures.ts";
import { Void } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { type Amount, measureRequests, type RequestKind } from "./requests.ts";

type Part = (amount: Amount) => Promise<Figure[]>;

const parts: Readonly<Record<string, Part>> = {};
void parts;
void isMet;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const amount: Amount = { rounds: Number(values.rounds ?? (values.quick ? 3 : 7)), quick: values.quick, say: (t) => console.error(t) };
console.error(describeMachine());
try {
  console.log(table(await measureRequests((values.only ?? "get,put").split(",") as RequestKind[], amount)));
} catch (error) {
  if (!(error instanceof Void)) throw error;
  console.error(`void: ${error.message}`);
  process.exitCode = 1;
}
