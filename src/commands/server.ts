import type { Command } from "commander";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { printLine } from "./output.ts";
import { addSettings, readSettings } from "./settings-options.ts";

/** `rekey server` */
export function addServerCommand(program: Command): void {
  const command = program
    .command("server")
    .description("Run the server: the AWS Secrets Manager API, the native API and the rotation engine")
    .addHelpText(
      "after",
      `
The first start makes the store, its root key and the root user's credentials in DIR/root-credentials.json.
Each flag is also an environment variable, as shown; a flag wins. SIGTERM finishes open requests, then stops.
SIGHUP reads certificate and key of --tls-cert and --tls-key again.
Give a database URL with a password as REKEY_DATABASE_URL: other users of the machine can read arguments.
${exampleText([
  "rekey server",
  "rekey server --data /var/lib/rekey --listen 0.0.0.0:7353 --tls-cert cert.pem --tls-key key.pem",
  "REKEY_DATABASE_URL=postgres://rekey@db/rekey rekey server --root-key file:/etc/rekey/root.key",
])}`,
    );
  // What it does not know is told together with everything else that is wrong.
  command.allowUnknownOption().allowExcessArguments();
  addSettings(command, "server").action(async () => {
    const config = readSettings("server", { ...command.opts(), ...unknownFlags(command.args) });
    const [{ startServer }, { looseModes }, { createLog }] = await Promise.all([
      import("../server.ts"),
      import("../open-store.ts"),
      import("../log.ts"),
    ]);
    if (config.databaseUrl === undefined) for (const says of looseModes(config)) createLog(config.logLevel).warn(says);
    const stopped = Promise.withResolvers<void>();
    // Before the server starts: a signal during a slow start must not be lost.
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopped.resolve());
    const server = await startServer(config);
    if (config.tlsCert !== undefined) process.on("SIGHUP", () => server.reloadTls());
    printLine(`rekey: listening on ${server.endpoint}`);
    await stopped.promise;
    await server.close();
  });
}

/** Flags that commander left over, by their names; what follows one may be its value. */
function unknownFlags(args: readonly string[]): Record<string, true> {
  const [first] = args;
  if (first !== undefined && !first.startsWith("-")) throw new CommandError(2, "server takes flags only; --help shows them");
  const names = args.filter((arg) => arg.startsWith("-")).map((arg) => arg.replace(/^-+|=.*$/gs, ""));
  return Object.fromEntries(names.map((name) => [name, true]));
}
