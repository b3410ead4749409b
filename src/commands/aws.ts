import type { Command } from "commander";
import { addAwsKeys } from "./aws-keys.ts";
import { addAwsTemplate } from "./aws-template.ts";

/** Commands for functions of AWS Lambda; they ask neither a server nor AWS. */
export function addAwsCommands(program: Command): void {
  const noun = program
    .command("aws")
    .description("What Rekey needs at AWS to reach targets by functions of AWS Lambda")
    .usage("<command>")
    .helpCommand(false);
  addAwsTemplate(noun);
  addAwsKeys(noun);
}
