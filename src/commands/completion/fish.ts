import type { CompletedCommand } from "./command-tree.ts";

/** A script for fish. */
export function fishScript(tree: readonly CompletedCommand[]): string {
  const lines = tree.flatMap((command) => {
    const at = `complete -c rekey -n ${quoted(`__rekey_is_at ${quoted(command.path)}`)}`;
    const commands = command.commands.map(({ name, about }) => `${at} -f -a ${name} -d ${quoted(about)}`);
    const flags = command.flags.map(({ names, about, value }) => {
      const [long = "", short] = names;
      const takes = { none: "", text: " -x", file: " -r -F" }[value];
      return `${at} -l ${long.slice(2)}${short === undefined ? "" : ` -s ${short.slice(1)}`}${takes} -d ${quoted(about)}`;
    });
    return [...commands, ...flags, ...(command.runsProgram ? [`${at} -f -a "(__fish_complete_subcommand --fcs-skip=2)"`] : [])];
  });
  const known = tree.map(({ path }) => quoted(path)).join(" ");
  const valued = tree.flatMap(({ flags }) => flags.filter(({ value }) => value !== "none").flatMap(({ names }) => names));
  return `# Completion of rekey for fish. Load it with: rekey completion fish | source
set -g __rekey_paths ${known}
set -g __rekey_valued ${[...new Set(valued)].join(" ")}
function __rekey_is_at
    set -l at
    set -l expects
    for word in (commandline -opc)[2..-1]
        if test -n "$expects"
            set expects
        else if contains -- $word $__rekey_valued
            set expects yes
        else if contains -- (string join ' ' $at $word) $__rekey_paths
            set at $at $word
        end
    end
    test "$at" = "$argv[1]"
end
${lines.join("\n")}
`;
}

const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
