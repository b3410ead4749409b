import { readFileSync } from "node:fs";
import { Command } from "commander";
import { addAccessKeyCommands } from "./commands/access-key.ts";
import { addActivityCommands } from "./commands/activity.ts";
import { addAgentCommands } from "./commands/agent.ts";
import { addAuditCommands } from "./commands/audit.ts";
import { addAwsCommands } from "./commands/aws.ts";
import { addBackupCommands } from "./commands/backup.ts";
import { addCompletionCommand } from "./commands/completion.ts";
import { addConfigsCommands } from "./commands/configs.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addDynamicCommands } from "./commands/dynamic.ts";
import { addEnvironmentsCommands } from "./commands/environments.ts";
import { addEventsCommands } from "./commands/events.ts";
import { addExportCommand } from "./commands/export.ts";
import { addFunctionCommands } from "./commands/function.ts";
import { addGroupCommands } from "./commands/group.ts";
import { addImportCommand } from "./commands/import.ts";
import { addInitCommand } from "./commands/init.ts";
import { addIntegrationCommands } from "./commands/integration.ts";
import { addKeyCommands } from "./commands/key.ts";
import { addLeaseCommands } from "./commands/lease.ts";
import { addLoginCommands } from "./commands/login.ts";
import { addMigrateCommand } from "./commands/migrate.ts";
import { addNetworkCommands } from "./commands/network.ts";
import { addOidcProviderCommands } from "./commands/oidc-provider.ts";
import { addPolicyCommands } from "./commands/policy.ts";
import { addProjectsCommands } from "./commands/projects.ts";
import { addQuarantineCommands } from "./commands/quarantine.ts";
import { addRoleCommands } from "./commands/role.ts";
import { addRootKeyCommand } from "./commands/root-key.ts";
import { addRotatedCommands } from "./commands/rotated.ts";
import { addRotationCommands } from "./commands/rotation.ts";
import { addRunCommand } from "./commands/run.ts";
import { addSecretCommands } from "./commands/secret.ts";
import { addSecretsCommands } from "./commands/secrets.ts";
import { addServerCommand } from "./commands/server.ts";
import { addServiceAccountCommands } from "./commands/service-account.ts";
import { addServiceTokenCommands } from "./commands/service-token.ts";
import { addSetupCommand } from "./commands/setup.ts";
import { addSigningKeyCommands } from "./commands/signing-key.ts";
import { addTokenCommands } from "./commands/token.ts";
import { addTrustedIpCommands } from "./commands/trusted-ip.ts";
import { addUserCommands } from "./commands/user.ts";
import { addWebhookCommands } from "./commands/webhook.ts";

/** The whole command line, ready to read arguments; it throws CommanderError instead of ending the process. */
export function makeProgram(): Command {
  // Command files are light: what they need of stores, keys and servers is imported when they run.
  const program = new Command("rekey")
    .description("Keeps secrets, and changes the credentials behind them without downtime.")
    .usage("<command>")
    .version(version(), "--version", "print the version")
    .helpCommand(false)
    .enablePositionalOptions() // `secret get --version` is not ours
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showSuggestionAfterError()
    .addHelpText(
      "after",
      `
To begin: rekey server, then in another terminal rekey secret create my/first and rekey secret get my/first.
To rotate a secret of a database: rekey rotation setup NAME, which shows what it would do, and asks.
To give a program its secrets: rekey projects create NAME, rekey setup, rekey secrets set NAME, rekey run -- PROGRAM.
Commands that talk to a server take --endpoint and --token, REKEY_ENDPOINT and REKEY_TOKEN, or ./.rekey/root-credentials.json.
Exit codes: 0 done, 1 refused or failed, 2 wrongly called, 3 nobody answered.`,
    );

  program.commandsGroup("Server and store:");
  addServerCommand(program);
  addInitCommand(program);
  addAgentCommands(program);
  addMigrateCommand(program);
  addBackupCommands(program);
  addDoctorCommand(program);
  addRootKeyCommand(program);
  program.commandsGroup("Secrets:");
  addSecretCommands(program);
  addRotationCommands(program);
  addQuarantineCommands(program);
  addEventsCommands(program);
  addFunctionCommands(program);
  addNetworkCommands(program);
  addAwsCommands(program);
  addKeyCommands(program);
  addSigningKeyCommands(program);
  program.commandsGroup("Configs of applications:");
  addLoginCommands(program);
  addSetupCommand(program);
  addRunCommand(program);
  addSecretsCommands(program);
  addImportCommand(program);
  addExportCommand(program);
  addProjectsCommands(program);
  addEnvironmentsCommands(program);
  addConfigsCommands(program);
  addIntegrationCommands(program);
  addRotatedCommands(program);
  addDynamicCommands(program);
  addLeaseCommands(program);
  addServiceTokenCommands(program);
  addTrustedIpCommands(program);
  addWebhookCommands(program);
  addActivityCommands(program);
  addCompletionCommand(program);
  program.commandsGroup("Who may do what:");
  addUserCommands(program);
  addGroupCommands(program);
  addRoleCommands(program);
  addPolicyCommands(program);
  addAccessKeyCommands(program);
  addTokenCommands(program);
  addServiceAccountCommands(program);
  addOidcProviderCommands(program);
  addAuditCommands(program);
  return program;
}

function version(): string {
  const read: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  return typeof read === "object" && read !== null && "version" in read ? String(read.version) : "unknown";
}
