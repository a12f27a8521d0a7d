"""What GitHub runs: pinned actions, least rights, an end to everything; what Renovate proposes; what a release says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from support.loaded import module_of
from support.patience import limit_s

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@v\d+\.\d+\.\d+")
_HOST = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:io|com|org|net|dev)\b")


def workflow(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return read


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(file)["jobs"].values() for step in job["steps"]]


def makefile_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))


def problems(said: dict[str, Any]) -> list[str]:
    """What is wrong with a workflow."""
    wrong = []
    if said.get("permissions") != {"contents": "read"}:
        wrong.append("its own permissions are not contents: read alone")
    if "group" not in said.get("concurrency", {}):
        wrong.append("no concurrency")
    for name, job in said["jobs"].items():
        if not 0 < job.get("timeout-minutes", 0) <= 120:
            wrong.append(f"{name}: no timeout")
        if "latest" in f"{job['runs-on']}{job.get('container', '')}":
            wrong.append(f"{name}: runs on whatever is latest")
        for step in job["steps"]:
            uses = step.get("uses", "")
            if uses and not PINNED.fullmatch(uses):
                wrong.append(f"{name}: {uses} is not pinned")
            if uses.startswith("actions/checkout") and step.get("with", {}).get("persist-credentials") is not False:
                wrong.append(f"{name}: checkout leaves its token behind")
            # Whoever names a branch or a tag chooses the text, which the shell would run.
            if "${{" in step.get("run", ""):
                wrong.append(f"{name}: an expression within a script")
    return wrong


@each_workflow
def test_a_workflow_is_pinned_ends_and_may_do_little(file: Path) -> None:
    assert problems(workflow(file)) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"permissions": {"contents": "write"}}, "its own permissions"),
        ({"permissions": None}, "its own permissions"),
        ({"concurrency": {}}, "no concurrency"),
        ({"job": {"timeout-minutes": 0}}, "j: no timeout"),
        ({"job": {"timeout-minutes": 600}}, "j: no timeout"),
        ({"job": {"runs-on": "ubuntu-latest"}}, "j: runs on whatever is latest"),
        ({"step": {"uses": "actions/checkout@v6"}}, "j: actions/checkout@v6 is not pinned"),
        ({"step": {"uses": "actions/checkout@main"}}, "j: actions/checkout@main is not pinned"),
        ({"step": {"uses": "actions/checkout@v6.0.2"}}, "j: checkout leaves its token behind"),
        ({"step": {"run": "echo ${{ github.ref_name }}"}}, "j: an expression within a script"),
    ],
)
def test_a_workflow_that_is_not_is_found(change: dict[str, Any], sentence: str) -> None:
    said: dict[str, Any] = {
        "permissions": {"contents": "read"},
        "concurrency": {"group": "g"},
        "jobs": {"j": {"runs-on": "ubuntu-24.04", "timeout-minutes": 5, "steps": [], **change.pop("job", {})}},
    }
    said["jobs"]["j"]["steps"] = [change.pop("step")] if "step" in change else []
    assert any(one.startswith(sentence) for one in problems({**said, **change}))


def test_the_workflows_run_what_they_are_for() -> None:
    run = {file.stem: "\n".join(step.get("run", "") for step in steps(file)) for file in FILES}
    made = {name: set(re.findall(r"(?m)^make ([a-z0-9-]+)", text)) for name, text in run.items()}
    assert made == {"test": {"check", "test", "audit"}, "e2e": {"e2e", "test-slow"}, "release": {"image"}}
    assert set().union(*made.values()) <= makefile_targets()


@each_workflow
def test_files_that_a_workflow_names_are_there_and_no_registry_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for path in re.findall(r"\b((?:tools|tests|charts)/[\w/.-]+\w)", text):
        assert (ROOT / path).exists(), path
    assert {host for host in _HOST.findall(text) if not host.startswith("registry.example")} == set()


def test_only_the_release_may_write_and_it_says_where_its_image_goes() -> None:
    rights = {file.stem: [job.get("permissions") for job in workflow(file)["jobs"].values()] for file in FILES}
    assert rights == {"test": [None, None], "e2e": [None, None], "release": [{"contents": "write"}]}
    (job,) = workflow(ROOT / ".github/workflows/release.yml")["jobs"].values()
    assert job["env"] == {"REGISTRY": "${{ vars.REGISTRY }}"}
    secret = [step for step in job["steps"] if "secrets." in str(step.get("env"))]
    assert len(secret) == 1
    assert "--password-stdin" in secret[0]["run"]


@each_workflow
def test_scripts_of_a_workflow_can_be_parsed(file: Path) -> None:
    for step in steps(file):
        if "run" in step:
            parsed = subprocess.run(["bash", "-n"], input=step["run"], text=True, check=False, capture_output=True)
            assert parsed.returncode == 0, parsed.stderr


# --- Renovate -----------------------------------------------------------------------------------------------

MANIFESTS = {
    "pep621": ["pyproject.toml"],
    "gomod": ["tests/testbed/sources/*/go.mod"],
    "maven": ["**/pom.xml"],
    "dockerfile": ["Dockerfile"],
    "github-actions": [".github/workflows/*.yml"],
    "helm-values": ["charts/*/values.yaml"],
}


def test_renovate_looks_at_each_kind_of_file_that_pins_something() -> None:
    config = json.loads((ROOT / ".github/renovate.json").read_text(encoding="utf-8"))
    assert set(config["enabledManagers"]) == set(MANIFESTS)
    for manager, patterns in MANIFESTS.items():
        assert all(any(ROOT.glob(pattern)) for pattern in patterns), manager
    (python,) = (rule for rule in config["packageRules"] if rule["matchManagers"] == ["pep621"])
    assert python["skipArtifactsUpdate"]
    assert re.findall(r"make ([a-z]+)", python["prBodyNotes"][0]) == ["lock"]
    for rule in config["packageRules"]:
        assert set(rule["matchManagers"]) <= set(MANIFESTS)


# --- a release ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return module_of("tools/release_notes.py")


CHANGES = (
    "# Changelog\n\n## Unreleased\n\n- c\n\n## 0.2.0 (2026-02-01)\n\n### Added\n- b\n\n## 0.1.0\n\n- a\n\n## 0.0.1\n"
)


@pytest.mark.parametrize(("version", "text"), [("0.2.0", "### Added\n- b\n"), ("0.1.0", "- a\n")])
def test_the_notes_are_the_section_of_the_version(release: ModuleType, version: str, text: str) -> None:
    assert release.notes(CHANGES, version) == text


@pytest.mark.parametrize(
    ("version", "sentence"), [("0.3.0", "has no section '## 0.3.0'"), ("0.0.1", "says nothing"), ("0x2x0", "has no")]
)
def test_a_release_without_notes_is_refused(release: ModuleType, version: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        release.notes(CHANGES, version)


@pytest.mark.parametrize(("words", "sentence"), [(["v9.9.9"], "the tag v9.9.9 is not v"), ([], "usage: ")])
def test_a_tag_that_is_not_the_version_is_refused(words: list[str], sentence: str) -> None:
    command = [sys.executable, "tools/release_notes.py", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_s(60))
    assert ended.returncode == 1
    assert ended.stderr.startswith(sentence)
