import type { CompletedCommand } from "./command-tree.ts";

/** A script for zsh's completion system. */
export function zshScript(tree: readonly CompletedCommand[]): string {
  const entries = tree.map((command) => {
    const commands = command.commands.map(({ name, about }) => quoted(`${name}:${about}`));
    const flags = command.flags.flatMap(({ names, about }) => names.map((name) => quoted(`${name}:${about}`)));
    const named = (value: "file" | "text") => command.flags.filter((flag) => flag.value === value).flatMap(({ names }) => names);
    return `    ${quoted(command.path)})
      commands=(${commands.join(" ")})
      flags=(${flags.join(" ")})
      file_flags=(${named("file").join(" ")})
      text_flags=(${named("text").join(" ")})
      ;;`;
  });
  return `#compdef rekey
# Completion of rekey for zsh. Load it with: source <(rekey completion zsh), or keep it as _rekey in a folder of $fpath.
_rekey_at() {
  commands=() flags=() file_flags=() text_flags=()
  case "$1" in
${entries.join("\n")}
  esac
}
_rekey() {
  local -a commands flags file_flags text_flags
  local at='' expects='' word
  integer index
  _rekey_at ''
  for ((index = 2; index < CURRENT; index++)); do
    word="\${words[index]}"
    if [[ -n $expects ]]; then expects=''; continue; fi
    if [[ $at == run && ( $word == '--' || $word != -* ) ]]; then
      [[ $word == '--' ]] && ((index++))
      words=("\${(@)words[index,-1]}")
      ((CURRENT -= index - 1))
      _normal
      return
    fi
    if [[ $word == -* ]]; then
      if ((\${file_flags[(Ie)$word]})); then expects=file
      elif ((\${text_flags[(Ie)$word]})); then expects=text; fi
    elif ((\${commands[(I)\${word}:*]})); then
      at="\${at:+$at }$word"
      _rekey_at "$at"
    fi
  done
  if [[ $expects == file ]]; then _files; return; fi
  if [[ $expects == text ]]; then return 1; fi
  if [[ $PREFIX == -* ]]; then _describe -o option flags; return; fi
  if ((\${#commands})); then _describe command commands; else _files; fi
}
if [[ $funcstack[1] == _rekey ]]; then _rekey "$@"; else compdef _rekey rekey; fi
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
