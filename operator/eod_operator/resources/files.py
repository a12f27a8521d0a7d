"""Files of a stage, each a folder that nobody can write to: Kafka's, those of its own port, spec.config.files."""

from __future__ import annotations

from eod_operator.api import PipelineSpec
from eod_operator.api.http import Http
from eod_operator.api.sources import HTTP_FILES, KAFKA_FILES, MountedFiles
from eod_operator.resources.identity import Manifest, digest

PEM_KEYS = ("ca.crt", "tls.crt", "tls.key")
"""Keys of Kafka's Secret that are files; its username and password are not mounted."""
_READABLE = 0o444
"""The image runs as nobody in particular, and the pod's files are in reach of this one container."""
_KAFKA = "kafka"
_HTTP = "http"


def volumes(spec: PipelineSpec) -> list[Manifest]:
    """The volumes of a stage's pods."""
    made = [_volume(one) for one in spec.config.files]
    security = spec.kafka.security
    if security is not None and security.tls and security.secret_ref is not None:
        source = {
            "secretName": security.secret_ref.name,
            "items": [{"key": key, "path": key} for key in PEM_KEYS],
            "defaultMode": _READABLE,
            "optional": True,  # of the keys, too: which there are is the Secret's owner's to decide
        }
        made.append({"name": _KAFKA, "secret": source})
    if spec.http is not None:
        made.append({"name": _HTTP, "projected": {"sources": _of_http(spec.http), "defaultMode": _READABLE}})
    return made


def _of_http(http: Http) -> list[Manifest]:
    """Both Secrets in one folder. A pod waits for what is missing: without it the stage would not start."""
    sources: list[Manifest] = []
    if http.tls is not None:
        pair = [{"key": key, "path": key} for key in ("tls.crt", "tls.key")]
        sources.append({"secret": {"name": http.tls.secret_ref.name, "items": pair}})
    if http.token is not None:
        token = http.token.secret_key_ref
        sources.append({"secret": {"name": token.name, "items": [{"key": token.key, "path": "token"}]}})
    return sources


def mounts(spec: PipelineSpec) -> list[Manifest]:
    """Where its container finds them."""
    paths = {_name(one): one.mount_path for one in spec.config.files}
    own = {_KAFKA: KAFKA_FILES, _HTTP: HTTP_FILES}
    paths |= {volume["name"]: own[volume["name"]] for volume in volumes(spec) if volume["name"] in own}
    return [{"name": name, "mountPath": path, "readOnly": True} for name, path in paths.items()]


def _name(files: MountedFiles) -> str:
    """Of a volume: the same path has the same name, wherever in the list it stands."""
    return f"files-{digest(files.mount_path)}"


def _volume(files: MountedFiles) -> Manifest:
    if files.config_map_ref is not None:
        return {"name": _name(files), "configMap": {"name": files.config_map_ref.name, "defaultMode": _READABLE}}
    secret = files.secret_ref.name if files.secret_ref is not None else ""
    return {"name": _name(files), "secret": {"secretName": secret, "defaultMode": _READABLE}}
