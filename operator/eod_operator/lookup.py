"""What `eod explain` reads of a cluster, by the rights of whoever asks, and what to do when it cannot be read."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml
from kubernetes import client, config
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from eod_operator.api import GROUP, KIND, PLURAL
from eod_operator.kube.api import Api, ClusterError, Manifest, login
from eod_operator.resources import Owner, decisions_name

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_UNKNOWN_USER, _FORBIDDEN = 401, 403
PIPELINES = f"{PLURAL}.{GROUP}"
"""Pipelines, as roles name them."""
NOT_INSTALLED = f"this cluster knows no {KIND}: install its CRD, eod operator crd | kubectl apply --server-side -f -"
_NAMED = 20
"""Pipelines that an error names at most."""


class LookupFailedError(Exception):
    """It could not be read; the message names the remedy."""


class Calls(Protocol):
    """What is needed of `kube.api.Api`."""

    async def call(self, verb: str, kind: str, namespace: str | None, name: str = "") -> Manifest:
        """Make one request and return the answer."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which API server, as whom, and in which namespace unless one is given."""

    configuration: client.Configuration
    namespace: str


@dataclass(frozen=True, slots=True)
class Found:
    """A pipeline, the data of its ConfigMap of decisions (None without one), and why that could not be read."""

    pipeline: Manifest
    decisions: dict[str, str] | None
    problem: str | None = None


def access(kubeconfig: Path | None, context: str | None) -> Access:
    """What kubectl would use: the kubeconfig given (or KUBECONFIG's, or the usual one), else the pod's ServiceAccount.

    Raises:
        LookupFailedError: there is neither, or it has no such context.
    """
    place = str(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")
    try:
        merged = KubeConfigMerger(place).config  # type: ignore[no-untyped-call]
        if merged is None and kubeconfig is None and context is None:
            return _within()
        if merged is None:
            raise LookupFailedError(f"there is no kubeconfig {place}: name one with --kubeconfig")
        names = sorted(one["name"] for one in merged.value["contexts"])
        if context is not None and context not in names:
            raise LookupFailedError(f"the kubeconfig {place} has no context {context!r}: it has {', '.join(names)}")
        loader = KubeConfigLoader(merged, context, config_base_path=None)  # type: ignore[no-untyped-call]
        configuration = client.Configuration()
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise LookupFailedError(f"the kubeconfig {place} cannot be used: {why}") from error
    return Access(configuration, loader.current_context["context"].get("namespace") or "default")


def _within() -> Access:
    """Inside a cluster, without a kubeconfig."""
    try:
        configuration = login()
    except ClusterError as error:
        raise LookupFailedError(str(error)) from error
    try:
        return Access(configuration, _NAMESPACE_FILE.read_text(encoding="utf-8").strip())
    except OSError:
        return Access(configuration, "default")


async def ask(access: Access, namespace: str, name: str) -> Found:
    """Read a pipeline and its decisions.

    Raises:
        LookupFailedError: the pipeline cannot be read.
    """
    api = Api(access.configuration, user_agent="eod-explain")
    try:
        return await look_up(api, namespace, name)
    finally:
        await api.close()


async def look_up(api: Calls, namespace: str, name: str) -> Found:
    """The same, over an open connection."""
    try:
        pipeline = await api.call("get", KIND, namespace, name)
    except ClusterError as error:
        if error.missing:
            raise LookupFailedError(await _missing(api, namespace, name)) from error
        raise LookupFailedError(refused(error, "get", PIPELINES, namespace)) from error
    config_map = decisions_name(Owner(namespace, name, pipeline["metadata"]["uid"]))
    try:
        found = await api.call("get", "ConfigMap", namespace, config_map)
    except ClusterError as error:
        problem = None if error.missing else f"no decisions: {refused(error, 'get', 'configmaps', namespace)}"
        return Found(pipeline, None, problem)
    return Found(pipeline, found.get("data") or {})


async def _missing(api: Calls, namespace: str, name: str) -> str:
    """There is no such pipeline: say which there are, if we may know."""
    missing = f"there is no {KIND} {name} in namespace {namespace}"
    try:
        names = sorted(one["metadata"]["name"] for one in (await api.call("list", KIND, namespace)).get("items") or ())
    except ClusterError as error:
        if error.missing:
            return NOT_INSTALLED
        return missing
    if not names:
        return f"{missing}, nor any other: name its namespace with --namespace (kubectl get {PLURAL} -A shows all)"
    near = difflib.get_close_matches(name, names, n=1)
    guess = f": did you mean {near[0]}?" if near else "."
    more = ", …" if len(names) > _NAMED else ""
    return f"{missing}{guess} There are: {', '.join(names[:_NAMED])}{more}"


def refused(error: ClusterError, verb: str, plural: str, namespace: str | None) -> str:
    """Why a request was not answered, and what to do; a namespace of None is all of them."""
    if error.status == _FORBIDDEN:
        where = "all namespaces" if namespace is None else f"namespace {namespace}"
        return f"you lack the right to {verb} {plural} in {where}: ask for a Role that grants it ({error})"
    if error.status == _UNKNOWN_USER:
        return (
            f"the API server does not know who you are: renew your credentials, or choose another --context ({error})"
        )
    return f"{error}: check the address in the kubeconfig, or choose another --context"
