import type { Command, Option } from "commander";

/** One command as completion sees it. */
export interface CompletedCommand {
  /** Names from the program down, a blank between: `secrets get`; empty for the program itself. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly about: string }[];
  readonly flags: readonly CompletedFlag[];
  /** Whether its arguments are another program's command line. */
  readonly runsProgram: boolean;
}

interface CompletedFlag {
  /** `--project`, and `-p` when there is one. */
  readonly names: readonly string[];
  readonly about: string;
  /** Whether a value has to follow, and whether that is a file or folder. */
  readonly value: "none" | "text" | "file";
}

/** All commands of a program, the program itself first. */
export function commandTree(program: Command): CompletedCommand[] {
  const below = (command: Command, path: string): CompletedCommand[] => [
    {
      path,
      commands: command.commands.map((sub) => ({ name: sub.name(), about: sub.description() })),
      flags: [...command.options.filter(({ hidden }) => !hidden).map(flagOf), help],
      runsProgram: command.registeredArguments[0]?.variadic === true && path === "run",
    },
    ...command.commands.flatMap((sub) => below(sub, path === "" ? sub.name() : `${path} ${sub.name()}`)),
  ];
  return below(program, "");
}

const help: CompletedFlag = { names: ["--help", "-h"], about: "display help", value: "none" };

function flagOf(option: Option): CompletedFlag {
  const placeholder = /<(.+?)>/
    .exec(option.flags)?.[1]
    ?.replace(/\.\.\.$/, "")
    .toLowerCase();
  const isFile = placeholder !== undefined && ["file", "path", "dir", "folder"].includes(placeholder);
  return {
    names: [option.long, option.short].filter((name) => typeof name === "string"),
    about: option.description,
    value: isFile ? "file" : option.required ? "text" : "none",
  };
}
