"""Every setting and every metric there is, from what reads and counts them: `eod settings`, `eod metrics`, the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from prometheus_client.metrics_core import Metric as PrometheusMetric

from eod_workers.process.settings import (
    ADMIN_PREFIX,
    Admin,
    ArchiveAccess,
    KafkaAccess,
    Process,
    RegulatoryAccess,
    StateAccess,
)
from eod_workers.runtime.stages import Stage
from eod_workers.runtime.variables import PREFIX, SETTING_OF, StageSettings, TopicNames, Variables

EVERYBODY = "every stage and command"
EVERY_STAGE = "every stage"
_ABOUT = {"state": "The state store", "regulatory": "The regulatory store", "archive": "The archive"}
_STORES: Mapping[str, type[Variables]] = {
    "state": StateAccess,
    "regulatory": RegulatoryAccess,
    "archive": ArchiveAccess,
}
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "state": ("eod dlq", "eod fix", "eod reconcile"),
    "regulatory": ("eod db", "eod reconcile"),
    "archive": ("eod archive", "eod reconcile"),
}
"""Who works with a store beside the stages that need it."""
HEADER = """# Settings

Generated from the models that read them (`make settings`); `eod settings` prints the same, and `eod settings flash-pnl`
what one stage reads. A setting is an environment variable. One with an impossible value ends the process at its start,
with a sentence that names it. Stages that the operator runs are told some by the operator, the rest by `spec.config`
(see [operator.md](operator.md)).
"""


_TABLE = ("| Variable | Type | Default | What it does | Who reads it |", "|---|---|---|---|---|")


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable.

    Attributes:
        name: of the variable.
        about: the part of the system that it belongs to.
        type: in words.
        default: as one would write it; "" if there is none.
        what: what it does.
        readers: who reads it: kinds of stage, or `EVERYBODY`, or a command.
    """

    name: str
    about: str
    type: str
    default: str
    what: str
    readers: tuple[str, ...]


_ABOUT_ELSEWHERE = "Read elsewhere"
_MAKE = "make setup"
_ELSEWHERE = (
    Setting(
        "EOD_KERNEL",
        _ABOUT_ELSEWHERE,
        "one of on, off",
        "on",
        "Whether the compiled kernel is used where it is built.",
        (EVERYBODY,),
    ),
    Setting(
        "EOD_LIVE_PATH",
        _ABOUT_ELSEWHERE,
        "text",
        "",
        "Folder, named by PYTHONPATH too, whose code replaces the installed one, and begins anew when it changes: for "
        "development.",
        (EVERY_STAGE, "eod operator run"),
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        _ABOUT_ELSEWHERE,
        "text",
        "",
        "Where spans are sent, as http://host:4318; without it none are made. OpenTelemetry's other OTEL_* count, too.",
        (EVERY_STAGE,),
    ),
    Setting(
        "AWS_REGION",
        _ABOUT_ELSEWHERE,
        "text",
        "us-east-1",
        "Region of the archive's bucket; AWS_DEFAULT_REGION does as well. Credentials are found as by every AWS tool.",
        ("archive", *_COMMANDS["archive"]),
    ),
    Setting(
        "EOD_OPERATOR_INTERVAL_SECONDS",
        _ABOUT_ELSEWHERE,
        "number, from 0.1",
        "15",
        "Seconds between two decisions, for pipelines that do not say so themselves.",
        ("eod operator run",),
    ),
    Setting(
        "EOD_NAMESPACE",
        _ABOUT_ELSEWHERE,
        "text",
        "",
        "Namespace of the operator's Lease; without it the first --namespace, else that of the pod.",
        ("eod operator run",),
    ),
    Setting(
        "EOD_NO_KERNEL", _ABOUT_ELSEWHERE, "1", "", "Install without compiling the kernel.", (_MAKE, "pip install")
    ),
    Setting(
        "EOD_KERNEL_CACHE",
        _ABOUT_ELSEWHERE,
        "text",
        "",
        "Folder that keeps compiled kernels, each under what it was made of.",
        ("pip install",),
    ),
    Setting(
        "EOD_CACHE",
        _ABOUT_ELSEWHERE,
        "text",
        "~/.cache/eod",
        "Folder for what is fetched and compiled; once filled, no network is needed.",
        (_MAKE,),
    ),
)
"""What no model reads: the kernel, the live update, libraries, the operator's command line and the set-up do."""


def settings(stages: Mapping[str, Stage]) -> list[Setting]:
    """All of them, each once."""
    found: list[Setting] = [
        *_of(KafkaAccess, "Kafka", _always(EVERYBODY)),
        *_of(TopicNames, "Streams", lambda name: _users(stages, name)),
    ]
    for need, model in _STORES.items():
        users = tuple(name for name, stage in stages.items() if need in stage.kind.needs)
        found += _of(model, _ABOUT[need], _always(*users, *_COMMANDS[need]))
    found += _of(Admin, "The regulatory store", _always("eod db create --apply"), prefix=ADMIN_PREFIX)
    found += _of(Process, "The process", _always(*stages))
    consuming = tuple(name for name, stage in stages.items() if stage.kind.reads)
    found += _of(StageSettings, "Every consuming stage", _always(*consuming), without=TopicNames)
    own: dict[str, list[str]] = {}
    for name, stage in stages.items():
        for field in _own(stage.settings):
            own.setdefault(field, []).append(name)
    for name, stage in stages.items():
        mine = _of(stage.settings, f"The stage {name}", lambda field: tuple(own[field]), without=StageSettings)
        found += [setting for setting in mine if setting.readers[0] == name]
    return [*found, *_ELSEWHERE]


