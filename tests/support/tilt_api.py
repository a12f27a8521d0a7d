"""Stand-ins for the functions of Tilt that the Tiltfile calls: they take what Tilt's API reference says, and nothing else.

Tilt itself is a Go program that tests do not have. A Tiltfile is Starlark, which is evaluated here by an interpreter;
the names, arguments, types and rules are those of https://docs.tilt.dev/api.html. A function that is not here is
refused, so who uses another one adds it, from that page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import starlark as sl


@dataclass(frozen=True)
class Blob:
    """Content, as opposed to a path to it."""

    text: str


@dataclass(frozen=True)
class TriggerMode:
    """When a resource is updated."""

    name: str


@dataclass(frozen=True)
class PortForward:
    """A port of this machine that leads to one of a pod."""

    local_port: int
    container_port: int


@dataclass(frozen=True)
class LiveUpdateStep:
    """Files that are copied into running containers."""

    local_path: str
    remote_path: str


ROOT = Path(__file__).parents[2]
AUTO, MANUAL = TriggerMode("auto"), TriggerMode("manual")
Words = str | list[str]
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+")


@dataclass
class Resource:
    """What Tilt shows as one line: a workload of the cluster, or commands that run here."""

    name: str
    cmd: Words = ""
    deps: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    auto_init: bool = True
    trigger_mode: TriggerMode = AUTO
    port_forwards: list[PortForward] = field(default_factory=list)
    pod_readiness: str = ""
    pod_selectors: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Image:
    """What docker_build was told."""

    ref: str
    only: list[str]
    target: str
    steps: list[LiveUpdateStep]


@dataclass
class TiltWorld:
    """What a Tiltfile sees of the world around it, and what it has said.

    Attributes:
        subcommand: of tilt.
        env: of tilt.
        exists: whether a path is there.
        run: runs a command and returns what it printed.
    """

    subcommand: str
    env: dict[str, str]
    exists: Callable[[str], bool]
    run: Callable[[list[str]], str] = lambda _: ""
    contexts: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    yaml: list[str | Blob] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    resources: dict[str, Resource] = field(default_factory=dict)

    def add(self, resource: Resource) -> None:
        """Keep a resource; Tilt knows each by its name."""
        if resource.name in self.resources:
            raise ValueError(f"there is a resource {resource.name!r} already")
        for label in resource.labels:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"{label!r} is no label: letters, digits, '_', '-' and '.', at most 63")
        self.resources[resource.name] = resource


@dataclass(frozen=True)
class Takes:
    """What a function takes: arguments that must be given, those that may be, and those that may be by their name alone."""

    must: dict[str, Any]
    may: dict[str, Any] = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)

    def signature(self) -> inspect.Signature:
        """As Python has it."""
        place, name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        made = [inspect.Parameter(one, place) for one in self.must]
        made += [inspect.Parameter(one, place, default=None) for one in self.may]
        return inspect.Signature(made + [inspect.Parameter(one, name, default=None) for one in self.named])


FUNCTIONS = {
    "allow_k8s_contexts": Takes({"contexts": Words}),
    "update_settings": Takes(
        {},
        {"max_parallel_updates": int, "k8s_upsert_timeout_secs": int, "suppress_unused_image_warnings": Words | None,
         "k8s_server_side_apply": str},
    ),
    "ci_settings": Takes({}, {"k8s_grace_period": str, "timeout": str, "readiness_timeout": str}),
    "version_settings": Takes({}, {"check_updates": bool, "constraint": str}),
    "fail": Takes({"msg": str}),
    "blob": Takes({"contents": str}),
    "watch_file": Takes({"file_path": str}),
    "local": Takes(
        {"command": Words},
        {"quiet": bool, "command_bat": Words, "echo_off": bool, "env": dict[str, str], "dir": str,
         "stdin": str | Blob | None},
    ),
    "helm": Takes(
        {"pathToChartDir": str},
        {"name": str, "namespace": str, "values": Words, "set": Words, "kube_version": str, "skip_crds": bool},
    ),
    "k8s_yaml": Takes({"yaml": Words | Blob}, {"allow_duplicates": bool}),
    "k8s_kind": Takes(
        {"kind": str},
        {"api_version": str | None},
        {"image_json_path": Words, "image_object": dict[str, str], "pod_readiness": str},
    ),
    "sync": Takes({"local_path": str, "remote_path": str}),
    "docker_build": Takes(
        {"ref": str, "context": str},
        {"build_args": dict[str, str], "dockerfile": str, "dockerfile_contents": str | Blob,
         "live_update": list[LiveUpdateStep], "match_in_env_vars": bool, "ignore": Words, "only": Words,
         "entrypoint": Words, "target": str, "ssh": Words, "network": str, "secret": Words, "extra_tag": Words,
         "container_args": list[str] | None, "cache_from": Words, "pull": bool, "platform": str, "extra_hosts": Words},
    ),
    "port_forward": Takes(
        {"local_port": int},
        {"container_port": int | None, "name": str | None, "link_path": str | None, "host": str | None},
    ),
    "k8s_resource": Takes(
        {},
        {"workload": str, "new_name": str, "port_forwards": str | int | PortForward | list[str | int | PortForward],
         "extra_pod_selectors": dict[str, str] | list[dict[str, str]], "trigger_mode": TriggerMode,
         "resource_deps": list[str], "objects": list[str], "auto_init": bool, "pod_readiness": str, "links": Words,
         "labels": Words, "discovery_strategy": str},
    ),
    "local_resource": Takes(
        {"name": str},
        {"cmd": Words, "deps": Words | None, "trigger_mode": TriggerMode, "resource_deps": list[str], "ignore": Words,
         "auto_init": bool, "serve_cmd": Words, "cmd_bat": Words, "serve_cmd_bat": Words, "allow_parallel": bool,
         "links": Words, "labels": Words, "env": dict[str, str], "serve_env": dict[str, str], "dir": str,
         "serve_dir": str},
    ),
    "os_getenv": Takes({"key": str}, {"default": str | None}),
    "os_path_exists": Takes({"path": str}),
}  # fmt: skip


class Api:
    """What the functions do, beside being recorded: the rules that no type says."""

    def __init__(self, world: TiltWorld) -> None:
        self._world = world

    def allow_k8s_contexts(self, contexts: Words) -> None:
        self._world.contexts += _list(contexts)

    def update_settings(self, **given: Any) -> None:
        if min(given.get("max_parallel_updates", 1), given.get("k8s_upsert_timeout_secs", 1)) < 1:
            raise ValueError("max_parallel_updates and k8s_upsert_timeout_secs are at least 1")
        _one_of(given, k8s_server_side_apply=("true", "false", "auto"))

    def ci_settings(self, **durations: str) -> None:
        for text in durations.values():
            if not _DURATION.fullmatch(text):
                raise ValueError(f"{text!r} is no duration, such as 30m")

    def version_settings(self, constraint: str = "", **_: Any) -> None:
        if constraint and not re.fullmatch(r"[<>]=?\d+\.\d+\.\d+", constraint):
            raise ValueError(f"{constraint!r} is no constraint, such as >=0.35.0")

    def fail(self, msg: str) -> None:
        raise RuntimeError(msg)

    def blob(self, contents: str) -> Blob:
        return Blob(contents)

    def watch_file(self, file_path: str) -> None:
        self._world.watched.append(self._there(file_path))

    def local(self, command: Words, **_: Any) -> Blob:
        words = ["sh", "-c", command] if isinstance(command, str) else command
        self._world.commands.append(words)
        return Blob(self._world.run(words))

    def helm(self, **given: Any) -> Blob:
        chart = self._there(given["pathToChartDir"])
        self._there(f"{chart}/Chart.yaml")
        words = ["helm", "template", given.get("name", "chart"), chart, f"--namespace={given.get('namespace', '')}"]
        words += [f"--values={self._there(file)}" for file in _list(given.get("values", []))]
        return Blob(self._world.run([*words, *(f"--set={one}" for one in _list(given.get("set", [])))]))

    def k8s_yaml(self, yaml: Words | Blob, **_: Any) -> None:
        self._world.yaml += [yaml] if isinstance(yaml, Blob) else [self._there(file) for file in _list(yaml)]

    def k8s_kind(self, kind: str, image_json_path: Words = "", **given: Any) -> None:
        _one_of(given, pod_readiness=("", "ignore", "wait"))
        for path in _list(image_json_path):
            if not re.fullmatch(r"\{(\.\w+(\[\*?\d*\])?)+\}", path):
                raise ValueError(f"{path!r} is no JSON path, such as {{.spec.image}}")
        self._world.kinds[kind] = "".join(_list(image_json_path))

    def sync(self, local_path: str, remote_path: str) -> LiveUpdateStep:
        if not remote_path.startswith("/"):
            raise ValueError(f"the remote path {remote_path!r} must be absolute")
        return LiveUpdateStep(self._there(local_path), remote_path)

    def docker_build(self, ref: str, context: str, **given: Any) -> None:
        root, steps = self._there(context), given.get("live_update", [])
        paths = [self._there(path) for path in _list(given.get("only", []))]
        dockerfile = ROOT / root / self._there(given.get("dockerfile", "Dockerfile"))
        stages = re.findall(r"(?m)^FROM \S+ AS (\S+)", dockerfile.read_text(encoding="utf-8"))
        _one_of(given, target=("", *stages))
        for step in steps:
            if paths and not any(f"{step.local_path}/".startswith(f"{path}/") for path in paths):
                raise ValueError(f"{step.local_path!r} is not part of the image: it is in none of only")
        self._world.images.append(Image(ref, paths, given.get("target", ""), steps))

    def port_forward(self, local_port: int, container_port: int | None = None, **_: Any) -> PortForward:
        ports = local_port, local_port if container_port is None else container_port
        if not all(0 < port < 65_536 for port in ports):
            raise ValueError(f"{ports} are no ports")
        return PortForward(*ports)

    def k8s_resource(self, workload: str = "", new_name: str = "", **given: Any) -> None:
        if not workload and not (new_name and given.get("objects")):
            raise ValueError("k8s_resource wants a workload, or objects and a new_name")
        _one_of(given, pod_readiness=("", "ignore", "wait"), discovery_strategy=("", "default", "selectors-only"))
        selectors, ports = given.get("extra_pod_selectors", []), given.get("port_forwards", [])
        made = _resource(new_name or workload, given)
        made.pod_readiness = given.get("pod_readiness", "")
        made.pod_selectors = [selectors] if isinstance(selectors, dict) else selectors
        made.port_forwards = [_forward(one) for one in (ports if isinstance(ports, list) else [ports])]
        self._world.add(made)

    def local_resource(self, name: str, cmd: Words = "", serve_cmd: Words = "", **given: Any) -> None:
        if not cmd and not serve_cmd:
            raise ValueError(f"local_resource {name!r} has neither cmd nor serve_cmd")
        for path in _list(given.get("deps") or []):
            self._there(path)
        made = _resource(name, given)
        made.cmd = cmd or serve_cmd
        self._world.add(made)

    def os_getenv(self, key: str, default: str | None = None) -> str | None:
        return self._world.env.get(key, default)

    def os_path_exists(self, path: str) -> bool:
        return self._world.exists(path)

    def _there(self, path: str) -> str:
        if not self._world.exists(path):
            raise FileNotFoundError(f"there is no {path}")
        return path


def _list(words: Words) -> list[str]:
    return [words] if isinstance(words, str) else words


def _one_of(given: Mapping[str, Any], **known: tuple[str, ...]) -> None:
    for name, values in known.items():
        if given.get(name, values[0]) not in values:
            raise ValueError(f"{name} is {given[name]!r}, not one of {', '.join(map(repr, values))}")


def _resource(name: str, given: Mapping[str, Any]) -> Resource:
    made = Resource(name, deps=given.get("resource_deps", []), labels=_list(given.get("labels", [])))
    made.auto_init = given.get("auto_init", True)
    made.trigger_mode = given.get("trigger_mode", AUTO)
    return made


def _forward(port: str | int | PortForward) -> PortForward:
    """A forwarded port in any of the three forms."""
    if isinstance(port, PortForward):
        return port
    if not (found := re.fullmatch(r"(?:[\w.-]+:)??(\d+)(?::(\d+))?", str(port))):
        raise ValueError(f"{port!r} is no forwarded port, such as 8080 or '9000:8080'")
    return PortForward(int(found[1]), int(found[2] or found[1]))


def fits(value: object, hint: Any) -> bool:
    """Whether a value has a type; a truth value is no number."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return any(fits(value, one) for one in args)
    if origin is list:
        return isinstance(value, list) and all(fits(one, args[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())
    if hint is None or hint is NoneType:
        return value is None
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _checked(name: str, takes: Takes, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, held to what it takes; what it returns is opaque to Starlark unless it is plain."""
    signature, hints = takes.signature(), {**takes.must, **takes.may, **takes.named}

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        for argument, value in given.items():
            if not fits(value, hints[argument]):
                raise TypeError(f"{name}: {argument} is {value!r}, not {inspect.formatannotation(hints[argument])}")
        made = method(**given)
        return made if isinstance(made, str | bool | NoneType) else sl.OpaquePythonObject(made)

    return call


def evaluate(text: str, world: TiltWorld, subcommand: Literal["up", "ci"] | None = None) -> TiltWorld:
    """Evaluate a Tiltfile.

    Raises:
        StarlarkError: it is refused; the message says by what, and where.
        ValueError: resources depend on what is not there, or on each other.
    """
    if subcommand is not None:
        world.subcommand = subcommand
    api, module = Api(world), sl.Module()
    for name, takes in FUNCTIONS.items():
        module.add_callable(name, _checked(name, takes, getattr(api, name)))
    module["TRIGGER_MODE_AUTO"] = sl.OpaquePythonObject(AUTO)
    module["TRIGGER_MODE_MANUAL"] = sl.OpaquePythonObject(MANUAL)
    module["_subcommand"] = world.subcommand
    dialect = sl.Dialect.extended()  # as Tilt's: if and for at the top level, too
    with_structs = sl.Globals.extended_by([sl.LibraryExtension.StructType])
    prelude = (
        "os = struct(getenv=os_getenv, path=struct(exists=os_path_exists))\n"
        "config = struct(tilt_subcommand=_subcommand)\n"
    )
    sl.eval(module, sl.parse("prelude", prelude, dialect), with_structs)
    sl.eval(module, sl.parse("Tiltfile", text, dialect), sl.Globals.standard())
    _order(world)
    return world


def _order(world: TiltWorld) -> None:
    """What depends on what can be brought up in some order."""
    done: set[str] = set()
    left = dict(world.resources)
    for resource in left.values():
        if missing := sorted(set(resource.deps) - world.resources.keys()):
            raise ValueError(f"{resource.name} depends on {', '.join(missing)}, which is no resource")
    while left:
        ready = [name for name, resource in left.items() if done.issuperset(resource.deps)]
        if not ready:
            raise ValueError(f"{', '.join(sorted(left))} wait for each other")
        for name in ready:
            done.add(name)
            del left[name]
