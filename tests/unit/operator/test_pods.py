"""What is told of pods that do not serve: by the kubelet in their status, and by themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eod_operator.asking import Door
from eod_operator.pods import ASKED, diagnose

Manifest = dict[str, Any]


async def _silent(address: str, _door: Door) -> str:
    raise AssertionError(f"{address} was asked")


def _unready(number: int, **status: Any) -> Manifest:
    return {
        "metadata": {"name": f"pod-{number}"},
        "status": {
            "phase": "Running",
            "podIP": f"10.0.0.{number}",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"state": {"running": {}}}],
            **status,
        },
    }


def _crashed(last_words: str | None, *, waiting: bool = True) -> Manifest:
    terminated = {"exitCode": 2, "reason": "Error", **({} if last_words is None else {"message": last_words})}
    backing_off = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}
    container = (
        {"state": {"waiting": backing_off}, "lastState": {"terminated": terminated}}
        if waiting
        else {"state": {"terminated": terminated}}
    )
    return _unready(1, containerStatuses=[container])


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize(
    ("last_words", "told"),
    [
        (
            "eod: EOD_REDIS_URL is not set, and this stage needs it\n",
            "EOD_REDIS_URL is not set, and this stage needs it (",
        ),
        (json.dumps({"event": "stage.failed", "error": "login failed"}) + "\n\n", "login failed ("),
        (json.dumps({"event": "stage.stopped"}), "stage.stopped ("),
        ("Traceback (most recent call last):\n  ...\nValueError: no", "ValueError: no ("),
        ("first\n[1, 2]\n", "[1, 2] ("),
        ('first\n{"event": ""}\n', "first ("),
        ("", None),
        (None, None),
    ],
)
async def test_a_container_that_ended_is_quoted(last_words: str | None, told: str | None, *, waiting: bool) -> None:
    problem = await diagnose("pnl", [_crashed(last_words, waiting=waiting)], _silent, Door())
    assert problem is not None
    assert problem.reason == "Crashing"
    plain = "CrashLoopBackOff: back-off 10s restarting" if waiting else "ended with exit code 2"
    expected = f"{told}{plain})" if told else plain
    assert problem.message == f"stage pnl, pod pod-1: {expected}. To mend it, read the log: kubectl logs --previous"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            {"terminated": {"exitCode": 1, "message": "where\twhat\neod: missing: archive, bucket: none\n"}},
            "exit code 1",
        ),
        (
            {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "CrashLoopBackOff: back-off 10s",
        ),
    ],
)
async def test_a_doctor_that_found_something_missing_is_quoted(state: Manifest, told: str) -> None:
    before = {"terminated": {"exitCode": 1, "message": "eod: missing: archive, bucket: none\n"}}
    found = {"name": "doctor", "state": state, "lastState": before if "waiting" in state else {}}
    waiting = {"state": {"waiting": {"reason": "PodInitializing"}}}
    pod = _unready(1, phase="Pending", initContainerStatuses=[found], containerStatuses=[waiting])
    problem = await diagnose("pnl", [pod], _silent, Door())
    assert problem is not None
    assert problem.reason == "NotReady"
    assert problem.message.startswith("stage pnl, pod pod-1: missing: archive, bucket: none (")
    assert told in problem.message


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize(
    ("limits", "told"), [({"limits": {"memory": "30Mi"}}, "its limit, 30Mi"), ({}, "its limit, what the node has")]
)
async def test_a_container_that_the_kernel_ended_for_its_memory_is_told(
    limits: Manifest, told: str, *, waiting: bool
) -> None:
    """Its last words say nothing of it: it had none."""
    pod = _crashed(None, waiting=waiting)
    (container,) = pod["status"]["containerStatuses"]
    ended = container["lastState" if waiting else "state"]["terminated"]
    ended |= {"reason": "OOMKilled", "exitCode": 137}
    container["name"] = "stage"
    pod["spec"] = {"containers": [{"name": "stage", "resources": limits}]}
    problem = await diagnose("pnl", [pod], _silent, Door())
    assert problem is not None
    assert problem.reason == "OutOfMemory"
    assert problem.message == (
        f"stage pnl, pod pod-1: the kernel ended it, for it wanted more memory than {told}. "
        "To mend it, raise resources.limits.memory of the stage in spec.stages"
    )


async def test_memory_that_ran_out_before_is_not_told_of_an_image_that_is_missing_now() -> None:
    container = {
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    }
    problem = await diagnose("pnl", [_unready(1, containerStatuses=[container])], _silent, Door())
    assert problem is not None
    assert problem.reason == "ImageNotPulled"


async def test_an_image_of_the_doctors_that_cannot_be_pulled_is_told() -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    problem = await diagnose("pnl", [_unready(1, phase="Pending", initContainerStatuses=[waiting])], _silent, Door())
    assert problem is not None
    assert problem.reason == "ImageNotPulled"


async def test_a_container_that_ended_well_is_no_trouble() -> None:
    ended = _unready(1, phase="Succeeded", containerStatuses=[{"state": {"terminated": {"exitCode": 0}}}])
    assert await diagnose("pnl", [ended], _silent, Door()) is None


async def test_a_pod_that_runs_and_is_not_ready_is_asked() -> None:
    asked = []

    async def ask(address: str, _door: Door) -> str:
        asked.append(address)
        return {
            "10.0.0.1": "not ready",
            "10.0.0.2": "starting",
            "10.0.0.3": "loading partitions: redis:6379 refuses",
        }.get(address, "")

    problem = await diagnose("pnl", [_unready(number) for number in range(1, ASKED + 3)], ask, Door())
    assert problem is not None
    assert problem.reason == "NotReady"
    assert problem.message.startswith(
        "stage pnl, pod pod-3: not ready: loading partitions: redis:6379 refuses. To mend"
    )
    assert sorted(asked) == [f"10.0.0.{number}" for number in range(1, ASKED + 1)]


async def test_what_the_kubelet_knows_goes_before_what_pods_say() -> None:
    problem = await diagnose("pnl", [_unready(2), _crashed("eod: no")], _silent, Door())
    assert problem is not None
    assert problem.reason == "Crashing"


@pytest.mark.parametrize(
    "pod",
    [
        _unready(1, conditions=[{"type": "Ready", "status": "True"}]),
        _unready(1, conditions=[]),
        _unready(1, phase="Pending"),
        _unready(1, podIP=None),
        {**_unready(1), "metadata": {"name": "pod-1", "deletionTimestamp": "2026-11-27T18:00:00Z"}},
        {"metadata": {"name": "pod-1"}, "status": None},
        {"metadata": {"name": "pod-1"}},
    ],
    ids=["ready", "unknown", "pending", "without an address", "going", "no status", "nothing"],
)
async def test_other_pods_are_left_in_peace(pod: Manifest) -> None:
    assert await diagnose("pnl", [pod], _silent, Door()) is None


async def test_nobody_says_more_than_fits() -> None:
    async def ask(address: str, _door: Door) -> str:
        return address * 1000

    problem = await diagnose("pnl", [_unready(1)], ask, Door())
    assert problem is not None
    assert len(problem.message) < 800
