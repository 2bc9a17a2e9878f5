"""Prints a script that completes the programs' flags, and the values of those that have a choice, in a shell.

    source <(rnnt-kd-completion)                                              # in ~/.bashrc
    autoload -U compinit && compinit && source <(rnnt-kd-completion)          # in ~/.zshrc

The same script serves bash and zsh. It knows the console scripts (rnnt-kd-train) and python -m (tf_rnnt_kd.train);
everything else of python is completed as before. From a checkout: source <(python -m tf_rnnt_kd.completion).
"""

import shlex
import sys

from absl import flags

from tf_rnnt_kd import command_line, programs

# bash cuts --flag=value into three words, zsh does not: so value completions carry the flag in zsh only.
_SCRIPT = """\
if [ -n "$ZSH_VERSION" ]; then
  autoload -U +X bashcompinit && bashcompinit
fi

_rnnt_kd_flags() {
  case $1 in
%(flags)s
  esac
}

_rnnt_kd_values() {
  case "$1 $2" in
%(values)s
  esac
}

_rnnt_kd() {
  local word="${COMP_WORDS[COMP_CWORD]}" program="${COMP_WORDS[0]##*/}" flag="" prefix="" reply
  COMPREPLY=()
  case $program in
    python*)
      [ "${COMP_WORDS[1]}" = -m ] || return 0
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=( $(compgen -W "%(modules)s" -- "$word") )
        return 0
      fi
      program="${COMP_WORDS[2]}" ;;
  esac
  if [ "$word" = "=" ]; then
    flag="${COMP_WORDS[COMP_CWORD-1]}" word=""
  elif [ "$COMP_CWORD" -gt 1 ] && [ "${COMP_WORDS[COMP_CWORD-1]}" = "=" ]; then
    flag="${COMP_WORDS[COMP_CWORD-2]}"
  elif [ "${word#--*=}" != "$word" ]; then
    flag="${word%%%%=*}" word="${word#*=}" prefix="${flag}="
  fi
  if [ -n "$flag" ]; then
    for reply in $(compgen -W "$(_rnnt_kd_values "$program" "$flag")" -- "$word"); do
      COMPREPLY+=( "$prefix$reply" )
    done
    return 0
  fi
  COMPREPLY=( $(compgen -W "$(_rnnt_kd_flags "$program")" -- "$word") )
  case "${COMPREPLY[0]}" in
    *=) compopt -o nospace 2> /dev/null ;; # zsh has none
  esac
  return 0
}

complete -o default -o bashdefault -F _rnnt_kd %(commands)s python python3
"""


def define_flags(values: flags.FlagValues) -> None:
    """It has none."""


def script() -> str:
    """The shell's script, for all of `programs.PROGRAMS`."""
    names, choices = [], []
    for command, module in programs.PROGRAMS.items():
        pattern, words = f"{command}|{programs.typed(module)}", []
        for name, flag in programs.flags_of(module).items():
            words.append(f"--{name}=" if not flag.boolean else f"--no{name}" if flag.default else f"--{name}")
            values = getattr(flag.parser, "enum_values", None)
            if values:
                either = "|".join(f'"{program} --{name}"' for program in pattern.split("|"))
                choices.append(f"    {either}) echo {shlex.quote(' '.join(values))} ;;")
        names.append(f"    {pattern}) echo {shlex.quote(' '.join([*words, '--help']))} ;;")
    return _SCRIPT % {
        "flags": "\n".join(names),
        "values": "\n".join(choices),
        "modules": " ".join(map(programs.typed, programs.PROGRAMS.values())),
        "commands": " ".join(programs.PROGRAMS),
    }


def _completion() -> None:
    sys.stdout.write(script())


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_completion, define_flags)


if __name__ == "__main__":
    main()
