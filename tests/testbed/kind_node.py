"""The image that kind's nodes are made of, built from Debian packages and Go modules: no image registry is asked.

It is kind's own base image in all but origin: its files come out of kind's module, as its Dockerfile lays them out
(kind, images/base/Dockerfile). What differs, and why:

- one binary holds every Kubernetes program (`testbed.kubernetes`), and one image holds the whole control plane;
- pods are networked by CNI's bridge, not by kindnetd: one node only;
- nothing wants CAP_SYS_RESOURCE: no limits are raised and no out-of-memory score is lowered.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from testbed import cache, go, image_archive, rootfs
from testbed.cache import Workshop
from testbed.kubernetes import Kubernetes
from testbed.process import run

NODE_IMAGE = "testbed/node"
REPOSITORY = "docker.io/testbed"
"""What kubeadm takes for the registry of its images; they are in the node already."""
PAUSE = f"{REPOSITORY}/pause:1"
VERSION = "v1.34.4"

_MODULE = "kind"
_KIND = "sigs.k8s.io/kind"
_KIND_VERSION = "v0.30.0"
_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_PACKAGES = (
    *("systemd-sysv", "dbus", "containerd", "runc", "containernetworking-plugins", "iptables", "nftables", "conntrack"),
    *(
        "iproute2",
        "ethtool",
        "kmod",
        "mount",
        "jq",
        "procps",
        "curl",
        "ca-certificates",
        "hostname",
        "socat",
        "openssl",
    ),
)
_PROXY_PACKAGES = ("iptables", "nftables", "conntrack", "kmod", "busybox-static")
_BRIDGE = {
    "cniVersion": "0.4.0",
    "name": "bridge",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.244.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
# kind's Dockerfile removes these units of systemd: they have no place in a container.
_UNWANTED = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
)
_IMPORT = (
    'ExecStartPost=/bin/sh -c "for i in /kind/images/*.tar; do ctr -n k8s.io images import $$i; done"\n'
    "TimeoutStartSec=300"
)


class KindPrograms:
    """kind, CoreDNS and the pause container, built from Go modules."""

    key: ClassVar[str] = "kind"
    title: ClassVar[str] = "kind"
    fetch_s: ClassVar[float] = 190

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of the programs.

        Raises:
            Missing: there is no Go, or too old a one.
            BuildFailed: fetching or building failed.
        """
        return go.cached(_MODULE, _KIND_VERSION, cls._build, module=_MODULE, expected_s=cls.fetch_s)

    @classmethod
    def _build(cls, shop: Workshop) -> None:
        go.build(shop, _MODULE, _KIND, "kind", {})
        for program in ("coredns", "pause"):
            go.build(shop, _MODULE, f"./{program}", program, {})
        files = Path(go.folder(_MODULE, _KIND)) / "images/base/files"
        shutil.copytree(files, shop.folder / "node-files")  # modules in Go's cache are read-only
        run(["chmod", "-R", "u+w", shop.folder / "node-files"])


