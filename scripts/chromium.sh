#!/usr/bin/env bash
# Installs Chromium for the tests of pages, where there is none and apt can install it: for .ci/run.
# A failure is no error: it says why, and those tests are skipped.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done

give_up() {
  printf 'No Chromium: %s. The tests of pages are skipped.\n' "$1" >&2
  exit 0
}

command -v apt-get >/dev/null || give_up "apt-get is not here to install it"
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20)
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null && sudo -n true 2>/dev/null || give_up "installing it needs root, or sudo without a password"
  apt=(sudo -n "${apt[@]}")
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An outdated list of packages, where apt can't fetch a new one, may do.
timeout 120 "${apt[@]}" update >"$log" 2>&1 || true
timeout 300 "${apt[@]}" install --no-install-recommends chromium >>"$log" 2>&1 ||
  give_up "apt-get could not install it ($(grep -v '^[[:space:]]*$' "$log" | tail -n 1))"
