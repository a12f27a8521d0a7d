"""The cluster, as the operator uses it: list, read, server-side apply, delete, and status.

Blocking calls of the kubernetes client, each with a time limit; callers keep them off the event loop. Objects are
plain dicts: what is sent is what `resources` made, and what comes back is what the server said.
"""

from __future__ import annotations

import json
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from eod_operator.api import GROUP, PLURAL, VERSION
from eod_operator.resources import LABEL_PIPELINE, MANAGER, Owner

REQUEST_WITHIN_S = 10.0
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "EodPipeline": f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{PLURAL}",
}
NOT_FOUND = 404
_APPLY = "application/apply-patch+yaml"

Manifest = dict[str, Any]


class ClusterError(Exception):
    """The API server refused or did not answer; `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def login() -> client.ApiClient:
    """Connect as the pod's service account, or as the kubeconfig says outside a cluster.

    Raises:
        ClusterError: neither is there.
    """
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config()  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise ClusterError(
                0, f"no cluster to talk to: run inside one, or point KUBECONFIG at a kubeconfig ({error})"
            ) from error
    configuration = client.Configuration.get_default_copy()
    configuration.retries = 1  # for a kept connection that the server closed; more would stretch the time limit
    return client.ApiClient(configuration)


class Cluster:
    """Reads and writes of one API server; safe for threads, as the client's connection pool is."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def owned_by(self, kind: str, owner: Owner) -> list[Manifest]:
        """Objects of a kind that carry the pipeline's label, whoever owns them."""
        query = [("labelSelector", f"{LABEL_PIPELINE}={owner.name}")]
        items: list[Manifest] = self._call("GET", kind, owner.namespace, query=query).get("items", [])
        return items

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None when there is none."""
        try:
            return self._call("GET", kind, namespace, name)
        except ClusterError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def apply(self, manifest: Manifest) -> Manifest:
        """Create or update by server-side apply; fields that others set and we do not mention stay as they are."""
        meta = manifest["metadata"]
        query = [("fieldManager", MANAGER), ("force", "true")]
        return self._call("PATCH", manifest["kind"], meta["namespace"], meta["name"], query=query, body=manifest)

    def apply_status(self, owner: Owner, api_version: str, kind: str, status: Manifest) -> None:
        """Replace our part of the pipeline's status, unless the pipeline was deleted (and made anew) meanwhile."""
        body = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": owner.name, "namespace": owner.namespace, "uid": owner.uid},
            "status": status,
        }
        query = [("fieldManager", MANAGER), ("force", "true")]
        self._call("PATCH", kind, owner.namespace, f"{owner.name}/status", query=query, body=body)

    def delete(self, manifest: Manifest, kind: str) -> None:
        """Delete this very object (not a namesake made since), with its pods; one that is gone already is fine."""
        meta = manifest["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": meta["uid"]},
        }
        try:
            self._call("DELETE", kind, meta["namespace"], meta["name"], body=body)
        except ClusterError as error:
            if error.status != NOT_FOUND:
                raise

    def _call(
        self,
        method: str,
        kind: str,
        namespace: str,
        name: str = "",
        *,
        query: list[tuple[str, str]] | None = None,
        body: Manifest | None = None,
    ) -> Manifest:
        path = PATHS[kind].format(namespace=namespace) + (f"/{name}" if name else "")
        headers = {"Accept": "application/json", "Content-Type": _APPLY if method == "PATCH" else "application/json"}
        request = self._api.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = self._api.call_api(*request, _request_timeout=REQUEST_WITHIN_S)
            text = response.read()  # type: ignore[no-untyped-call]
        except (HTTPError, OSError) as error:
            raise ClusterError(0, f"{method} {path}: the API server did not answer: {error}") from error
        answer: Manifest = json.loads(text) if text else {}
        if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's successes
            raise ClusterError(response.status, f"{method} {path}: {answer.get('message', response.reason)}")
        return answer
