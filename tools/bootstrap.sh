#!/usr/bin/env bash
# Makes .venv from uv.lock: fetches each locked wheel once (hash-checked) into a cache outside the checkout, then installs offline.
# The lock names no registry: any index that pip is configured for will do, and a second run needs no network at all.
# EOD_RUNTIME=1 installs what runs and nothing else, not editable; EOD_VENV says where (images: see Dockerfile), and EOD_EXTRAS which
# extras ("operator" unless told otherwise; "" is a worker alone).
# The kernel is compiled on the way, where there is a C compiler, and kept in the cache (hatch_build.py); EOD_NO_KERNEL=1 leaves it out.
# EOD_WHEELS=folder puts the wheels of that there, installs nothing, and ends: an image is then built without a network.
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
extras=()
for extra in ${EOD_EXTRAS-operator}; do extras+=(--extra "$extra"); done
groups=(--all-groups "${extras[@]}")
how=("${groups[@]}")
if [ "${EOD_RUNTIME:-0}" = 1 ]; then
  groups=(--no-default-groups --group build "${extras[@]}")
  how=("${groups[@]}" --no-editable)
fi
stamp=$venv/.eod-stamp
set_of=$( (cat uv.lock pyproject.toml tools/bootstrap.sh; echo "${how[@]}") | sha256sum | cut -c1-16)-$("$PYTHON" -V | cut -d' ' -f2)
# What the kernel is made of and with: a compiler that has come since is a reason to install anew.
headers=$("$PYTHON" -c 'import os, sysconfig; print(os.path.exists(sysconfig.get_path("include") + "/Python.h"))')
compiler="${EOD_NO_KERNEL:-} ${CC:-} $(command -v cc gcc | tr '\n' ' ') $headers"
sources=$(find workers/eod_workers \( -name '*.pyx' -o -name '*.pxd' -o -name '*.h' \) -exec sha256sum hatch_build.py {} + | LC_ALL=C sort)
want=$set_of-$( printf '%s\n' "$sources" "$compiler" | sha256sum | cut -c1-16)
if [ -z "${EOD_WHEELS:-}" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi

mkdir -p "$CACHE/wheels" "$CACHE/sets"
uv=$CACHE/uv-$UV_VERSION/bin/uv
if [ ! -x "$uv" ]; then
  say "fetching uv $UV_VERSION (the installer of the locked dependencies)"
  "$PYTHON" -m venv "$CACHE/uv-$UV_VERSION"
  pip=("$CACHE/uv-$UV_VERSION/bin/python" -m pip --quiet --disable-pip-version-check)
  "${pip[@]}" install --no-index --find-links "$CACHE/wheels" "uv==$UV_VERSION" 2>/dev/null || "${pip[@]}" install "uv==$UV_VERSION"
fi
ln -sfn "$CACHE/wheels" .wheels

export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv-cache} UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=${UV_LINK_MODE:-copy}
fetched=$CACHE/sets/$set_of
download=("$CACHE/uv-$UV_VERSION/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all:)
locked() { # the wheels of the lock, into folder $1; more options of pip download after it
  local requirements
  requirements=$(mktemp)
  "$uv" export --quiet --frozen "${groups[@]}" --no-emit-project --output-file "$requirements"
  "${download[@]}" --require-hashes --requirement "$requirements" --dest "$@" || { rm -f "$requirements"; return 1; }
  rm -f "$requirements"
}
if [ ! -f "$fetched" ]; then
  if ! locked "$CACHE/wheels" --no-index --find-links "$CACHE/wheels" 2>/dev/null; then
    say "fetching the locked packages into $CACHE/wheels (once; about a minute)"
    locked "$CACHE/wheels"
  fi
  touch "$fetched"
fi
if [ -n "${EOD_WHEELS:-}" ]; then
  rm -rf "$EOD_WHEELS"
  mkdir -p "$EOD_WHEELS"
  locked "$EOD_WHEELS" --no-index --find-links "$CACHE/wheels"
  "${download[@]}" --no-index --find-links "$CACHE/wheels" --dest "$EOD_WHEELS" "uv==$UV_VERSION" 2>/dev/null ||
    "${download[@]}" --dest "$CACHE/wheels" "uv==$UV_VERSION" && cp "$CACHE"/wheels/uv-"$UV_VERSION"-*.whl "$EOD_WHEELS"
  say "$(ls "$EOD_WHEELS" | wc -l) wheels in $EOD_WHEELS"
  exit 0
fi
say "installing into $venv"
# Always built anew: uv would take the last build of this folder from its cache, whose kernel may have been deleted since.
EOD_KERNEL_CACHE=$CACHE/kernel UV_PROJECT_ENVIRONMENT=$venv "$uv" sync --quiet --frozen --offline --reinstall-package eod "${how[@]}" --python "$PYTHON"
printf '%s' "$want" >"$stamp"
kernel=$(EOD_KERNEL=on "$venv/bin/python" -c 'from eod_workers import kernel; print(kernel.why_not())')
[ -z "$kernel" ] || say "without the kernel (it works, and is slower): $kernel"
say "ready: $("$venv/bin/python" -V), $(ls "$CACHE/wheels" | wc -l) wheels cached"
