"""Generates workers/eod_workers/protos from protos/ (``--check`` says what has drifted and writes nothing)."""

import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "protos"
TARGET = ROOT / "workers" / "eod_workers" / "protos"


def generate(target: Path) -> list[str]:
    """Writes the generated modules below `target` and returns their file names."""
    files = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        bin_dir = Path(sys.executable).parent
        code = protoc.main(
            [
                "protoc",
                f"-I{SOURCES}",
                f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
                f"--python_out={scratch}",
                f"--mypy_out=quiet:{scratch}",
                *files,
            ]
        )
        if code:
            raise SystemExit(f"protoc failed with exit code {code}: see its message above")
        made = sorted((Path(scratch) / "eod" / "v1").iterdir())
        target.mkdir(parents=True, exist_ok=True)
        for path in made:
            text = path.read_text().replace("from eod.v1 import", "from eod_workers.protos import")
            (target / path.name).write_text(text)
        return [path.name for path in made]


def main() -> int:
    """Generates, or with ``--check`` compares; returns the exit code."""
    if "--check" not in sys.argv:
        print("\n".join(generate(TARGET)))
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        names = generate(Path(fresh))
        _, differing, missing = filecmp.cmpfiles(TARGET, fresh, names, shallow=False)
        stale = {p.name for p in TARGET.glob("*_pb2*")} - set(names)
    for name in sorted({*differing, *missing, *stale}):
        print(f"{TARGET.relative_to(ROOT)}/{name} does not match protos/: run 'make protos'")
    return bool(differing or missing or stale)


if __name__ == "__main__":
    sys.exit(main())
