import type { Command } from "commander";
import type { Flags } from "../config.ts";
import { ServiceError } from "../core/error.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigOptions, addOptions, confirmed } from "./config-command.ts";
import type { Found } from "./import/from-aws.ts";
import { type Answer, printJson, printLine, printTable } from "./output.ts";
import { withProgress } from "./progress.ts";
import { configConnection } from "./scope.ts";
import { secretsIn } from "./secrets.ts";
import { chosenOf, fileText } from "./typed-values.ts";

const awsSource = "aws-secretsmanager";

const options = {
  "--format <format>": "of a file: env, json or yaml; default what it looks like",
  "--secret <name...>": `${awsSource}: only the secret of this name`,
  "--prefix <text>": `${awsSource}: only secrets whose names begin so`,
  "--strip-prefix <text>": `${awsSource}: leave this away at the front of names`,
  "--whole": `${awsSource}: keep JSON objects as one value each, instead of one for each member`,
  "--from-region <region>": `${awsSource}: of this region; default AWS_REGION, or what the profile says`,
  "--from-endpoint <url>": `${awsSource}: at this address; default AWS_ENDPOINT_URL_SECRETS_MANAGER, or AWS`,
  "--yes": "do what the plan says without asking",
};

const help = `
Shows what would be set first, without values. Run again, it sets only what is missing or different. Values that somebody changes
between plan and yes are not overwritten. Names become upper case: app/db with member username becomes APP_DB_USERNAME.
${exampleText([
  "rekey import .env",
  "rekey import secrets.yaml --config prd --yes",
  `rekey import ${awsSource} --prefix shop/prd/ --strip-prefix shop/prd/ --from-region eu-central-1`,
])}`;

/** `rekey import` */
export function addImportCommand(program: Command): void {
  const command = program
    .command("import")
    .argument("<source>", `a file, - for standard input, or ${awsSource}`)
    .description("Take secrets over into a config: from .env, JSON and YAML files, or from AWS Secrets Manager");
  addOptions(command, options);
  addConfigOptions(command).addHelpText("after", help);
  command.action((source: string) => importFrom(source, command.opts()));
}

/** One secret of a plan. */
interface Planned {
  readonly name: string;
  readonly state: "new" | "changed" | "same";
  readonly value: string;
  /** What is there now. */
  readonly before?: string | null;
}

async function importFrom(source: string, given: Flags): Promise<void> {
  const connection = await configConnection(given, "config");
  const { values, left } = await found(source, given);
  const now = await askConfigApi(connection, "configs/config/secrets", { query: { include_dynamic_secrets: false } });
  const plan = planOf(values, new Map(secretsIn(now).map(([name, { raw }]) => [name, raw])));
  const open = plan.filter(({ state }) => state !== "same");
  const isJson = given.json === true;
  if (!isJson) showPlan(plan, left);
  const go = open.length > 0 && (given.yes === true || (!isJson && (await agreed(given, open.length))));
  if (go) {
    const body = { change_requests: open.map(changeOf) };
    const write = () => askConfigApi(connection, "configs/config/secrets", { method: "POST", body });
    await withProgress(`setting ${open.length} secrets`, write, 1000);
  }
  if (isJson) printJson({ secrets: plan.map(({ name, state }) => ({ name, state })), left, applied: go });
  else
    printLine(
      go
        ? `${open.length} secrets are set`
        : open.length === 0
          ? "all of it is there: nothing was changed"
          : "nothing was changed",
    );
}

async function agreed(given: Flags, count: number): Promise<boolean> {
  await confirmed(given, `Set ${count} secrets?`);
  return true;
}

async function found(source: string, given: Flags): Promise<Found> {
  if (source === awsSource) return (await import("./import/from-aws.ts")).fromAws(given);
  const [{ parseUpload }, text] = await Promise.all([import("../core/config-upload.ts"), fileText(source)]);
  const format = chosenOf(given.format, ["env", "json", "yaml"], "--format") ?? formatOf(source);
  const values = inWords(() => parseUpload(text, format));
  if (values.size === 0) throw new CommandError(1, `${source} holds no secrets`);
  return { values, left: [] };
}

function inWords<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof ServiceError ? new CommandError(1, error.message) : error;
  }
}

function formatOf(path: string): "env" | "json" | "yaml" | undefined {
  if (/(^|\/)\.env[^/]*$|\.env$/.test(path)) return "env";
  if (path.endsWith(".json")) return "json";
  return /\.ya?ml$/.test(path) ? "yaml" : undefined;
}

/** In the order of names. */
export function planOf(wanted: ReadonlyMap<string, string>, there: ReadonlyMap<string, string | null>): Planned[] {
  return [...wanted]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => {
      const before = there.get(name);
      if (before === undefined) return { name, value, state: "new" };
      return { name, value, before, state: before === value ? "same" : "changed" };
    });
}

/** A change that holds only while what we saw is still there; what is restricted was not seen. */
const changeOf = ({ name, value, before }: Planned): Answer => ({
  name,
  originalName: null,
  value,
  ...(typeof before === "string" && { originalValue: before }),
});

function showPlan(plan: readonly Planned[], left: readonly string[]): void {
  printTable(
    plan.map(({ name, state }) => ({ name, state })),
    { NAME: "name", STATE: "state" },
    "nothing was found",
  );
  for (const line of left) printLine(line);
}
