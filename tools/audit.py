"""Look every locked package up for known vulnerabilities, by pip-audit; run by `make audit`.

Exit code 0: all were looked up, nothing is known. 1: something is known. 2: not all could be looked up, which is no
good news: pip-audit itself calls that a success, also when a mirror or a closed network hides every package from it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("EOD_CACHE") or Path.home() / ".cache/eod")
TIMEOUT_S = 15


def verdict(output: str, complaint: str) -> tuple[int, list[str]]:
    """Exit code and what to say of what pip-audit has printed: JSON, or nothing but a complaint."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (complaint.strip().splitlines() or ["it said nothing"])[-1]
        help_ = "the vulnerability service must be reachable: try again, or name another by --osv-url"
        return 2, [f"nothing could be looked up: {last}", help_]
    known = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in packages
        for flaw in one.get("vulns", [])
    ]
    skipped = [one for one in packages if "skip_reason" in one]
    lines = known[:]
    if skipped:
        lines.append(f"{len(skipped)} of {len(packages)} packages could not be looked up: {skipped[0]['skip_reason']}")
    if known:
        return 1, [*lines, "raise the version: UPGRADE=1 make lock"]
    if skipped or not packages:
        return 2, lines or ["the lock has no packages"]
    return 0, [f"{len(packages)} packages, nothing known against any of them"]


def audit(osv_url: str | None) -> tuple[int, list[str]]:
    """Export the lock, with its hashes, and have pip-audit look each package up."""
    uv = next(iter(sorted(CACHE.glob("uv-*/bin/uv"), reverse=True)), None)
    if uv is None:
        return 2, ["run 'make setup' first"]
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        export = [
            uv,
            "export",
            "--quiet",
            "--frozen",
            "--all-groups",
            "--all-extras",
            "--no-emit-project",
            "--output-file",
        ]
        subprocess.run([*export, requirements], cwd=ROOT, check=True)
        words = ["--requirement", requirements, "--disable-pip", "--require-hashes", "--format=json"]
        words += ["--progress-spinner=off", "--desc=off", f"--timeout={TIMEOUT_S}"]
        words += ["--vulnerability-service=osv", f"--osv-url={osv_url}"] if osv_url else []
        program = Path(sys.executable).with_name("pip-audit")
        ended = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    return verdict(ended.stdout, ended.stderr)


def main() -> None:
    """Audit and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osv-url", help="an OSV service to ask, such as one's own; by default PyPI is asked")
    code, lines = audit(parser.parse_args().osv_url)
    for line in lines:
        print(f"audit: {line}", file=sys.stderr if code else sys.stdout)
    sys.exit(code)


if __name__ == "__main__":
    main()
