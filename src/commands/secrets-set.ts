import type { Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi } from "./config-api.ts";
import type { ConfigCommand } from "./config-command.ts";
import { printLine } from "./output.ts";
import { chosenOf, secretBytes } from "./typed-values.ts";

const visibilities = ["masked", "unmasked", "restricted"] as const;

/** `rekey secrets set` */
export const set: ConfigCommand = {
  usage: "set <name...>",
  about: "give secrets of a config a value: what is asked for, or standard input",
  needs: "config",
  options: {
    "--value-file <file>": "the value is what this file holds; - for standard input, byte for byte",
    "--visibility <visibility>": `${visibilities.join(", ")}; default as it is, masked at first`,
    "--type <type>": "what the value has to be, such as json, integer, url or datetime8601",
  },
  notes: `NAME=VALUE is for what is no secret: other users of the machine can read arguments, and shells remember them. NAME alone is
asked for on a terminal without showing it, or read from standard input without its last line end.`,
  examples: [
    "rekey secrets set STRIPE_KEY    # asks for the value",
    'printf %s "$KEY" | rekey secrets set STRIPE_KEY',
    "rekey secrets set TLS_KEY --value-file key.pem --visibility restricted",
    "rekey secrets set LOG_LEVEL=debug PORT=8080 --visibility unmasked",
  ],
  async ask(typed, connection) {
    const { visibility, type } = typed.options;
    const values = await valuesOf(typed);
    const rules = {
      ...(visibility !== undefined && { visibility: chosenOf(visibility, visibilities, "--visibility") }),
      ...(type !== undefined && { valueType: { type } }),
    };
    const body =
      Object.keys(rules).length === 0
        ? { secrets: Object.fromEntries(values) }
        : { change_requests: values.map(([name, value]) => ({ name, originalName: null, value, ...rules })) };
    return askConfigApi(connection, "configs/config/secrets", { method: "POST", body });
  },
  show: (_answer, { args }) => printLine(`set: ${args.map(nameOf).join(", ")}`),
};

const nameOf = (word: string): string => word.split("=", 1)[0] ?? word;

async function valuesOf({ args, options }: Typed): Promise<[string, string][]> {
  const bare = args.filter((word) => !word.includes("="));
  if (options.valueFile !== undefined && (args.length > 1 || bare.length !== 1))
    throw new CommandError(2, "--value-file goes with one NAME alone");
  if (bare.length > 1 && !process.stdin.isTTY)
    throw new CommandError(2, "standard input holds one value: give one NAME alone, or use rekey secrets upload");
  const values: [string, string][] = [];
  for (const word of args) {
    const at = word.indexOf("=");
    values.push(at < 0 ? [word, await typedValue(word, options.valueFile)] : [word.slice(0, at), word.slice(at + 1)]);
  }
  return values;
}

async function typedValue(name: string, valueFile: unknown): Promise<string> {
  const path = typeof valueFile === "string" ? valueFile : undefined;
  const bytes = await secretBytes({ path, text: true, question: `Value of ${name}` });
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CommandError(2, `the value of ${name} is not UTF-8 text; encode it first, as base64`, { cause: error });
  }
}
