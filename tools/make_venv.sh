#!/usr/bin/env bash
# Makes the virtual environment of this checkout from the lock of its Python, or says in a moment that it is there.
#
#   tools/make_venv.sh            VENV=DIR (default .venv), PYTHON=INTERPRETER (default: the first that fits)
#
# The lock's checksum is written into the environment last, so an install that was interrupted is done again from scratch,
# and so is one whose lock has changed. A folder that this script did not make is never removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without bytecode every import of TensorFlow and Beam takes ten times longer; the others would lead pip or venv elsewhere.
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME PIP_NO_COMPILE PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIREMENT PIP_CONSTRAINT
export PIP_DISABLE_PIP_VERSION_CHECK=1

venv="${VENV:-.venv}"
marker="$venv/.made-by-make_venv" # ours to remove
stamp="$venv/.lock.stamp"         # the packages are complete
project_stamp="$venv/.project.stamp"

say() { echo "make_venv: $*" >&2; }
fail() { say "$*"; exit 1; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
# The folder is part of it: the scripts of an environment hold its path, so a moved checkout needs a new one.
stamp_for() { echo "python$1 $(sha256sum <"requirements/python$1.lock" | cut -d' ' -f1) $(cd "$venv" && pwd -P)"; }
# Its console scripts come from programs.py; all else of the code is found as it lies here.
project_state() { cat setup.py pyproject.toml tf_rnnt_kd/programs.py | sha256sum | cut -d' ' -f1; }

find_python() { # prints the first interpreter that runs (a version manager's shim may not) and has a lock
  local candidate path folder own
  own=$(cd "$venv" 2>/dev/null && pwd -P) || own=
  for candidate in ${PYTHON:-python3.11 python3.10 python3 "${HOME:-/}"/.pyenv/versions/3.11.*/bin/python \
    "${HOME:-/}"/.pyenv/versions/3.10.*/bin/python}; do
    while read -r path; do
      folder=$(cd "$(dirname "$path")" && pwd -P)
      [ -n "$own" ] && [[ "$folder/" = "$own"/* ]] && continue # of the environment that is about to be removed
      [ -f "requirements/python$(version_of "$path").lock" ] && { echo "$path"; return; }
      break
    done < <(type -aP "$candidate")
  done
  return 1
}

ensure_venv_module() { # $1 interpreter, $2 version: Debian keeps venv's pip in a package of its own
  "$1" -c 'import ensurepip, venv' 2>/dev/null && return
  local package="python$2-venv"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "$1 lacks the venv module: installing the Debian package $package"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q "$package" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q "$package" >/dev/null; } ||
      fail "apt-get could not install $package; install it by hand and call again"
  else
    fail "$1 lacks the venv module: run 'sudo apt-get install $package' and call again"
  fi
}

install_lock() { # $1 interpreter, $2 version
  local lock="requirements/python$2.lock" total
  total=$(grep -c '==' "$lock")
  if [ -e "$venv" ]; then
    [ -e "$marker" ] || fail "$venv exists and was not made by this script: move it away, or choose another folder with VENV=DIR"
    rm -rf "$venv"
  fi
  mkdir -p "$venv" && touch "$marker"
  say "making $venv with $(command -v "$1") (Python $2) from $lock: $total packages, 3 GB, some minutes, once"
  "$1" -m venv "$venv"
  local line='/^Collecting /{n++; step = tty ? 1 : 20; if (n % step == 0 || n == total) printf "%s  %d of %d packages%s", tty ? "\r" : "", n, total, tty ? "" : "\n"}
              /^Installing collected/{printf "%s  unpacking and compiling ...%s", tty ? "\r" : "", "\n"}{fflush()}'
  "$venv/bin/python" -m pip install --no-deps --compile --progress-bar off -r "$lock" |
    awk -v total="$total" -v tty="$([ -t 1 ] && echo 1 || echo 0)" "$line" >&2 ||
    fail "pip could not install $lock (see above); call again when the cause is mended: nothing half-made is kept"
  stamp_for "$2" >"$stamp.new" && mv "$stamp.new" "$stamp"
}

# Two calls at once (make test and make demo): the second waits for the first. The lock is on a folder that is always there.
if command -v flock >/dev/null; then exec 9<requirements; flock 9; fi

if [ -f "$stamp" ] && have=$(version_of "$venv/bin/python") && [ "$(cat "$stamp")" = "$(stamp_for "$have")" ] &&
  { [ -z "${PYTHON:-}" ] || [ "$have" = "$(version_of "$PYTHON")" ]; }; then
  : # complete, for this lock, in this folder, of the asked version
else
  python=$(find_python) || fail "no ${PYTHON:-Python 3.10 or 3.11} found that runs and has a lock in requirements/: install python3.11, or name one with PYTHON=/path/to/python3.11"
  version=$(version_of "$python")
  ensure_venv_module "$python" "$version"
  install_lock "$python" "$version"
fi

if [ ! -f "$project_stamp" ] || [ "$(cat "$project_stamp")" != "$(project_state)" ]; then
  "$venv/bin/python" -m pip install -q --no-deps --no-build-isolation -e . || fail "the project itself could not be installed into $venv (see above)"
  project_state >"$project_stamp.new" && mv "$project_stamp.new" "$project_stamp"
  say "$venv is ready"
fi
