import type { Command } from "commander";
import { pickOptions, type Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi, askText } from "./config-api.ts";
import { addConfigCommand, addConfigNoun, type ConfigCommand, confirmed } from "./config-command.ts";
import { type Answer, cell, printLine, printTable } from "./output.ts";
import { addDynamicTtl, addFormatOptions, leaseOptions } from "./run.ts";
import type { ConfigConnection } from "./scope.ts";
import { set } from "./secrets-set.ts";
import { chosenOf, fileText, secondsOf } from "./typed-values.ts";

/** Commands on the secrets of a config. */
export function addSecretsCommands(program: Command): void {
  const noun = addConfigNoun(program, "secrets", "Secrets of a config, by name", [
    list,
    get,
    set,
    remove,
    upload,
    note,
    substitute,
  ]);
  addDownload(noun);
}

/** How one secret is answered. */
export interface SecretAnswer {
  readonly raw: string | null;
  readonly computed: string | null;
  readonly computedVisibility: string | null;
  readonly computedValueType: { readonly type: string } | null;
  readonly note: string | null;
}

/** The secrets of an answer by name, sorted. */
export function secretsIn(answer: Answer): [string, SecretAnswer][] {
  const secrets = (answer.secrets ?? {}) as Readonly<Record<string, SecretAnswer>>;
  return Object.entries(secrets).sort(([a], [b]) => (a < b ? -1 : 1));
}

const path = "configs/config/secrets";

const list: ConfigCommand = {
  usage: "list",
  about: "list a config's secrets; values are shown with --values only",
  isDefault: true,
  needs: "config",
  options: {
    "--values": "show values",
    "--raw": "with --values: as they were written, references unresolved",
    "--only-names": "only names",
  },
  examples: ["rekey secrets", "rekey secrets --values --config prd", "rekey secrets --only-names --json"],
  ask: ({ options }, connection) =>
    options.onlyNames === true
      ? askConfigApi(connection, `${path}/names`, { query: { include_dynamic_secrets: false } })
      : askConfigApi(connection, path, { query: { include_dynamic_secrets: false } }),
  show(answer, { options }) {
    if (options.onlyNames === true) {
      for (const name of Array.isArray(answer.names) ? answer.names : []) printLine(String(name));
      return;
    }
    printTable(
      secretsIn(answer).map(([name, secret]) => ({ name, ...secret, value: shownValue(secret, options) })),
      { NAME: "name", VALUE: "value", VISIBILITY: "computedVisibility", NOTE: "note" },
      "no secrets; rekey secrets set NAME makes one",
    );
  },
};

function shownValue({ raw, computed, computedVisibility }: SecretAnswer, options: Typed["options"]): string {
  const value = options.raw === true ? raw : computed;
  if (value === null) return "[restricted]";
  return options.values === true || computedVisibility === "unmasked" ? value : "********";
}

const get: ConfigCommand = {
  usage: "get <name>",
  about: "print a secret's value, and nothing else",
  needs: "config",
  options: { "--raw": "as it was written, references unresolved" },
  examples: ["rekey secrets get DB_URL", "rekey secrets get DB_URL --raw --config prd"],
  ask: ({ args }, connection) => askConfigApi(connection, "configs/config/secret", { query: { name: args[0] } }),
  show(answer, { args, options }) {
    const { raw, computed } = (answer.value ?? {}) as SecretAnswer;
    const value = options.raw === true ? raw : computed;
    if (typeof value !== "string")
      throw new CommandError(1, `the value of ${args[0]} is restricted: only service tokens and service accounts read it`);
    process.stdout.write(`${value}${process.stdout.isTTY ? "\n" : ""}`);
  },
};

const remove: ConfigCommand = {
  usage: "delete <name...>",
  about: "delete secrets of a config; rekey configs logs rollback takes it back",
  needs: "config",
  options: { "--yes": "without asking" },
  examples: ["rekey secrets delete OLD_KEY", "rekey secrets delete A B --yes"],
  ask: async ({ args, options }, connection) => {
    await confirmed(options, `Delete ${args.join(", ")}?`);
    return askConfigApi(connection, path, {
      method: "POST",
      body: { change_requests: args.map((name) => ({ name, originalName: name, shouldDelete: true })) },
    });
  },
  show(answer, { args }) {
    const left = secretsIn(answer).flatMap(([name]) => (args.includes(name) ? [name] : []));
    const own = `deleted: ${args.join(", ")}`;
    printLine(left.length === 0 ? own : `${own}; what the root or a parent has is shown: ${left.join(", ")}`);
  },
};

