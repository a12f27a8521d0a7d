"""Container images made of a folder, without a daemon and without a base image.

The format is that of `docker save` (image spec 1.2 of Moby): a tar of one layer, a configuration and a manifest. Both
`docker load` and `ctr images import` take it.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write(archive: Path, names: Sequence[str], root: Path, config: Mapping[str, object]) -> None:
    """Write the image of the folder `root` under all of the `names`.

    Args:
        archive: the file to write.
        names: as repository:tag.
        root: the root file system; all files become root's.
        config: of the image: Entrypoint, Cmd, User, Env as the image spec names them.
    """
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, path.name, filter=_anonymous)
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    described = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": _EPOCH,
            "config": {"Env": [_PATH], **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _EPOCH, "created_by": "eod test bed"}],
        }
    ).encode()
    name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": list(names), "Layers": [f"{digest}.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, f"{digest}.tar")
        for file_name, content in ((name, described), ("manifest.json", manifest)):
            info = tarfile.TarInfo(file_name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    layer.unlink()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member
