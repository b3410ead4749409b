import type { Command } from "commander";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";

/** `rekey completion` */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion")
    .argument("<shell>", "bash, zsh or fish")
    .description("Print a script that completes commands and options in a shell")
    .addHelpText(
      "after",
      exampleText([
        "source <(rekey completion bash)    # in ~/.bashrc",
        "source <(rekey completion zsh)     # in ~/.zshrc, after compinit",
        "rekey completion fish > ~/.config/fish/completions/rekey.fish",
      ]),
    )
    .action(async (shell: string) => {
      process.stdout.write(await scriptFor(program, shell));
    });
}

/** @throws CommandError for usage */
async function scriptFor(program: Command, shell: string): Promise<string> {
  const { commandTree } = await import("./completion/command-tree.ts");
  const tree = commandTree(program);
  if (shell === "bash") return (await import("./completion/bash.ts")).bashScript(tree);
  if (shell === "zsh") return (await import("./completion/zsh.ts")).zshScript(tree);
  if (shell === "fish") return (await import("./completion/fish.ts")).fishScript(tree);
  throw new CommandError(2, "scripts are there for bash, zsh and fish");
}