const upload: ConfigCommand = {
  usage: "upload <file>",
  about: "set all secrets that a file holds: .env, JSON or YAML; rekey import shows a plan first",
  needs: "config",
  examples: ["rekey secrets upload .env", "rekey secrets upload - < secrets.json"],
  ask: async ({ args }, connection) =>
    askConfigApi(connection, `${path}/upload`, { method: "POST", body: { file: await fileText(args[0] ?? "-") } }),
  show: (answer) => printLine(`uploaded; the config has ${secretsIn(answer).length} secrets now`),
};

const note: ConfigCommand = {
  usage: "note <name> <text>",
  about: "say what a secret is for, in all configs of the project; an empty text removes it",
  needs: "project",
  examples: ['rekey secrets note STRIPE_KEY "made by the finance team"'],
  ask: ({ args }, connection) =>
    askConfigApi(connection, "projects/project/note", { method: "POST", body: { secret: args[0], note: args[1] } }),
  show: (_answer, { args }) => printLine(`the note of ${args[0]} is ${args[1] === "" ? "removed" : "kept"}`),
};

const substitute: ConfigCommand = {
  usage: "substitute <file>",
  about: "print a text in which {{NAME}} and {{json NAME}} are replaced by secrets",
  needs: "config",
  examples: ["rekey secrets substitute nginx.conf.template > nginx.conf"],
  options: leaseOptions,
  ask: async (typed, connection) => {
    const [{ renderTemplate }, template] = await Promise.all([import("./run/template.ts"), fileText(typed.args[0] ?? "-")]);
    const { text } = await download(typed, connection, {});
    return { text: renderTemplate(template, new Map(Object.entries(JSON.parse(text) as Record<string, string>))) };
  },
  show: (answer) => void process.stdout.write(String(answer.text)),
};

/** The answer of a download, rendered by the server. */
function download(
  { options }: Typed,
  connection: ConfigConnection,
  query: Readonly<Record<string, string | undefined>>,
): Promise<{ text: string }> {
  return askText(connection, `${path}/download`, {
    query: {
      include_dynamic_secrets: options.leases !== false,
      dynamic_secrets_ttl_sec: options.leases === false ? undefined : secondsOf(options.ttl ?? options.dynamicTtl, "--ttl"),
      ...query,
    },
  });
}

function addDownload(noun: Command): void {
  const command = addConfigCommand(noun, {
    usage: "download [file]",
    about: "write an encrypted offline copy for rekey run --fallback, or print all secrets",
    needs: "config",
    options: {
      "--no-file": "print them instead",
      "--only-secrets <names>": "with --no-file: only these, comma-separated",
      ...leaseOptions,
    },
    notes: `The file is sealed under the token in use, and opened by no other. It holds no leased credentials. With --no-file leases of
dynamic secrets are taken, which end by themselves.`,
    examples: [
      "rekey secrets download app.rekey && rekey run --fallback app.rekey --fallback-only -- ./start",
      "rekey secrets download --no-file --format env",
    ],
    ask: (typed, connection) => (typed.options.file === false ? printed(typed, connection) : toFile(typed, connection)),
    show: (answer) => {
      if (typeof answer.body === "string") process.stdout.write(answer.body);
      else
        printLine(
          `${cell(answer.path)} holds ${answer.secrets} secrets; rekey run --fallback ${cell(answer.path)} uses them offline`,
        );
    },
  });
  addFormatOptions(command, "--no-file: ");
  addDynamicTtl(command);
}

async function printed(typed: Typed, connection: ConfigConnection): Promise<Answer> {
  const { options } = typed;
  const [{ configFormats }, { nameTransformers }] = await Promise.all([
    import("../core/config-formats.ts"),
    import("../core/config-transformers.ts"),
  ]);
  const isJson = options.json === true;
  const format = isJson ? "json" : chosenOf(options.format, configFormats, "--format");
  const transformer = chosenOf(options.nameTransformer, nameTransformers, "--name-transformer");
  const names = pickOptions(options, { secrets: "onlySecrets" }) as { secrets?: string };
  const { text } = await download(typed, connection, { format: format ?? "json", name_transformer: transformer, ...names });
  return isJson ? (JSON.parse(text) as Answer) : { body: text.endsWith("\n") || text === "" ? text : `${text}\n` };
}

async function toFile({ args, options }: Typed, connection: ConfigConnection): Promise<Answer> {
  if (options.format !== undefined || options.nameTransformer !== undefined || options.onlySecrets !== undefined)
    throw new CommandError(
      2,
      "--format, --name-transformer and --only-secrets go with --no-file: the file always holds all, encrypted",
    );
  const { writeOfflineCopy } = await import("./run/write-copy.ts");
  const file = args[0] ?? "rekey.offline";
  return { path: file, secrets: await writeOfflineCopy(connection, file) };
}
