#!/usr/bin/env bash
# Makes .venv and installs REQUIREMENT (`.` or `.[dev]`) with the pinned versions, for the Makefile.
#
#   scripts/venv.sh REQUIREMENT        PYTHON=/path/to/python chooses the interpreter
#
# An install that was cut off leaves .venv/.unfinished behind; the next call then starts from an empty .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
requirement=$1
venv=.venv

say() { printf '%s\n' "$*" >&2; }

# Prints the first interpreter that is new enough and can make environments; else says what to install.
find_python() {
  local candidate version without_venv="" too_old=""
  local candidates=(python3 python3.12 python3.11 python3.13)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      too_old="$too_old $candidate ($version)"
    elif ! "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
      without_venv=${without_venv:-"$candidate $version"}
    else
      printf '%s\n' "$candidate"
      return
    fi
  done
  if [ -n "$without_venv" ]; then
    version=${without_venv##* }
    say "${without_venv% *} (Python $version) cannot make environments: Debian keeps that in a package of its own."
    say "Install it, then run make again:  apt install python$version-venv"
  elif [ -n "$too_old" ]; then
    say "rft needs Python 3.11 or newer; found only$too_old."
    say "Install a newer one, or name it:  make quickstart PYTHON=/path/to/python3.12"
  else
    say "No Python found${PYTHON:+ at $PYTHON}: rft needs Python 3.11 or newer."
    say "Install it (Debian: apt install python3 python3-venv), or name it:  make quickstart PYTHON=/path/to/python"
  fi
  return 2
}

# Says what pip is at: a line for each download of 10 MB or more, and on a terminal a count that changes in place.
show_progress() {
  local line name count=0 clear=""
  if [ -t 2 ]; then clear=$'\r\033[K'; fi
  while IFS= read -r line; do
    case $line in
      Collecting*)
        count=$((count + 1))
        name=${line#Collecting }
        if [ -n "$clear" ]; then printf '%s  %d: %s' "$clear" "$count" "${name%%[<>=!~;( ]*}" >&2; fi
        ;;
      *Downloading*\([0-9][0-9]*.[0-9]\ [MG]B\)*)
        name=${line#*Downloading }
        name=${name##*/}
        say "$clear  downloading ${name%%-*} (${line##* (}"
        ;;
      Installing\ collected*) say "$clear  writing the packages into $venv ..." ;;
    esac
  done
}

if [ -e "$venv/.unfinished" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  say "Making $venv with $python ($("$python" -V 2>&1)): needed once, a few minutes and 1.5 GB of disk (more where torch brings CUDA)."
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
touch "$venv/.unfinished"
say "Installing rft and its pinned dependencies ..."
if ! "$venv/bin/python" -m pip install --progress-bar off -c constraints.txt -e "$requirement" | show_progress; then
  say "The install did not finish (pip's message stands above). Run make again to try anew."
  exit 2
fi
rm "$venv/.unfinished"
