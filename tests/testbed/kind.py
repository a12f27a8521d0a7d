"""A cluster of one real node by kind, in a Docker of the test bed's own: kubelet, containerd, kube-proxy, CoreDNS, CNI.

Nobody outside of the test's network namespace can reach it; inside, its API server and the ports that `ports_out` maps are
on 127.0.0.1.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import yaml

from testbed.docker import Docker
from testbed.errors import CommandFailed
from testbed.image_bases import ImageBases
from testbed.kind_node import NODE_IMAGE, REPOSITORY, VERSION, KindNode, KindPrograms
from testbed.kubernetes import Kubernetes
from testbed.process import run
from testbed.progress import say

_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]'
_ENV = "ENV container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READY_WITHIN_S = 180


class Kind:
    """One cluster.

    Args:
        home: the folder of its kubeconfig and logs.
        docker: runs the node.
        ports_out: port on 127.0.0.1 → NodePort.
    """

    title: ClassVar[str] = "kind"

    def __init__(self, home: Path, docker: Docker, ports_out: Mapping[int, int], name: str = "eod") -> None:
        self.kubeconfig = home / "kubeconfig"
        self.name = name
        self._home = home
        self._docker = docker
        self._ports_out = ports_out

    @classmethod
    def fetch(cls) -> Path:
        """Return where kind and its like are; its node image is built, too, if need be.

        Raises:
            Missing: this machine cannot have them.
            BuildFailed: fetching or building failed.
        """
        KindNode.fetch()
        return KindPrograms.fetch()

    def create(self) -> None:
        """Make the cluster and wait until its node is Ready.

        Raises:
            CommandFailed: it did not become Ready.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        self._docker.import_root(KindNode.fetch() / "node.tar", f"{NODE_IMAGE}:{VERSION}", [_ENTRYPOINT, _ENV])
        mappings = [
            {"containerPort": inside, "hostPort": outside, "listenAddress": "127.0.0.1"}
            for outside, inside in self._ports_out.items()
        ]
        config = self._home / "kind.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "kind": "Cluster",
                    "apiVersion": "kind.x-k8s.io/v1alpha4",
                    "networking": {"disableDefaultCNI": True},  # the node has CNI's bridge
                    "nodes": [{"role": "control-plane", "extraPortMappings": mappings}],
                    "kubeadmConfigPatches": [f"kind: ClusterConfiguration\nimageRepository: {REPOSITORY}\n"],
                }
            )
        )
        self(
            *("create", "cluster", f"--config={config}", f"--image={NODE_IMAGE}:{VERSION}"),
            *(f"--wait={_READY_WITHIN_S}s", f"--kubeconfig={self.kubeconfig}"),
        )

    def load(self, *images: str) -> None:
        """Take images of the daemon over into the node."""
        self("load", "docker-image", *images)

    def tag(self, image: str, name: str) -> None:
        """Give an image that is in the node another name there, as if it had been loaded under that."""
        of_node = ("exec", f"{self.name}-control-plane", "ctr", "--namespace=k8s.io", "images", "tag", "--force")
        self._docker(*of_node, _whole(image), _whole(name))

    def delete(self) -> None:
        """End the cluster."""
        self("delete", "cluster", f"--kubeconfig={self.kubeconfig}")

    def save_logs(self, folder: Path) -> None:
        """Keep the logs of the node and of every pod."""
        try:
            self("export", "logs", folder)
        except CommandFailed as error:
            if "crictl" not in str(error):  # which the node does without; all else is there then
                say(f"kind: no logs: {error}")

    def kubectl_words(self) -> list[str]:
        """How a command line begins that runs kubectl with all rights."""
        return [str(Kubernetes.fetch() / "kubectl"), f"--kubeconfig={self.kubeconfig}"]

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run kubectl with all rights and return what it printed.

        Raises:
            CommandFailed: it exited with an error, which the message holds.
        """
        env = {"KUBECACHEDIR": str(self._home / "kubectl-cache")}
        try:
            return run([*self.kubectl_words(), *args], env=env, stdin=input)
        except subprocess.CalledProcessError as error:
            raise CommandFailed(f"kubectl {' '.join(args)}: {error.stderr.strip()}") from error

    def __call__(self, *args: str | Path) -> str:
        """Run kind on this cluster and return what it printed.

        Raises:
            CommandFailed: it exited with an error, which the message holds.
        """
        path = f"{Path('/usr/bin')}:/usr/sbin:/bin:/sbin"
        try:
            return run(
                [KindPrograms.fetch() / "kind", *args, f"--name={self.name}"],
                env={**self._docker.environment, "PATH": path},
            )
        except subprocess.CalledProcessError as error:
            raise CommandFailed(f"kind {' '.join(map(str, args))}: {error.stderr.strip()}") from error


def _whole(image: str) -> str:
    """The name by which a container runtime knows what Docker calls so: with its registry, Docker's own if it has none."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def main() -> None:
    """Fetch what a cluster and the images on it need, while there is a network."""
    Docker.fetch()
    Kind.fetch()
    ImageBases.fetch()


if __name__ == "__main__":
    main()
