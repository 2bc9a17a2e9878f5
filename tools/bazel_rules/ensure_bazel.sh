#!/usr/bin/env bash
# Prints the name of a Bazel on PATH that reads WORKSPACE files (any up to 7); on Debian, as root, installs one if need be.
set -euo pipefail

say() { echo "ensure_bazel: $*" >&2; }

for candidate in ${BAZEL:-bazel bazel-bootstrap}; do
  command -v "$candidate" >/dev/null && { echo "$candidate"; exit; }
done

how="install Debian's package bazel-bootstrap (sudo apt-get install bazel-bootstrap), or name a Bazel up to 7 with BAZEL=PATH"
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { say "no bazel found: $how"; exit 1; }
say "no bazel found: installing Debian's bazel-bootstrap"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -q --no-install-recommends bazel-bootstrap >/dev/null 2>&1; }
install || { apt-get update -q >/dev/null 2>&1 && install; } || { say "apt-get could not install it: $how"; exit 1; }
for candidate in bazel bazel-bootstrap; do
  command -v "$candidate" >/dev/null && { echo "$candidate"; exit; }
done
say "the package bazel-bootstrap has no bazel on PATH: $how"
exit 1
