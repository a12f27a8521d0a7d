"""The Tiltfile, evaluated for `tilt up` and `tilt ci`: what it names is there, and wrong ones are refused.

What it names of the charts is held against what Helm renders, in tests/integration/charts/test_tilt.py.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal

import pytest
import starlark as sl
import yaml
from support.tilt_api import MANUAL, Blob, TiltWorld, evaluate, fits

ROOT = Path(__file__).resolve().parents[3]
TILTFILE = (ROOT / "Tiltfile").read_text(encoding="utf-8")
MODES: list[Literal["up", "ci"]] = ["up", "ci"]
each_mode = pytest.mark.parametrize("mode", MODES)


def world(**changes: str) -> TiltWorld:
    return TiltWorld("up", {"ACCEPT_EULA": "Y", **changes}, lambda path: (ROOT / path).exists())


def shell_words(cmd: str | list[str]) -> list[list[str]]:
    """The commands of a command line, each as its words."""
    if isinstance(cmd, list):
        return [cmd]
    parts = re.split(r"&&|\|\||;|\bdo\b", cmd)
    return [words for part in parts if (words := shlex.split(part))]


def targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))


# --- the Tiltfile -------------------------------------------------------------------------------------------


@each_mode
def test_it_can_be_evaluated_and_deploys_to_the_local_cluster_alone(mode: Literal["up", "ci"]) -> None:
    made = evaluate(TILTFILE, world(), mode)
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))
    assert made.contexts == [f"kind-{config['name']}"]
    for words in [*made.commands, *(one for it in made.resources.values() for one in shell_words(it.cmd))]:
        contexts = {word.partition("=")[2] for word in words if re.match(r"--(kube-)?context=", word)}
        assert contexts <= {f"kind-{config['name']}"}
        if words[0] == "kubectl" or "template" in words:
            assert contexts, f"{words} would work on whatever context is current"


def test_it_is_refused_until_the_licence_of_sql_server_is_accepted() -> None:
    with pytest.raises(sl.StarlarkError, match="ACCEPT_EULA=Y"):
        evaluate(TILTFILE, world(ACCEPT_EULA=""))


@each_mode
def test_every_program_and_make_target_of_its_commands_is_there(mode: Literal["up", "ci"]) -> None:
    made = evaluate(TILTFILE, world(), mode)
    asked = [*made.commands, *(one for it in made.resources.values() for one in shell_words(it.cmd))]
    programs = {words[0] for words in asked}
    assert programs <= {"kubectl", "helm", "make", ".venv/bin/python", ".venv/bin/eod", "for", "sleep", "done", "exit"}
    for words in asked:
        if words[0] == "make":
            assert set(words[1:]) <= targets(), words
        for word in words:
            path = word.partition("=")[2] if word.startswith("--values=") else word
            if re.match(r"(tools|charts|tests)/", path):
                assert (ROOT / path).exists(), path


@each_mode
def test_buttons_wait_to_be_pressed_and_everything_has_its_group(mode: Literal["up", "ci"]) -> None:
    made = evaluate(TILTFILE, world(), mode)
    groups = {resource.labels[0] for resource in made.resources.values() if len(resource.labels) == 1}
    assert groups == {"stores", "operator", "pipeline", "buttons"}
    assert all(len(resource.labels) == 1 for resource in made.resources.values())
    buttons = {resource.name for resource in made.resources.values() if resource.labels == ["buttons"]}
    assert buttons == {
        "play-a-close", "kill-a-worker", "redrive-dead-letters", "reconcile-now", "explain", "unit-tests",
    }  # fmt: skip
    for name in buttons:
        assert (made.resources[name].auto_init, made.resources[name].trigger_mode) == (False, MANUAL), name


def test_the_page_on_development_lists_each_button_with_its_command() -> None:
    page = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"(?m)^\| ([a-z-]+) \| `([^`]+)` \|", page))
    buttons = {it.name: it.cmd for it in evaluate(TILTFILE, world()).resources.values() if it.labels == ["buttons"]}
    assert listed.keys() == buttons.keys()
    for name, command in listed.items():
        assert f"{command} " in f"{' '.join(buttons[name])} ", name


def test_ci_plays_a_close_and_reconciles_behind_everything_else_and_up_does_not() -> None:
    """`tilt ci` is green when each resource that begins by itself is: a difference fails the command."""
    up, ci = evaluate(TILTFILE, world(), "up"), evaluate(TILTFILE, world(), "ci")
    assert ci.resources.keys() - up.resources.keys() == {"close-and-reconcile"}
    close = ci.resources["close-and-reconcile"]
    assert close.auto_init
    first, second = (words for words in shell_words(close.cmd) if words[0] != "make")
    assert (first[2], second[2]) == ("close", "reconcile")
    assert isinstance(close.cmd, str)
    assert ";" not in close.cmd  # the first that fails ends it
    waits, todo = set[str](), [close.name]
    while todo:
        deps = set(ci.resources[todo.pop()].deps) - waits
        waits |= deps
        todo += deps
    assert waits == {name for name, one in ci.resources.items() if one.auto_init and name != close.name}


def test_the_wheels_are_part_of_the_image_when_they_are_there() -> None:
    for there in (True, False):
        seen = TiltWorld(
            "up", {"ACCEPT_EULA": "Y"}, lambda path, there=there: there if path == "build/wheels" else True
        )
        (image,) = evaluate(TILTFILE, seen).images
        assert ("build/wheels" in image.only) == there


def test_the_image_has_every_file_that_the_dockerfile_copies() -> None:
    """And .dockerignore lets each through; only is what Tilt sends to Docker."""
    (image,) = evaluate(TILTFILE, world()).images
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stage = dockerfile.split(f" AS {image.target}\n")[1]
    copied = {word for line in re.findall(r"(?m)^COPY (?!--from)(.*)", stage) for word in line.split()[:-1]}
    assert copied - {"build/wheels*"} <= set(image.only)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert set(image.only) <= {line.removeprefix("!") for line in ignored if line.startswith("!")}


def test_live_update_copies_each_package_to_where_the_pods_look_for_it() -> None:
    (image,) = evaluate(TILTFILE, world()).images
    values = yaml.safe_load((ROOT / "tools/live-values.yaml").read_text(encoding="utf-8"))
    for env in (values["pipeline"]["env"], values["eod-operator"]["extraEnv"]):
        told = {one["name"]: one["value"] for one in env}
        assert told == {"EOD_LIVE_PATH": "/tmp/live", "PYTHONPATH": "/tmp/live"}
    assert {(step.local_path, step.remote_path) for step in image.steps} == {
        ("workers/eod_workers", "/tmp/live/eod_workers"),
        ("operator/eod_operator", "/tmp/live/eod_operator"),
        ("contract/eod_contract", "/tmp/live/eod_contract"),
    }


def test_the_fix_port_of_this_machine_leads_to_the_service() -> None:
    (node,) = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))["nodes"]
    (mapping,) = node["extraPortMappings"]
    fix = yaml.safe_load((ROOT / "tools/kind-values.yaml").read_text(encoding="utf-8"))["fix"]
    assert fix == {"type": "NodePort", "nodePort": mapping["containerPort"], "admitAnybody": True}
    assert (mapping["hostPort"], mapping["listenAddress"]) == (9876, "127.0.0.1")
    ports = [one.local_port for it in evaluate(TILTFILE, world()).resources.values() for one in it.port_forwards]
    assert len({*ports, mapping["hostPort"]}) == len(ports) + 1


# --- wrong ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("k8s_resources('x')", "Variable `k8s_resources` not found"),
        ("os.environ('x')", "no attribute `environ`"),
        ("config.parse()", "no attribute `parse`"),
        ("TRIGGER_MODE_NEVER", "Variable `TRIGGER_MODE_NEVER` not found"),
        ("k8s_resource('x', ports=1)", "k8s_resource: got an unexpected keyword argument 'ports'"),
        ("docker_build('eod')", "docker_build: missing a required argument: 'context'"),
        ("k8s_kind('A', 'b/v1', '{.x}')", "k8s_kind: too many positional arguments"),
        ("k8s_kind('A', kind='B')", "k8s_kind: multiple values for argument 'kind'"),
        ("update_settings(max_parallel_updates='3')", "max_parallel_updates is '3', not int"),
        ("update_settings(max_parallel_updates=True)", "max_parallel_updates is True, not int"),
        ("update_settings(max_parallel_updates=0)", "at least 1"),
        ("update_settings(k8s_server_side_apply='yes')", "k8s_server_side_apply is 'yes', not one of"),
        ("ci_settings(timeout='soon')", "'soon' is no duration"),
        ("version_settings(constraint='new')", "'new' is no constraint"),
        ("k8s_yaml('nowhere.yaml')", "there is no nowhere.yaml"),
        ("k8s_yaml({'a': 1})", "k8s_yaml: yaml is"),
        ("k8s_yaml(helm('charts/nothing'))", "there is no charts/nothing"),
        ("k8s_yaml(helm('charts'))", "there is no charts/Chart.yaml"),
        ("helm('charts/eod', values=['nowhere.yaml'])", "there is no nowhere.yaml"),
        ("helm('charts/eod', api_versions=['x'])", "unexpected keyword argument 'api_versions'"),
        ("watch_file('nowhere')", "there is no nowhere"),
        ("docker_build('eod', '.', target='devel')", "target is 'devel', not one of"),
        ("docker_build('eod', '.', only=['nowhere'])", "there is no nowhere"),
        ("docker_build('eod', '.', live_update=['x'])", "live_update is"),
        ("docker_build('eod', '.', only=['operator'], live_update=[sync('workers', '/x')])", "is not part of the image"),
        ("sync('workers', 'tmp/live')", "must be absolute"),
        ("sync('nowhere', '/tmp/live')", "there is no nowhere"),
        ("k8s_kind('A', image_json_path='spec.image')", "no JSON path"),
        ("k8s_kind('A', pod_readiness='maybe')", "pod_readiness is 'maybe'"),
        ("k8s_resource(labels=['a'])", "wants a workload, or objects and a new_name"),
        ("k8s_resource(objects=['a:service'])", "wants a workload, or objects and a new_name"),
        ("k8s_resource('a', labels=['the stores'])", "'the stores' is no label"),
        ("k8s_resource('a', resource_deps='b')", "resource_deps is 'b', not list"),
        ("k8s_resource('a', trigger_mode='manual')", "trigger_mode is 'manual'"),
        ("k8s_resource('a', pod_readiness='maybe')", "pod_readiness is 'maybe'"),
        ("k8s_resource('a', discovery_strategy='luck')", "discovery_strategy is 'luck'"),
        ("k8s_resource('a')\nk8s_resource('a')", "there is a resource 'a' already"),
        ("k8s_resource('a', port_forwards=[port_forward(70000)])", "are no ports"),
        ("k8s_resource('a', port_forwards='http')", "no forwarded port"),
        ("k8s_resource('a', port_forwards=1.5)", "port_forwards is 1.5"),
        ("port_forward('8080:8080')", "local_port is '8080:8080', not int"),
        ("local_resource('a')", "has neither cmd nor serve_cmd"),
        ("local_resource('a', cmd=1)", "cmd is 1, not str"),
        ("local_resource('a', cmd='x', auto_init='no')", "auto_init is 'no', not bool"),
        ("local_resource('a', cmd='x', deps=['nowhere'])", "there is no nowhere"),
        ("local_resource('a', cmd='x', env={'A': 1})", "env is"),
        ("local(1)", "command is 1"),
        ("blob(1)", "contents is 1, not str"),
        ("allow_k8s_contexts(['kind-eod', 1])", "contexts is"),
        ("fail('no')", "no"),
        ("if True:\n    nothing(", "Parse error"),
    ],
)  # fmt: skip
def test_what_tilt_does_not_document_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(sl.StarlarkError, match=re.escape(sentence)):
        evaluate(text, world())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("k8s_resource('a', resource_deps=['b', 'c'])", "a depends on b, c, which is no resource"),
        ("k8s_resource('a', resource_deps=['b'])\nlocal_resource('b', cmd='x', resource_deps=['a'])",
         "a, b wait for each other"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        evaluate(text, world())


@pytest.mark.parametrize(
    ("value", "hint", "whether"),
    [(True, int, False), (True, bool, True), (1, bool, False), ([1], list[int], True), ([1, "a"], list[int], False),
     ({"a": "b"}, dict[str, str], True), ({"a": 1}, dict[str, str], False), (None, str | None, True), ("x", Blob, False)],
)  # fmt: skip
def test_types_are_told_apart(value: object, hint: object, *, whether: bool) -> None:
    assert fits(value, hint) == whether


@pytest.mark.parametrize(("port", "pair"), [("8080", (8080, 8080)), ("'9000:80'", (9000, 80)), ("'h.x:9:8'", (9, 8))])
def test_ports_are_forwarded_in_three_forms(port: str, pair: tuple[int, int]) -> None:
    (made,) = evaluate(f"k8s_resource('a', port_forwards={port})", world()).resources["a"].port_forwards
    assert (made.local_port, made.container_port) == pair
