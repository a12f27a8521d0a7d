#!/usr/bin/env bash
# Makes .venv from uv.lock: fetches each locked wheel once (hash-checked) into a cache outside the checkout, then installs offline.
# The lock names no registry: any index that pip is configured for will do, and a second run needs no network at all.
# EOD_RUNTIME=1 installs what runs and nothing else, not editable; EOD_VENV says where (images: see Dockerfile).
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.8
CACHE=${EOD_CACHE:-$HOME/.cache/eod}
PYTHON=${PYTHON:-python3}
say() { printf '\033[2m[setup]\033[0m %s\n' "$*" >&2; }
die() { printf '[setup] %s\n' "$*" >&2; exit 1; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || die "Python 3.11 or newer is needed as '$PYTHON'. On Debian 12: apt-get install python3 python3-venv; elsewhere set PYTHON=/path/to/python3.11."
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || die "Python's venv module is missing. On Debian: apt-get install python3-venv"

venv=${EOD_VENV:-$PWD/.venv}
groups=(--all-groups)
how=(--all-groups)
if [ "${EOD_RUNTIME:-0}" = 1 ]; then
  groups=(--no-default-groups --group build)
  how=("${groups[@]}" --no-editable)
fi
stamp=$venv/.eod-stamp
want=$(cat uv.lock pyproject.toml tools/bootstrap.sh | sha256sum | cut -c1-16)-$("$PYTHON" -V | cut -d' ' -f2)-${#how[@]}
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi

mkdir -p "$CACHE/wheels" "$CACHE/sets"
uv=$CACHE/uv-$UV_VERSION/bin/uv
if [ ! -x "$uv" ]; then
  say "fetching uv $UV_VERSION (the installer of the locked dependencies)"
  "$PYTHON" -m venv "$CACHE/uv-$UV_VERSION"
  "$CACHE/uv-$UV_VERSION/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi
ln -sfn "$CACHE/wheels" .wheels

export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv-cache} UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=${UV_LINK_MODE:-copy}
fetched=$CACHE/sets/$want
if [ ! -f "$fetched" ]; then
  requirements=$(mktemp)
  trap 'rm -f "$requirements"' EXIT
  "$uv" export --quiet --frozen "${groups[@]}" --no-emit-project --output-file "$requirements"
  say "fetching $(grep -c '==' "$requirements") locked packages into $CACHE/wheels (once; about a minute)"
  "$CACHE/uv-$UV_VERSION/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: --requirement "$requirements" --dest "$CACHE/wheels"
  touch "$fetched"
fi
say "installing into $venv"
UV_PROJECT_ENVIRONMENT=$venv "$uv" sync --quiet --frozen --offline "${how[@]}" --python "$PYTHON"
printf '%s' "$want" >"$stamp"
say "ready: $("$venv/bin/python" -V), $(ls "$CACHE/wheels" | wc -l) wheels cached"
