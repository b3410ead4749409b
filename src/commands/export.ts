import type { Command } from "commander";
import { configFormats, renderSecrets } from "../core/config-formats.ts";
import { CommandError } from "./command-error.ts";
import { askConfigApi } from "./config-api.ts";
import { addConfigCommand } from "./config-command.ts";
import { cell, printLine } from "./output.ts";
import { writePrivateFile } from "./private-file.ts";
import { secretsIn } from "./secrets.ts";
import { chosenOf } from "./typed-values.ts";

const formats = [...configFormats, "shell"] as const;

/** `rekey export` */
export function addExportCommand(program: Command): void {
  addConfigCommand(program, {
    usage: "export",
    about: "print all secrets of a config, in clear, for another system to take over",
    needs: "config",
    options: {
      "--format <format>": "json, env, yaml, docker, env-no-quotes, dotnet-json or shell; default env",
      "--output <file>": "into this file, readable by you only, instead of standard output",
      "--raw": "values as they were written, references unresolved",
    },
    notes: `Without what the config has of leases. Programs that source a file in a shell need format shell: in env files $ stands for
itself, and a shell would replace it.`,
    examples: ["rekey export --config prd --format yaml --output prd.yaml", 'eval "$(rekey export --format shell)"'],
    async ask({ options }, connection) {
      const format = options.json === true ? "json" : (chosenOf(options.format, formats, "--format") ?? "env");
      const answer = await askConfigApi(connection, "configs/config/secrets", {
        query: { include_dynamic_secrets: false, include_managed_secrets: false },
      });
      const values = secretsIn(answer).map(([name, { raw, computed }]) => [name, options.raw === true ? raw : computed] as const);
      const hidden = values.filter(([, value]) => value === null).map(([name]) => name);
      if (hidden.length > 0)
        throw new CommandError(1, `restricted, and so read by service tokens and service accounts only: ${hidden.join(", ")}`);
      const secrets = new Map(values.map(([name, value]) => [name, value ?? ""]));
      if (options.json === true) return Object.fromEntries(secrets);
      const body = format === "shell" ? shellText(secrets) : renderSecrets(secrets, { format }).body;
      return { body: body === "" || body.endsWith("\n") ? body : `${body}\n`, count: secrets.size };
    },
    show({ body, count }, { options }) {
      if (typeof options.output !== "string") process.stdout.write(String(body));
      else {
        writePrivateFile(options.output, String(body));
        printLine(`${String(count)} secrets are in ${cell(options.output)}, in clear`);
      }
    },
  });
}

/** Lines that a shell may run: each value stands in single quotes, in which nothing has a meaning but they themselves. */
export function shellText(secrets: ReadonlyMap<string, string>): string {
  for (const [name, value] of secrets)
    if (value.includes("\0"))
      throw new CommandError(1, `the value of ${name} holds a NUL, which no shell can: export it as json`);
  return [...secrets].map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`).join("");
}
