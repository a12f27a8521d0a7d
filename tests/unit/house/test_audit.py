"""tools/audit.py: what is known is named, and what could not be looked up is no good news."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from support.amounts import slow_but
from support.loaded import module_of
from support.patience import limit_s

ROOT = Path(__file__).resolve().parents[3]
FLAW = {"id": "PYSEC-1", "fix_versions": ["2", "3"]}
SOUND = {"name": "a", "version": "1", "vulns": []}
FLAWED = {"name": "b", "version": "1", "vulns": [FLAW, {"id": "PYSEC-2", "fix_versions": []}]}
SKIPPED = {"name": "c", "skip_reason": "not found: c (1)"}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    return module_of("tools/audit.py")


@pytest.mark.parametrize(
    ("packages", "code", "lines"),
    [
        ([SOUND], 0, ["1 packages, nothing known against any of them"]),
        ([SOUND, FLAWED], 1, ["b 1: PYSEC-1, mended in 2, 3", "b 1: PYSEC-2, mended in no version yet",
                              "raise the version: UPGRADE=1 make lock"]),
        ([SOUND, SKIPPED], 2, ["1 of 2 packages could not be looked up: not found: c (1)"]),
        ([SKIPPED, FLAWED], 1, ["b 1: PYSEC-1, mended in 2, 3", "b 1: PYSEC-2, mended in no version yet",
                                "1 of 2 packages could not be looked up: not found: c (1)",
                                "raise the version: UPGRADE=1 make lock"]),
        ([], 2, ["the lock has no packages"]),
    ],
)  # fmt: skip
def test_a_verdict_is_good_only_when_everything_was_looked_up(
    audit: ModuleType, packages: list[dict[str, Any]], code: int, lines: list[str]
) -> None:
    assert audit.verdict(json.dumps({"dependencies": packages, "fixes": []}), "") == (code, lines)


@pytest.mark.parametrize(
    ("output", "complaint", "why"),
    [("", "Traceback\nrequests.exceptions.ConnectionError: no route", "no route"), ("{}", "", "it said nothing"),
     ("[]", "x", "x"), ("<html>", "x", "x")],
)  # fmt: skip
def test_what_pip_audit_did_not_say_is_not_taken_for_good(
    audit: ModuleType, output: str, complaint: str, why: str
) -> None:
    code, (first, second) = audit.verdict(output, complaint)
    assert code == 2
    assert first.startswith("nothing could be looked up: ")
    assert first.endswith(why)
    assert "--osv-url" in second


class _Service(BaseHTTPRequestHandler):
    """An OSV service that knows something against `rich`, when it is told to."""

    asked: ClassVar[list[str]] = []
    flawed: ClassVar[str] = ""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = question["package"]["name"]
        self.asked.append(name)
        known = [{"id": "OSV-1", "summary": "s", "affected": [], "modified": "2026-01-01T00:00:00Z"}]
        body = json.dumps({"vulns": known} if name == self.flawed else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Service.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("flawed", slow_but(["rich"], ["", "rich"]))
def test_every_locked_package_is_asked_for(service: str, monkeypatch: pytest.MonkeyPatch, flawed: str) -> None:
    """The real pip-audit, on the real lock, at a service of ours."""
    monkeypatch.setattr(_Service, "flawed", flawed)
    command = [sys.executable, "tools/audit.py", f"--osv-url={service}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_s(120))
    assert ended.returncode == bool(flawed), ended.stderr
    assert {"kopf", "aiokafka", "pytest", "rich"} <= set(_Service.asked)
    assert ("rich" in ended.stderr and "OSV-1" in ended.stderr) == bool(flawed)
    assert (f"{len(_Service.asked)} packages, nothing known" in ended.stdout) == (not flawed)


def test_a_service_that_is_away_is_said(audit: ModuleType) -> None:
    code, lines = audit.audit("http://127.0.0.1:9/v1/query")
    assert code == 2
    assert "nothing could be looked up" in lines[0]