def _always(*readers: str) -> Callable[[str], tuple[str, ...]]:
    """The same readers for every setting of a model."""
    return lambda _setting: readers


def _own(model: type[StageSettings]) -> list[str]:
    return [name for name in model.model_fields if name not in StageSettings.model_fields]


def _users(stages: Mapping[str, Stage], name: str) -> tuple[str, ...]:
    """Who reads or writes the stream whose topic a setting names."""
    (stream,) = (stream for stream, setting in SETTING_OF.items() if setting == name)
    return tuple(kind for kind, stage in stages.items() if stream in {*stage.kind.reads, *stage.kind.writes})


def _of(
    model: type[Variables],
    about: str,
    readers: Callable[[str], tuple[str, ...]],
    *,
    prefix: str = PREFIX,
    without: type[Variables] = Variables,
) -> list[Setting]:
    schema = model.model_json_schema()["properties"]
    return [
        Setting(prefix + name.upper(), about, _type(told), _default(told), told["description"], readers(name))
        for name, told in schema.items()
        if name not in without.model_fields
    ]


def _type(told: Mapping[str, Any]) -> str:
    """A type of a JSON schema in words, with its bounds."""
    if "anyOf" in told:
        return " or ".join(_type(one) for one in told["anyOf"] if one.get("type") != "null")
    if "enum" in told:
        return "one of " + ", ".join(told["enum"])
    if "const" in told:
        return str(told["const"])
    if told.get("format") == "password":
        return "secret text"
    if told.get("type") == "array":
        return "comma-separated texts"
    words = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}[told["type"]]
    bounds = [
        f"{word} {told[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in told
    ]
    return ", ".join((words, " ".join(bounds))) if bounds else words


def _default(told: Mapping[str, Any]) -> str:
    default = told.get("default", "")
    if default is None or default == [] or told.get("format") == "password":
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def page(found: Iterable[Setting]) -> str:
    """docs/settings.md."""
    parts: dict[str, list[Setting]] = {}
    for setting in found:
        parts.setdefault(setting.about, []).append(setting)
    lines = [HEADER.rstrip()]
    for about, some in parts.items():
        lines += [f"\n## {about}", *_TABLE]
        for one in some:
            default = f"`{one.default}`" if one.default else ""
            lines.append(f"| `{one.name}` | {one.type} | {default} | {one.what} | {', '.join(one.readers)} |")
    return "\n".join(lines) + "\n"


# --- metrics ------------------------------------------------------------------------------------------------

METRICS_HEADER = """# Metrics

Generated from the stages that count them (`make settings`); `eod metrics` prints the same, and `eod metrics flash-pnl`
what one stage exports at `/metrics`, beside `process_*` and `python_*` of its process. Labels are in braces. Those of
the operator are in [operator.md](operator.md). With `EOD_HTTP_TOKEN_FILE` who scrapes gives a token, with
`EOD_HTTP_TLS_CERT_FILE` by HTTPS ([settings.md](settings.md)).

| Metric | Type | What it counts | Which stage exports it |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as it is exported.
        type: counter, gauge or histogram.
        labels: of each sample.
        what: what it counts.
        stages: who exports it.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    what: str
    stages: tuple[str, ...]


@runtime_checkable
class _Describing(Protocol):
    """A collector that says what it is without being asked for numbers, as all of the client library do."""

    def describe(self) -> Iterable[PrometheusMetric]:
        """What it exports, without samples."""
        ...


def metrics(stages: Mapping[str, Stage]) -> list[Metric]:
    """All of them, each once, in the order of the stages."""
    found: dict[str, Metric] = {}
    for name, stage in stages.items():
        for metric in stage.metrics().exported():
            labels = tuple(getattr(metric, "_labelnames", ()))
            for family in metric.describe() if isinstance(metric, _Describing) else ():
                full = f"{family.name}_total" if family.type == "counter" else family.name
                one = found.setdefault(full, Metric(full, family.type, labels, family.documentation, ()))
                found[full] = replace(one, stages=(*one.stages, name))
    return list(found.values())


def metrics_page(found: Iterable[Metric]) -> str:
    """docs/metrics.md."""
    lines = []
    for one in found:
        labels = f"{{{','.join(one.labels)}}}" if one.labels else ""
        lines.append(f"| `{one.name}{labels}` | {one.type} | {one.what} | {', '.join(one.stages)} |\n")
    return METRICS_HEADER + "".join(lines)
