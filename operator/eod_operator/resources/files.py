"""Files of a stage: Kafka's certificates and what spec.config.files names, each a folder that nobody can write to."""

from __future__ import annotations

from eod_operator.api import PipelineSpec
from eod_operator.api.sources import KAFKA_FILES, MountedFiles
from eod_operator.resources.identity import Manifest, digest

PEM_KEYS = ("ca.crt", "tls.crt", "tls.key")
"""Keys of Kafka's Secret that are files; its username and password are not mounted."""
_READABLE = 0o444
"""The image runs as nobody in particular, and the pod's files are in reach of this one container."""
_KAFKA = "kafka"


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
    return made


def mounts(spec: PipelineSpec) -> list[Manifest]:
    """Where its container finds them."""
    paths = {_name(one): one.mount_path for one in spec.config.files}
    paths |= {volume["name"]: KAFKA_FILES for volume in volumes(spec) if volume["name"] == _KAFKA}
    return [{"name": name, "mountPath": path, "readOnly": True} for name, path in paths.items()]


def _name(files: MountedFiles) -> str:
    """Of a volume: the same path has the same name, wherever in the list it stands."""
    return f"files-{digest(files.mount_path)}"


def _volume(files: MountedFiles) -> Manifest:
    if files.config_map_ref is not None:
        return {"name": _name(files), "configMap": {"name": files.config_map_ref.name, "defaultMode": _READABLE}}
    secret = files.secret_ref.name if files.secret_ref is not None else ""
    return {"name": _name(files), "secret": {"secretName": secret, "defaultMode": _READABLE}}
