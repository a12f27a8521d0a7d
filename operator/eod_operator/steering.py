"""`kubectl eod pause` and `resume`: they change a pipeline's spec, by the rights of whoever asks.

Nothing of anybody else's is overwritten: what is written names the version that was read, and is made anew if somebody
was quicker.
"""

from __future__ import annotations

from typing import Any

from eod_operator.api import KIND
from eod_operator.kube.api import MERGE, Api, ClusterError, Manifest
from eod_operator.lookup import PIPELINES, Access, LookupFailedError, look_up, refused

_ATTEMPTS = 5


async def steer(access: Access, namespace: str, name: str, *, stage: str | None, paused: bool) -> tuple[bool, str]:
    """Pauses a pipeline or one of its stages, or lets it go on; whether it was not so before, and what it is like now.

    Raises:
        LookupFailedError: there is no such pipeline or stage, or we may not.
    """
    api = Api(access.configuration, user_agent="kubectl-eod", granted=False)
    try:
        for _ in range(_ATTEMPTS):
            found = (await look_up(api, namespace, name)).pipeline
            change, told = _change(found, stage, paused=paused)
            if change is None:
                return False, told
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            try:
                body = {"metadata": version, "spec": change}
                await api.call("patch", KIND, namespace, name, body=body, content_type=MERGE)
            except ClusterError as error:
                if error.conflict:
                    continue
                raise LookupFailedError(refused(error, "patch", PIPELINES, namespace)) from error
            return True, told
    finally:
        await api.close()
    raise LookupFailedError(f"somebody else changes {name} all the time: nothing was changed; try again")


def _change(pipeline: Manifest, stage: str | None, *, paused: bool) -> tuple[dict[str, Any] | None, str]:
    """What to change of a spec, None for nothing, and a sentence that says what it is like then."""
    name, spec = pipeline["metadata"]["name"], pipeline["spec"]
    if stage is None:
        before = spec.get("mode", "Auto")
        mode = "Paused" if paused else "Auto"
        told = (
            f"{name} is paused: every object stays as it is until 'kubectl eod resume {name}'"
            if paused
            else f"{name} goes on: the operator sizes its stages"
        )
        if before == mode:
            return None, f"{told} (as it was)"
        return {"mode": mode}, f"{told}; its mode was {before}"
    stages = spec["stages"]
    if stage not in {one["name"] for one in stages}:
        raise LookupFailedError(f"{name} has no stage {stage!r}: it has {', '.join(one['name'] for one in stages)}")
    told = (
        f"stage {stage} of {name} is paused: its count stays as it is until 'kubectl eod resume {name} --stage {stage}'"
        if paused
        else f"stage {stage} of {name} goes on: the operator sizes it"
    )
    if not paused and spec.get("mode", "Auto") != "Auto":
        told += f", once the pipeline itself does: its mode is {spec['mode']}"
    if all(one.get("paused", False) == paused for one in stages if one["name"] == stage):
        return None, f"{told} (as it was)"
    return {"stages": [{**one, "paused": paused} if one["name"] == stage else one for one in stages]}, told
