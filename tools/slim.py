"""Makes a virtual environment fit for an image: what never runs goes, what runs is compiled, and its parts are listed.

`slim.py /venv --python /usr/bin/python3.11` is run by the Dockerfile with the environment's own Python. It

- deletes tests, type stubs, build tools and the parts of large packages that nothing here imports;
- compiles every package and keeps the sources of ours alone, so that a stage need not compile: where it runs, the
  file system is read-only;
- strips debugging symbols, where `strip` is at hand, and takes megabytes of nothing out of libraries (`elf.py`);
- points the environment at the Python of the image that it will be copied to;
- imports every module of ours, and what they import late, so that nothing went that is needed;
- writes share/eod/sbom.cdx.json, a CycloneDX 1.6 list of the packages with their versions and licences.
"""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from elf import close_gaps

OURS = ("eod_contract", "eod_operator", "eod_workers")
IMPORTED_LATE = ("exchange_calendars", "pymssql", "cramjam", "opentelemetry.exporter.otlp.proto.http")
BUILD_TOOLS = ("cython", "editables", "hatchling", "pathspec", "pluggy", "setuptools", "trove-classifiers")
UNUSED = (
    "kubernetes/aio",  # a second client, for asyncio: the operator has its own
    "pandas/tests",
    "numpy/**/tests",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/include",
    "numpy/_core/lib",
    "toolz/**/tests",
    "websocket/tests",
)
AWS_SERVICES = frozenset({"s3", "sts", "sso", "sso-oidc"})
"""Services whose descriptions botocore keeps: the archive's, and those that credentials come from."""
_IMPORT_ALL = """
import importlib
for name in {names!r}:
    importlib.import_module(name)
import boto3
boto3.client("s3", "eu-west-1")
"""
NEVER_RUN = ("**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.c", "**/*.h")
WITHOUT_DOCSTRINGS = ("kubernetes", "pandas", "numpy", "botocore", "boto3")
"""Their docstrings are megabytes. Their asserts go, too: they check nothing of ours."""


def slim(venv: Path, python: Path) -> None:
    """Slims the environment at `venv` for an image whose interpreter is `python`."""
    site = next((venv.resolve() / "lib").glob("python3.*/site-packages"))
    _write_sbom(venv, site)
    for distribution in metadata.distributions(path=[str(site)]):
        if distribution.name.lower() in BUILD_TOOLS:
            _uninstall(distribution, site)
    for unwanted in _unwanted(site):
        shutil.rmtree(unwanted) if unwanted.is_dir() else unwanted.unlink()
    _compile(site)
    _strip(site)
    _close_gaps(site)
    _import_all(venv, site)
    _point_at(venv, python)


def _unwanted(site: Path) -> Iterator[Path]:
    for pattern in (*UNUSED, *NEVER_RUN, "**/__pycache__", "_editable_impl_*"):
        yield from list(site.glob(pattern))
    yield from (one for one in (site / "botocore/data").iterdir() if one.is_dir() and one.name not in AWS_SERVICES)


def _uninstall(distribution: metadata.Distribution, site: Path) -> None:
    folders = set()
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file))).resolve()  # scripts are at ../../../bin
        path.unlink(missing_ok=True)
        if path.is_relative_to(site):
            folders.add(site / path.relative_to(site).parts[0])
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _compile(site: Path) -> None:
    for package in sorted(site.iterdir()):
        ours = package.name in OURS
        optimize = 2 if package.name in WITHOUT_DOCSTRINGS else 0
        # A source's path in tracebacks is the image's; checked hashes would cost a start its time.
        if package.is_dir():
            done = compileall.compile_dir(package, quiet=1, optimize=optimize, legacy=not ours, workers=0)
        elif package.suffix == ".py":
            done = compileall.compile_file(package, quiet=1, legacy=True)
        else:
            continue
        if not done:
            sys.exit(f"slim: {package} cannot be compiled; see above")
        if not ours:
            for source in [package] if package.is_file() else package.rglob("*.py"):
                source.unlink()


def _strip(site: Path) -> None:
    if (strip := shutil.which("strip")) is None:
        print("slim: no strip here (Debian: binutils): the image keeps its debugging symbols", file=sys.stderr)
        return
    # Libraries that a wheel brought along (*.libs) were patched by its maker; strip breaks some of them.
    for library in site.rglob("*.so"):
        if not library.parts[len(site.parts)].endswith(".libs"):
            subprocess.run([strip, "--strip-unneeded", library], check=True)


def _close_gaps(site: Path) -> None:
    """Of the libraries that wheels brought along."""
    saved = sum(close_gaps(library) for library in sorted(site.glob("*.libs/*.so*")))
    print(f"slim: {saved / 1e6:.1f} MB of gaps in libraries", file=sys.stderr)


def _import_all(venv: Path, site: Path) -> None:
    ours = [
        ".".join(source.relative_to(site).with_suffix("").parts)
        for package in OURS
        for source in (site / package).rglob("*.py")
        if source.stem not in {"__init__", "__main__"}
    ]
    ours += [  # the kernel, which was stripped: one that does not load would only make everything slower
        ".".join((*library.relative_to(site).parent.parts, library.name.partition(".")[0]))
        for package in OURS
        for library in (site / package).rglob("*.so")
    ]
    code = _IMPORT_ALL.format(names=[*sorted(ours), *IMPORTED_LATE])
    subprocess.run([venv / "bin/python", "-B", "-c", code], check=True)


def _point_at(venv: Path, python: Path) -> None:
    for link in (venv / "bin").glob("python*"):
        link.unlink()
    (venv / "bin/python").symlink_to(python)
    for name in ("python3", python.name):
        if name != "python":
            (venv / "bin" / name).symlink_to("python")
    settings = venv / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("home")]
    settings.write_text("\n".join([f"home = {python.parent}", *lines]) + "\n")


def _write_sbom(venv: Path, site: Path) -> None:
    parts = []
    for distribution in sorted(metadata.distributions(path=[str(site)]), key=lambda one: one.name.lower()):
        if distribution.name.lower() in BUILD_TOOLS:
            continue
        part = {
            "type": "application" if distribution.name == "eod" else "library",
            "name": distribution.name,
            "version": distribution.version,
            "purl": f"pkg:pypi/{distribution.name.lower().replace('_', '-')}@{distribution.version}",
        }
        told = distribution.metadata
        licence = told.get("License-Expression") or (told.get("License") or "").partition("\n")[0]
        if licence:
            part["licenses"] = [{"license": {"name": licence}}]
        parts.append(part)
    folder = venv / "share/eod"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sbom.cdx.json").write_text(
        json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": parts}, indent=1)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path, help="the virtual environment")
    parser.add_argument("--python", type=Path, required=True, help="the interpreter that it will find in its image")
    given = parser.parse_args()
    slim(given.venv, given.python)
