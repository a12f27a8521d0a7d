"""Why the replicas of a stage do not become ready: what `kubectl describe` would show of their pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eod_operator.conditions import Problem
from eod_operator.kube.api import Manifest

_REMEDIES = {
    "ErrImagePull": "ImageNotPulled",
    "ImagePullBackOff": "ImageNotPulled",
    "InvalidImageName": "ImageNotPulled",
    "ErrImageNeverPull": "ImageNotPulled",
    "CreateContainerConfigError": "ConfigMissing",
    "CrashLoopBackOff": "Crashing",
    "RunContainerError": "Crashing",
    "CreateContainerError": "Crashing",
}
_ADVICE = {
    "ImageNotPulled": "correct spec.image, push the image, or give the nodes the right to pull it",
    "ConfigMissing": "create what is missing, or correct spec.config",
    "Crashing": "read the log: kubectl logs --previous",
    "Unschedulable": "free or add room on the nodes, lower the stage's resources, or correct spec.scheduling",
}


def diagnose(stage: str, pods: Iterable[Manifest]) -> Problem | None:
    """The first trouble that the pods of a stage tell of; None when they tell of none."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        for reason, message in _troubles(status):
            return Problem(reason, f"stage {stage}, pod {name}: {message[:500]}. To mend it, {_ADVICE[reason]}")
    return None


def _troubles(status: Manifest) -> Iterator[tuple[str, str]]:
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        word = waiting.get("reason", "")
        if word in _REMEDIES:
            yield _REMEDIES[word], f"{word}: {waiting.get('message', 'no message')}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield "Unschedulable", str(condition.get("message", ""))
