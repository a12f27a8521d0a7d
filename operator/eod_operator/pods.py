"""Why the replicas of a stage do not become ready: what `kubectl describe` shows of their pods, and what they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any

from eod_operator.asking import Ask, Door
from eod_operator.conditions import Problem
from eod_operator.kube.api import Manifest

ASKED = 3
"""Pods of a stage that are asked, at most: what ails them is most often the same."""
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
    "OutOfMemory": "raise resources.limits.memory of the stage in spec.stages",
    "Unschedulable": "free or add room on the nodes, lower the stage's resources, or correct spec.scheduling",
    "NotReady": "correct what it names: the store, its address or password in what spec.config refers to, or the "
    "network between",
}
_OUT_OF_MEMORY = "OOMKilled"
_QUOTED = 500
"""Characters of a pod's own words."""
_NO_REASON = frozenset({"", "starting", "not ready"})
"""What a stage says that is ready, has not yet tried, or wants another token than we have."""


async def diagnose(stage: str, pods: Iterable[Manifest], ask: Ask, door: Door) -> Problem | None:
    """The first trouble that the pods of a stage tell of; None when they tell of none.

    Pods that run and are not ready are asked for their reason, unless another has told a graver one.
    """
    pods = list(pods)
    for pod in pods:
        for reason, message in _troubles(pod):
            return _problem(stage, pod, reason, message)
    unready = [one for one in pods if _runs_unready(one)][:ASKED]
    told = await asyncio.gather(*(ask(one["status"]["podIP"], door) for one in unready))
    for pod, said in zip(unready, told, strict=True):
        if said not in _NO_REASON:
            return _problem(stage, pod, "NotReady", f"not ready: {said}")
    return None


def _problem(stage: str, pod: Manifest, reason: str, message: str) -> Problem:
    name = pod["metadata"]["name"]
    return Problem(reason, f"stage {stage}, pod {name}: {message[:_QUOTED]}. To mend it, {_ADVICE[reason]}")


def _runs_unready(pod: Manifest) -> bool:
    status = pod.get("status") or {}
    return (
        status.get("phase") == "Running"
        and bool(status.get("podIP"))
        and "deletionTimestamp" not in pod["metadata"]
        and any(one.get("type") == "Ready" and one.get("status") != "True" for one in status.get("conditions") or ())
    )


def _troubles(pod: Manifest) -> Iterator[tuple[str, str]]:
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    for reason, told in _of_containers(status.get("initContainerStatuses"), spec.get("initContainers")):
        yield ("NotReady" if reason == "Crashing" else reason), told  # the doctor's last words are what is missing
    yield from _of_containers(status.get("containerStatuses"), spec.get("containers"))
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield "Unschedulable", str(condition.get("message", ""))


def _of_containers(
    containers: Iterable[Manifest] | None, wanted: Iterable[Manifest] | None
) -> Iterator[tuple[str, str]]:
    limits = {one["name"]: ((one.get("resources") or {}).get("limits") or {}).get("memory") for one in wanted or ()}
    for container in containers or ():
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        word = waiting.get("reason", "")
        before = (container.get("lastState") or {}).get("terminated") or {}
        crashing = _REMEDIES.get(word) == "Crashing"
        if _OUT_OF_MEMORY in {before.get("reason") if crashing else None, ended.get("reason")}:
            limit = limits.get(container.get("name")) or "what the node has"
            yield "OutOfMemory", f"the kernel ended it, for it wanted more memory than its limit, {limit}"
        elif word in _REMEDIES:
            told = f"{word}: {waiting.get('message', 'no message')}"
            yield _REMEDIES[word], _with_last_words(told, before) if crashing else told
        elif ended.get("exitCode"):
            yield "Crashing", _with_last_words(f"ended with exit code {ended['exitCode']}", ended)


def _with_last_words(told: str, terminated: Manifest) -> str:
    lines = str(terminated.get("message") or "").splitlines()
    words = next((said for line in reversed(lines) if (said := _plain(line.strip()))), "")
    return f"{words} ({told})" if words else told


def _plain(line: str) -> str:
    """A line of a stage's log as a sentence: the error of a record, or what a command said as it ended."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return line.removeprefix("eod: ")
    if not isinstance(record, dict):
        return line
    return str(record.get("error") or record.get("event") or "")
