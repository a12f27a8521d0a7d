"""Reads what a pipeline's forecast remembers out of the cluster, by the rights of whoever asks."""

from __future__ import annotations

from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.lookup import Access, Calls, LookupFailedError, refused
from eod_operator.resources import forecast_name


async def fetch(access: Access, namespace: str, pipeline: str) -> Manifest:
    """The ConfigMap of a pipeline's forecast.

    Raises:
        LookupFailedError: it cannot be read.
    """
    api = Api(access.configuration, user_agent="eod-forecast")
    try:
        return await look_up(api, namespace, pipeline)
    finally:
        await api.close()


async def look_up(api: Calls, namespace: str, pipeline: str) -> Manifest:
    """The same, over an open connection."""
    name = forecast_name(pipeline)
    try:
        found = await api.call("get", "ConfigMap", namespace, name)
    except ClusterError as error:
        if error.missing:
            raise LookupFailedError(
                f"there is no ConfigMap {name} in namespace {namespace}: the operator writes it after the first "
                "session of a pipeline; name another namespace with --namespace"
            ) from error
        raise LookupFailedError(refused(error, "get", "configmaps", namespace)) from error
    return {**found, "kind": "ConfigMap"}
