"""The pure parts of the API proxy: what a request asks for, what befalls it, and what is remembered of it."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest
from support import api_requests
from support.api_faults import GONE_WITHIN_S, UNHARMED, Fate, Faults, draw, error_event, refusal
from support.api_requests import BODY_BYTES, WRITES, Record, Request, request_of

APPS = "/apis/apps/v1/namespaces/desk/deployments"
EODP = "/apis/eod.markets/v1alpha1"
# method, target → verb, group, resource, namespace, name, subresource
TABLE: list[tuple[str, str, tuple[str, str, str, str | None, str, str]]] = [
    ("GET", "/api/v1/namespaces/desk/configmaps", ("list", "", "configmaps", "desk", "", "")),
    ("GET", "/api/v1/configmaps?limit=500", ("list", "", "configmaps", None, "", "")),
    ("GET", "/api/v1/namespaces/desk/configmaps/a", ("get", "", "configmaps", "desk", "a", "")),
    ("HEAD", "/api/v1/namespaces/desk/configmaps/a", ("get", "", "configmaps", "desk", "a", "")),
    ("POST", "/api/v1/namespaces/desk/configmaps", ("create", "", "configmaps", "desk", "", "")),
    ("PUT", f"{APPS}/close-pnl", ("update", "apps", "deployments", "desk", "close-pnl", "")),
    ("PATCH", f"{APPS}/close-pnl?fieldManager=eod", ("patch", "apps", "deployments", "desk", "close-pnl", "")),
    ("DELETE", f"{APPS}/close-pnl", ("delete", "apps", "deployments", "desk", "close-pnl", "")),
    ("DELETE", f"{APPS}?labelSelector=a%3Db", ("deletecollection", "apps", "deployments", "desk", "", "")),
    ("PUT", f"{APPS}/close-pnl/scale", ("update", "apps", "deployments", "desk", "close-pnl", "scale")),
    ("PATCH", f"{EODP}/namespaces/desk/eodpipelines/close/status", ("patch", "eod.markets", "eodpipelines", "desk", "close", "status")),
    ("GET", f"{EODP}/eodpipelines?watch=true&resourceVersion=7", ("watch", "eod.markets", "eodpipelines", None, "", "")),
    ("GET", f"{EODP}/eodpipelines?watch=1", ("watch", "eod.markets", "eodpipelines", None, "", "")),
    ("GET", f"{EODP}/eodpipelines?watch=True", ("watch", "eod.markets", "eodpipelines", None, "", "")),
    ("GET", f"{EODP}/eodpipelines?watch", ("watch", "eod.markets", "eodpipelines", None, "", "")),
    ("GET", f"{EODP}/eodpipelines?watch=0", ("list", "eod.markets", "eodpipelines", None, "", "")),
    ("GET", f"{EODP}/eodpipelines?watch=False", ("list", "eod.markets", "eodpipelines", None, "", "")),
    ("GET", f"{EODP}/namespaces/desk/eodpipelines/close?watch=1", ("get", "eod.markets", "eodpipelines", "desk", "close", "")),
    ("GET", "/api/v1/namespaces", ("list", "", "namespaces", None, "", "")),
    ("GET", "/api/v1/namespaces/desk", ("get", "", "namespaces", None, "desk", "")),
    ("PUT", "/api/v1/namespaces/desk/finalize", ("update", "", "namespaces", None, "desk", "finalize")),
    ("PATCH", "/api/v1/namespaces/desk/status", ("patch", "", "namespaces", None, "desk", "status")),
    ("GET", "/api/v1/nodes/n1/proxy/metrics/cadvisor", ("get", "", "nodes", None, "n1", "proxy")),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode", ("get", "rbac.authorization.k8s.io", "clusterroles", None, "system:node", "")),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ("create", "authorization.k8s.io", "selfsubjectaccessreviews", None, "", "")),
    ("GET", "/api", ("get", "", "", None, "", "")),
    ("GET", "/api/v1", ("get", "", "", None, "", "")),
    ("GET", "/apis", ("get", "", "", None, "", "")),
    ("GET", "/apis/apps", ("get", "", "", None, "", "")),
    ("GET", "/apis/apps/v1?timeout=32s", ("get", "", "", None, "", "")),
    ("GET", "/version", ("get", "", "", None, "", "")),
    ("GET", "/readyz?verbose", ("get", "", "", None, "", "")),
    ("GET", "/", ("get", "", "", None, "", "")),
]  # fmt: skip
CONFIGMAPS = "/api/v1/namespaces/desk/configmaps"


def asked(method: str, target: str, **more: Any) -> Request:
    return request_of(method, target, **{"at_s": 0.0, **more})


WATCH = asked("GET", f"{CONFIGMAPS}?watch=1")
PATCH = asked("PATCH", f"{APPS}/close-pnl")
GET = asked("GET", f"{CONFIGMAPS}/a")


def fates(faults: Faults, request: Request, *, seed: int = 7, turns: int = 4_000) -> list[Fate]:
    random = Random(seed)
    return [draw(random, faults, request) for _ in range(turns)]


def shares(faults: Faults, request: Request) -> dict[tuple[str, bool], float]:
    """Share of each fault, early and late, to two digits."""
    drawn = fates(faults, request)
    return {key: round(count / len(drawn), 1) for key, count in Counter((one.fault, one.late) for one in drawn).items()}


@pytest.mark.parametrize(("method", "target", "expected"), TABLE, ids=[f"{row[0]} {row[1]}" for row in TABLE])
def test_what_a_request_asks_for(
    method: str, target: str, expected: tuple[str, str, str, str | None, str, str]
) -> None:
    got = asked(method, target)
    assert expected == (got.verb, got.group, got.resource, got.namespace, got.name, got.subresource)
    assert target.partition("?")[::2] == (got.path, got.query)


def test_bodies_are_those_of_writes_and_no_longer_than_said() -> None:
    assert asked("POST", CONFIGMAPS, body=b"x" * (BODY_BYTES + 1)).body == b"x" * BODY_BYTES
    assert asked("GET", CONFIGMAPS, body=b"x").body == b""


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (CONFIGMAPS, False),
        (f"{CONFIGMAPS}?resourceVersion=", False),
        (f"{CONFIGMAPS}?resourceVersion=0", False),
        (f"{CONFIGMAPS}?resourceVersion=7", True),
        (f"{CONFIGMAPS}?limit=5&continue=abc", True),
        (f"{CONFIGMAPS}?watch=1", True),
        (f"{CONFIGMAPS}/a?resourceVersion=7", False),
    ],
)
def test_what_may_expire(target: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert expected == asked("GET", target).expirable


def test_each_fault_has_the_share_that_was_asked_for_and_half_of_the_nasty_ones_are_late() -> None:
    faults = Faults(conflict=0.2, gone=0.2, throttled=0.1, broken=0.4, timeout=0.2, silent_watch=0.1)
    assert shares(faults, PATCH) == {
        ("conflict", False): 0.2,
        ("throttled", False): 0.1,
        ("broken", False): 0.2,
        ("broken", True): 0.2,
        ("timeout", False): 0.1,
        ("timeout", True): 0.1,
        ("", False): 0.1,
    }
    assert shares(faults, WATCH) == {
        ("gone", False): 0.1,
        ("gone", True): 0.1,
        ("silent_watch", False): 0.1,
        ("throttled", False): 0.1,
        ("broken", False): 0.4,  # a watch has no work that could be done
        ("timeout", False): 0.2,
    }
    assert {one.fault for one in fates(faults, GET)} == {"throttled", "broken", "timeout", ""}


def test_no_faults_befall_nobody() -> None:
    assert set(fates(Faults(), WATCH, turns=50)) == {UNHARMED}


def test_a_seed_gives_the_same_fates_whatever_was_asked_before() -> None:
    """Each request takes as many random numbers as any other, so one more fault does not change the later requests."""
    faults = Faults(broken=0.5, latency_s=(0.0, 1.0))
    one, other, quiet = Random(3), Random(3), Random(3)
    for _ in range(20):
        draw(one, faults, PATCH)
        draw(other, faults, WATCH)
        draw(quiet, Faults(), GET)
    assert draw(one, faults, PATCH) == draw(other, faults, PATCH) == draw(quiet, faults, PATCH)
    assert fates(faults, PATCH, seed=3) != fates(faults, PATCH, seed=4)


def test_latency_is_between_its_ends_and_a_watch_expires_in_time() -> None:
    drawn = fates(Faults(gone=1.0, latency_s=(0.2, 0.4)), WATCH)
    assert 0.2 <= min(one.delay_s for one in drawn) < 0.21
    assert 0.39 < max(one.delay_s for one in drawn) <= 0.4
    assert 0 <= min(one.late_s for one in drawn) < max(one.late_s for one in drawn) <= GONE_WITHIN_S


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"broken": 1.1}, "broken is 1.1: a probability"),
        ({"dropped_watch": -0.1}, "dropped_watch is -0.1: a probability"),
        ({"conflict": 0.6, "timeout": 0.5}, r"conflict \+ throttled \+ broken \+ timeout of a write is 1.1"),
        ({"gone": 0.6, "silent_watch": 0.5}, r"gone \+ silent_watch .* of a watch is 1.1"),
        ({"latency_s": (2.0, 1.0)}, "latency_s"),
    ],
)
def test_impossible_faults_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Faults(**wrong)


def test_faults_that_never_compete_may_both_be_certain() -> None:
    assert Faults(conflict=1.0, gone=1.0).conflict == 1.0


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("conflict", 409, "Conflict"),
        ("gone", 410, "Expired"),
        ("throttled", 429, "TooManyRequests"),
        ("broken", 500, "InternalError"),
    ],
)
def test_refusals_are_status_objects(fault: str, code: int, reason: str) -> None:
    answer = refusal(fault, PATCH)
    status = json.loads(answer.body)
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert (answer.code, status["code"], status["reason"]) == (code, code, reason)
    assert status["details"]["name"] == "close-pnl"
    assert answer.headers.get("Retry-After") == ("1" if fault == "throttled" else None)


def test_a_conflict_names_the_object_as_a_server_does() -> None:
    assert '"message": "Operation cannot be fulfilled on deployments.apps \\"close-pnl\\"' in (
        refusal("conflict", PATCH).body.decode()
    )


def test_the_error_event_is_one_line_with_the_status_that_a_client_looks_for() -> None:
    line = error_event(WATCH)
    assert line.count(b"\n") == 1
    event = json.loads(line)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_the_record_is_settled_selected_and_cleared() -> None:
    record = Record()
    first = record.add(asked("PATCH", f"{APPS}/a", at_s=1.0, agent="eod-operator/1"))
    record.add(asked("GET", f"{APPS}/b", at_s=2.0, agent="kubectl/1"))
    record.add(asked("DELETE", f"{APPS}/c", at_s=3.0, agent="kubectl/1"))
    record.settle(first, status=200, forwarded=True)

    def names(since_s: float = 0.0, agent: str = "", verbs: frozenset[str] = frozenset()) -> list[str]:
        return [one.name for one in record.select(since_s=since_s, agent=agent, verbs=verbs)]

    assert names() == ["a", "b", "c"]
    assert names(since_s=2.0) == ["b", "c"]
    assert names(agent="eod-operator") == ["a"]
    assert names(verbs=WRITES) == ["a", "c"]
    (settled,) = record.select(since_s=0.0, agent="eod", verbs=())
    assert (settled.status, settled.forwarded) == (200, True)
    record.clear()
    record.settle(first, status=500)
    assert names() == []


def test_the_record_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number, and by what their bodies weigh."""
    monkeypatch.setattr(api_requests, "RECORDED", 3)
    monkeypatch.setattr(api_requests, "_BODIES_BYTES", 10)
    record = Record()
    for name in "abcde":
        record.add(asked("PATCH", f"{APPS}/{name}", body=b"1234"))
    assert [one.name for one in record.select(since_s=0.0, agent="", verbs=())] == ["d", "e"]
    for name in "fghi":
        record.add(asked("GET", f"{APPS}/{name}"))
    assert [one.name for one in record.select(since_s=0.0, agent="", verbs=())] == ["g", "h", "i"]