class KindNode:
    """The node image, as the tar of a root file system for `docker import`."""

    key: ClassVar[str] = "kind-node"
    title: ClassVar[str] = "kind's node image"
    fetch_s: ClassVar[float] = 90

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder that holds `node.tar`.

        Raises:
            Missing: this is not root on a Debian-like machine, or there is no Go.
            BuildFailed: fetching or building failed.
        """
        programs, kubernetes = KindPrograms.fetch(), Kubernetes.fetch()
        version = f"{VERSION}-{cache.fingerprint(Path(__file__), Path(rootfs.__file__), Path(image_archive.__file__))}"
        if not cache.entry(cls.key, version).is_dir():
            rootfs.require()
        return cache.cached(cls.key, version, lambda shop: _build(shop, programs, kubernetes), expected_s=cls.fetch_s)


def _build(shop: Workshop, programs: Path, kubernetes: Path) -> None:
    scratch = shop.log.parent
    node = scratch / "node"
    rootfs.make(shop, node, _PACKAGES, configured=True)
    _lay_out(node, programs)
    images = node / "kind/images"
    images.mkdir()
    _control_plane(shop, scratch / "control-plane", kubernetes, images / "control-plane.tar")
    _single(scratch / "coredns", programs / "coredns", _named("coredns", kubernetes), images / "coredns.tar")
    _single(scratch / "pause", programs / "pause", [PAUSE], images / "pause.tar")
    _kubernetes_programs(node, kubernetes)
    _containerd(node)
    for unit in ("kubelet", "containerd", "undo-mount-hacks"):
        run(["systemctl", f"--root={node}", "enable", f"{unit}.service"])
    run(["systemctl", f"--root={node}", "mask", "systemd-binfmt.service"])
    run(["tar", "-C", node, "-cf", shop.folder / "node.tar", "."])
    run(["rm", "-rf", node, scratch / "control-plane", scratch / "coredns", scratch / "pause"])


def _lay_out(node: Path, programs: Path) -> None:
    for pattern in _UNWANTED:
        for path in node.glob(pattern):
            path.unlink()
    shutil.copytree(programs / "node-files", node, dirs_exist_ok=True, symlinks=True)
    for folder in ("usr/local/bin", "kind/bin"):
        for script in (node / folder).iterdir():
            script.chmod(0o755)
    with (node / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    for folder in ("opt/cni", "etc/cni/net.d", "etc/kubernetes/manifests", "kind/manifests"):
        (node / folder).mkdir(parents=True, exist_ok=True)
    (node / "opt/cni/bin").symlink_to("/usr/lib/cni")
    (node / "etc/cni/net.d/10-bridge.conflist").write_text(json.dumps(_BRIDGE))
    (node / "kind/version").write_text(f"{VERSION}\n")


def _kubernetes_programs(node: Path, kubernetes: Path) -> None:
    shutil.copy2(kubernetes / "kube-allinone", node / "usr/bin/kube-allinone")
    for program in ("kubeadm", "kubelet", "kubectl"):
        (node / "usr/bin" / program).symlink_to("kube-allinone")
    for program in ("containerd", "ctr", "containerd-shim-runc-v2"):
        (node / "usr/local/bin" / program).symlink_to(f"/usr/bin/{program}")


def _containerd(node: Path) -> None:
    unit = node / "etc/systemd/system/containerd.service"
    kept = [
        f"{line}\n{_IMPORT}" if line.startswith("ExecStart=") else line
        for line in unit.read_text().splitlines()
        if not line.startswith(("OOMScoreAdjust", "Limit", "ExecStartPre"))
    ]
    unit.write_text("\n".join(kept) + "\n")
    config = node / "etc/containerd/config.toml"
    lines = [
        line.replace("registry.k8s.io/pause:3.10", PAUSE).replace(
            "restrict_oom_score_adj = false", "restrict_oom_score_adj = true"
        )
        for line in config.read_text().splitlines()
        if "discard_unpacked_layers" not in line
    ]
    config.write_text("\n".join(lines) + "\n")
    spec = json.loads(run(["chroot", node, "ctr", "oci", "spec"]))
    del spec["process"]["rlimits"]
    spec.setdefault("hooks", {})["createContainer"] = [{"path": "/kind/bin/mount-product-files.sh"}]
    (node / "etc/containerd/cri-base.json").write_text(json.dumps(spec))


def _control_plane(shop: Workshop, root: Path, kubernetes: Path, archive: Path) -> None:
    """One image for every part of the control plane; kube-proxy also needs iptables and a shell to call it by."""
    rootfs.make(shop, root, _PROXY_PACKAGES, configured=False)
    for folder in ("usr/local/bin", "tmp", "run", "etc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for link, target in (("sh", "busybox"), ("modprobe", "busybox")):
        (root / "bin" / link).unlink(missing_ok=True)
        (root / "bin" / link).symlink_to(target)
    tools = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")
    for tool in tools:  # Debian's alternatives, which no script has set up here
        (root / "usr/sbin" / tool).unlink(missing_ok=True)
        (root / "usr/sbin" / tool).symlink_to("xtables-nft-multi")
    shutil.copy2(kubernetes / "kube-allinone", root / "usr/local/bin/kube-allinone")
    for part in _CONTROL_PLANE:
        (root / "usr/local/bin" / part).symlink_to("kube-allinone")
    names = [name for part in _CONTROL_PLANE for name in _named(part, kubernetes)]
    image_archive.write(archive, names, root, {"Cmd": ["kube-apiserver"]})


def _single(root: Path, program: Path, names: Sequence[str], archive: Path) -> None:
    """An image of one static program."""
    root.mkdir()
    shutil.copy2(program, root / program.name)
    image_archive.write(archive, names, root, {"Entrypoint": [f"/{program.name}"]})


def _named(part: str, kubernetes: Path) -> list[str]:
    """What kubeadm calls the image of a part of the control plane."""
    told = subprocess.run(
        [
            *(os.fspath(kubernetes / "kubeadm"), "config", "images", "list"),
            *(f"--kubernetes-version={VERSION}", f"--image-repository={REPOSITORY}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in told.split() if name.startswith(f"{REPOSITORY}/{part}:")]
