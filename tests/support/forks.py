"""A plain reference of how a fork is built from events: everything that ended before a step began, topmost only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.core.contracts.execution import Fork, Recorded, RecordedTurn
from engine.core.kinds import EventType
from engine.core.plan.paths import plain_path
from engine.dryrun.effects import SeenEvent

_ENDS = (EventType.STEP, EventType.FINISH_BRANCH, EventType.FINISH)
_FAN = re.compile(r"(?:^|\.)(?:map|\d+)\[\d+\]")
_NO_POINT = re.compile(r"\.(on_error|undo)(\.|$)|^finally")


def is_inside(path: str, step: str) -> bool:
    """Return whether a path lies inside a step."""
    return path.startswith(step) and path[len(step) : len(step) + 1] in (".", "[")


def ends_of(events: Sequence[SeenEvent]) -> list[SeenEvent]:
    """Return the events that tell the end of a step."""
    return [event for event in events if event.type in _ENDS and event.body.get("path")]


def can_be_point(path: str) -> bool:
    """Return whether a fork may begin at a step."""
    return _NO_POINT.search(path) is None


def began_at(events: Sequence[SeenEvent], path: str) -> int:
    """Return the number of the event with which a step began: the end of the one before, or the begin of its block."""
    block, _, index = path.rpartition(".")
    if index == "0":
        return max(
            event.seq
            for event in events
            if (event.type == EventType.INIT_BRANCH and event.body["path"] == block)
            or (event.type == EventType.INIT and block == "main")
        )
    return max(event.seq for event in ends_of(events) if event.body["path"] == f"{block}.{int(index) - 1}")


def fork_at(events: Sequence[SeenEvent], path: str, execution_id: str, **members: Any) -> Fork:
    """Build the fork of an execution that begins at the last visit of a step.

    Args:
        events: All events of the execution.
        path: Path of the step, with marks if it has any.
        execution_id: The execution.
        **members: Members of the fork in place of the usual ones.
    """
    begin = began_at(events, path)
    seen = [event for event in events if event.seq <= begin]
    entries = _entries(seen)
    recorded = {
        place: entry
        for place, entry in entries.items()
        if can_be_point(place) and not any(is_inside(place, other) for other in entries)
    }
    turns = _turns(seen, plain_path(path))
    gone = [turn for turn, found in turns.items() if found.stopped]
    recorded = {place: entry for place, entry in recorded.items() if not any(is_inside(place, turn) for turn in gone)}
    usual = {
        "kind": "retry",
        "execution_id": execution_id,
        "path": plain_path(path),
        "seed": execution_id,
        "keys": execution_id,
        "began_us": seen[0].now_us,
        "recorded": recorded,
        "turns": turns,
    }
    return Fork(**{**usual, **members})


def _turns(seen: Sequence[SeenEvent], point: str) -> dict[str, RecordedTurn]:
    """Return the turns that had begun, and of those that were stopped what of them stayed."""
    turns: dict[str, RecordedTurn] = {}
    for number, event in enumerate(seen):
        body = event.body
        path = plain_path(str(body.get("path") or ""))
        if event.type == EventType.INIT_BRANCH and str(body["construct"]).startswith("listen["):
            turns[path] = RecordedTurn(input=body["input"], messages=body["messages"])
        elif event.type == EventType.BRANCH_FAILED and body.get("taken") in ("interrupt", "rollback"):
            if is_inside(point, path):
                continue
            state: dict[str, Any] = dict(body.get("state") or {})
            labels: dict[str, Any] = dict(body.get("labels") or {})
            if body["taken"] == "interrupt" and not body.get("recorded"):
                for place, entry in _entries(seen[:number]).items():
                    if is_inside(place, path):
                        state |= entry.state
                        labels |= entry.labels
                labels |= _own_labels(seen[:number], path)
            began = turns[path]
            turns[path] = RecordedTurn(
                input=began.input,
                messages=began.messages,
                stopped=body["taken"],
                at_us=body.get("at_us", event.now_us),
                state=state,
                labels=labels,
            )
    return turns


def _own_labels(seen: Sequence[SeenEvent], turn: str) -> dict[str, Any]:
    """Return the labelled steps that stand in a turn itself."""
    found: dict[str, Any] = {}
    given: Any = None
    for event in seen:
        body, place = event.body, plain_path(str(event.body.get("path") or ""))
        if event.type == EventType.INIT_BRANCH and place == turn:
            given = body["input"]
        elif event.type in _ENDS and place.rpartition(".")[0] == turn:
            if body.get("label"):
                found[body["label"]] = {"input": given, "output": body["output"]}
            given = body["output"]
    return found


def _entries(seen: Sequence[SeenEvent]) -> dict[str, Recorded]:
    entries: dict[str, Recorded] = {}
    inputs: dict[str, Any] = {}
    # writes and labels as (plain path, scope, names and values), in order
    writes: list[tuple[str, str, dict[str, Any]]] = []
    labels: list[tuple[str, str, dict[str, Any]]] = []
    for event in seen:
        body = event.body
        if event.type == EventType.INIT:
            inputs["main.0"] = body["input"]
        elif event.type == EventType.INIT_BRANCH:
            inputs[f"{body['path']}.0"] = body["input"]
        elif event.type == EventType.ATTEMPT_FAILED and not body.get("repair"):
            step = plain_path(body["path"])
            entries = {place: entry for place, entry in entries.items() if not is_inside(place, step)}
            if body["retry_in_s"] is not None:
                writes = [item for item in writes if not is_inside(item[0], step)]
        elif event.type in _ENDS and body.get("path"):
            step = plain_path(body["path"])
            block, _, index = body["path"].rpartition(".")
            inputs[f"{block}.{int(index) + 1}"] = body["output"]
            if body.get("kind") == "set" and not body.get("recorded"):
                writes.append((step, body["scope"], body["output"]))
            if body.get("state"):
                writes.append((step, body["scope"], body["state"]))
            record = {"input": body.get("input", inputs.get(body["path"])), "output": body["output"]}
            if body.get("label"):
                labels.append((step, body["scope"], {body["label"]: record}))
            if body.get("labels"):
                labels.append((f"{step}.recorded", body["scope"], body["labels"]))
            entries[step] = Recorded(
                output=body["output"],
                at_us=body.get("at_us", event.now_us),
                state=_gathered(writes, step, body["scope"], own=True),
                labels=_gathered(labels, step, body["scope"], own=False),
            )
    return entries


def _gathered(items: list[tuple[str, str, dict[str, Any]]], step: str, scope: str, *, own: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, where, values in items:
        inside = (own and place == step) or (is_inside(place, step) and not _FAN.search(place[len(step) :].lstrip(".")))
        # the slot of a fan stands right behind its step
        if inside and where == scope and not place[len(step) :].startswith("["):
            found.update(values)
    return found
