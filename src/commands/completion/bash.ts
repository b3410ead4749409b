import type { CompletedCommand } from "./command-tree.ts";

/** A script for bash 4 and later that needs nothing else. */
export function bashScript(tree: readonly CompletedCommand[]): string {
  const cases = (wordsOf: (command: CompletedCommand) => string[]): string =>
    tree
      .map((command) => ({ path: command.path, words: wordsOf(command) }))
      .filter(({ words }) => words.length > 0)
      .map(({ path, words }) => `    '${path}') echo '${words.join(" ")}' ;;`)
      .join("\n");
  const flags = (value?: "file" | "text") => (command: CompletedCommand) =>
    command.flags.filter((flag) => value === undefined || flag.value === value).flatMap(({ names }) => names);
  return `# Completion of rekey for bash. Load it with: source <(rekey completion bash)
_rekey_commands() {
  case "$1" in
${cases(({ commands }) => commands.map(({ name }) => name))}
  esac
}
_rekey_flags() {
  case "$1" in
${cases(flags())}
  esac
}
_rekey_file_flags() {
  case "$1" in
${cases(flags("file"))}
  esac
}
_rekey_text_flags() {
  case "$1" in
${cases(flags("text"))}
  esac
}
_rekey() {
  local current="\${COMP_WORDS[COMP_CWORD]}" at='' expects='' word index
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    if [[ $word == '=' ]]; then continue; fi
    if [[ -n $expects ]]; then expects=''; continue; fi
    if [[ $at == run && ( $word == '--' || $word != -* ) ]]; then
      [[ $word == '--' ]] && ((index++))
      if ((index == COMP_CWORD)); then mapfile -t COMPREPLY < <(compgen -c -- "$current")
      elif declare -F _command_offset >/dev/null; then _command_offset "$index"
      else mapfile -t COMPREPLY < <(compgen -f -- "$current"); fi
      return
    fi
    if [[ $word == -* ]]; then
      if [[ " $(_rekey_file_flags "$at") " == *" $word "* ]]; then expects=file
      elif [[ " $(_rekey_text_flags "$at") " == *" $word "* ]]; then expects=text; fi
    elif [[ " $(_rekey_commands "$at") " == *" $word "* ]]; then at="\${at:+$at }$word"
    fi
  done
  if [[ $current == '=' ]]; then current=''; fi
  if [[ $expects == file ]]; then mapfile -t COMPREPLY < <(compgen -f -- "$current"); return; fi
  if [[ $expects == text ]]; then return; fi
  if [[ $current == -* ]]; then mapfile -t COMPREPLY < <(compgen -W "$(_rekey_flags "$at")" -- "$current"); return; fi
  mapfile -t COMPREPLY < <(compgen -W "$(_rekey_commands "$at")" -- "$current")
}
complete -o default -F _rekey rekey
`;
}
