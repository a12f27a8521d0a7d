#!/usr/bin/env bash
# Resolves pyproject.toml anew into uv.lock, then takes the registry's addresses out, so that the lock holds names, versions and hashes alone.
# Pass UPGRADE=1 to take newer versions; without it the versions locked now are kept where they still fit.
set -euo pipefail
cd "$(dirname "$0")/.."
CACHE=${EOD_CACHE:-$HOME/.cache/eod}
uv=$(echo "$CACHE"/uv-*/bin/uv)
[ -x "$uv" ] || { echo "run 'make setup' first" >&2; exit 1; }
args=()
pins=$(mktemp)
before=$(mktemp)
[ ! -f uv.lock ] || cp uv.lock "$before"
trap 'code=$?; [ "$code" = 0 ] || [ ! -s "$before" ] || cp "$before" uv.lock; rm -f "$pins" "$before"' EXIT
if [ "${UPGRADE:-0}" != 1 ] && [ -f uv.lock ]; then
  "$uv" export --quiet --frozen --all-groups --no-hashes --no-emit-project --output-file "$pins"
  # A package that is locked in two versions, for two kinds of machines, cannot be held at either.
  while read -r pin; do args+=(--upgrade-package "$pin"); done < <(
    grep -oE '^[a-z0-9._-]+==[^ ;]+' "$pins" | sort -u | awk -F== '{ count[$1]++; pin[$1] = $0 } END { for (name in count) if (count[name] == 1) print pin[name] }' | sort)
fi
rm -f uv.lock
"$uv" lock --quiet "${args[@]}"
sed -i -E 's#registry = "[^"]*"#registry = ".wheels"#; s#url = "[^"]*/([^/"]+)"#path = "\1"#' uv.lock
if grep -nE '[a-z]+://' uv.lock; then echo "uv.lock still names an address (above)" >&2; exit 1; fi
