"""The story of an execution as JSON: rows of steps for lists, and single steps whole. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.core.kinds import StepKind
from engine.core.run.story import Story
from engine.core.run.story_parts import AttemptStory, BlockStory, StepState, StepStory, Told, WaitStory
from engine.core.run.times import iso_time
from engine.core.run.usage import UsageSums
from engine.core.values import Json

Show = Callable[[Told], Json]
"""Turns a value into what a view shows of it."""

Titles = Callable[[str], tuple[str, str]]
"""Gives kind and label of the step at a path, as the task has them; empty texts where it does not know."""

LOST_WORKER = "lost worker"


def no_titles(path: str) -> tuple[str, str]:
    """Know no step."""
    del path
    return "", ""


def show_clipped(value: Told) -> Json:
    """Return {seq, value, truncated?} with what the fold kept of a value."""
    shown: dict[str, Json] = {"seq": value.seq, "value": value.value}
    if value.cut:
        shown["truncated"] = True
    return shown


def show_whole(bodies: Mapping[int, Mapping[str, Json]]) -> Show:
    """Return a `Show` that takes values from the bodies of their events; one whose event is not there stays cut.

    Args:
        bodies: Bodies by number of the event.
    """

    def show(value: Told) -> Json:
        body = bodies.get(value.seq)
        if not value.cut or body is None:
            return show_clipped(value)
        return {"seq": value.seq, "value": body.get(value.member)}

    return show


def seqs_of(step: StepStory, most_blocks: int | None = None) -> set[int]:
    """Return the numbers of the events whose values were cut in what `step_view` shows."""
    values = [step.input, step.output]
    for attempt in step.attempts:
        values += [attempt.request, attempt.reply]
    for wait in step.waits:
        values += [wait.info, wait.schema, wait.answer]
    values += [block.input for block in step.blocks[:most_blocks]]
    return {value.seq for value in values if value is not None and value.cut}


def _time(us: int | None) -> str | None:
    return iso_time(us) if us else None


def _took(began_us: int, ended_us: int) -> float | None:
    return round((ended_us - began_us) / 1e6, 6) if began_us and ended_us else None


def _shown(value: Told | None, show: Show) -> Json:
    return None if value is None else show(value)


def step_row(
    step: StepStory, total: UsageSums, *, show: Show = show_clipped, titles: Titles = no_titles
) -> dict[str, Any]:
    """Return a step as a row of the list of steps.

    Args:
        step: The step.
        total: What it and all steps inside it used.
        show: Shows values.
        titles: Names steps of which no event has told kind and label yet.

    Returns:
        {path, depth, kind, label, name, state, began_at, ended_at, took_s, tries, rounds?, input, output, error, log,
        caught, recorded, waits_for?, retry_at?, child_ids, usage}.
    """
    kind, label = titles(step.path) if not (step.kind and step.label) else ("", "")
    row: dict[str, Any] = {
        "path": step.path,
        "depth": step.depth,
        "kind": step.kind or kind or _kind_at_work(step) or None,
        "label": step.label or label or None,
        "name": step.name or None,
        "state": step.state.value,
        "began_at": _time(step.began_us),
        "ended_at": _time(step.ended_us),
        "took_s": _took(step.began_us, step.ended_us),
        "tries": step.attempt,
        "rounds": _rounds(step),
        "input": _shown(step.input, show),
        "output": _shown(step.output, show),
        "error": step.error,
        "caught": step.caught,
        "recorded": step.recorded,
        "log": step.log,
        "waits_for": [wait.wait_id for wait in step.waits if not wait.outcome],
        "retry_at": _time(step.retry_at_us),
        "child_ids": step.child_ids,
        "usage": total.to_json(),
    }
    return row


def _kind_at_work(step: StepStory) -> str:
    """Return the kind of a step inside a turn of an agent, which no task tells: by what it runs, or calls."""
    if step.blocks:
        return StepKind.PARALLEL.value if step.blocks[0].construct.startswith("parallel[") else ""
    return StepKind.TOOL_CALL.value if step.name else ""


def _rounds(step: StepStory) -> dict[str, Json] | None:
    """Count the bodies of a loop or fan: {begun, ended, failed, of}; None for other steps."""
    # a body that is repeated, undone or runs `on_error` is not one more round
    counted = [block for block in step.blocks if block.construct.endswith("]") and "switch" not in block.construct]
    if not counted:
        return None
    latest = counted[-1].path.rpartition("[")[0]
    counted = [block for block in counted if block.path.rpartition("[")[0] == latest]
    return {
        "begun": len(counted),
        "ended": sum(block.state.is_end for block in counted),
        "failed": sum(block.state is StepState.FAILED for block in counted),
        "of": max(block.of for block in counted) or None,
    }


def step_view(
    step: StepStory,
    total: UsageSums,
    *,
    show: Show = show_clipped,
    titles: Titles = no_titles,
    most_blocks: int | None = None,
) -> dict[str, Any]:
    """Return everything about a step: its row and its attempts, waits and bodies.

    Args:
        step: The step.
        total: What it and all steps inside it used.
        show: Shows values.
        titles: Names steps of which no event has told kind and label yet.
        most_blocks: Bodies to list at most; None = all.
    """
    return {
        **step_row(step, total, show=show, titles=titles),
        "own_usage": step.usage.to_json(),
        "attempts": [attempt_view(attempt, show) for attempt in step.attempts],
        "waits": [wait_view(wait, show) for wait in step.waits],
        "blocks": [block_view(block, show) for block in step.blocks[:most_blocks]],
        "block_count": len(step.blocks),
    }


def attempt_view(attempt: AttemptStory, show: Show = show_clipped) -> dict[str, Any]:
    """Return an attempt, or one repair round of it, as JSON."""
    return {
        "attempt": attempt.attempt,
        "round": attempt.round,
        "effect_id": attempt.effect_id or None,
        "kind": attempt.kind or None,
        "name": attempt.name or None,
        "outcome": attempt.outcome,
        "started_at": _time(attempt.started_us),
        "ended_at": _time(attempt.ended_us),
        "took_s": attempt.took_s if attempt.took_s is not None else _took(attempt.started_us, attempt.ended_us),
        "request": _shown(attempt.request, show),
        "model": attempt.model or None,
        "backend": attempt.backend or None,
        "finish_reason": attempt.finish_reason or None,
        "usage": attempt.usage,
        "cost": attempt.cost,
        "reply": _shown(attempt.reply, show),
        "deliveries": attempt.deliveries,
        "cached": attempt.cached,
        "note": LOST_WORKER if attempt.deliveries > 1 else None,
        "error": attempt.error,
        "pause_s": attempt.pause_s,
        "child_id": attempt.child_id or None,
        "task_version": attempt.task_version or None,
    }


def wait_view(wait: WaitStory, show: Show = show_clipped) -> dict[str, Any]:
    """Return a wait as JSON: what was asked, until when, and who answered what and when."""
    return {
        "id": wait.wait_id,
        "opened_at": _time(wait.opened_us),
        "deadline": _time(wait.deadline_us),
        "info": _shown(wait.info, show),
        "schema": _shown(wait.schema, show),
        "outcome": wait.outcome or "open",
        "closed_at": _time(wait.closed_us),
        "took_s": _took(wait.opened_us, wait.closed_us),
        "actor": wait.actor or None,
        "key": wait.key or None,
        "event": wait.event or None,
        "answer": _shown(wait.answer, show),
        "refused": [
            {
                "seq": item.seq,
                "at": iso_time(item.at_us),
                "actor": item.actor,
                "code": item.code,
                "message": item.message,
            }
            for item in wait.refused
        ],
    }


def block_view(block: BlockStory, show: Show = show_clipped) -> dict[str, Any]:
    """Return a body that a step ran as JSON."""
    return {
        "path": block.path,
        "construct": block.construct or None,
        "state": block.state.value,
        "began_at": _time(block.began_us),
        "ended_at": _time(block.ended_us),
        "took_s": _took(block.began_us, block.ended_us),
        "input": _shown(block.input, show),
        "error": block.error,
        "taken": block.taken or None,
        "steps": len(block.steps),
    }


def _paused(paused: Mapping[str, Any]) -> dict[str, Json]:
    return {"since": _time(paused["since_us"]), **{name: paused.get(name) for name in ("actor", "reason", "at")}}


def story_view(story: Story, total: UsageSums, *, show: Show = show_clipped) -> dict[str, Any]:
    """Return what a story tells of the execution as a whole, without its steps.

    Args:
        story: The story.
        total: What all its steps used.
        show: Shows values.
    """
    init = story.init
    return {
        "task": init.get("task"),
        "version": init.get("version"),
        "actor": init.get("actor") or None,
        "labels": init.get("labels") or [],
        "began_at": _time(story.began_us),
        "ended_at": _time(story.ended_us),
        "took_s": _took(story.began_us, story.ended_us),
        "state": story.state.value,
        "paused": None if story.paused is None else _paused(story.paused),
        "forked": init.get("forked"),
        "input": _shown(story.input, show),
        "output": _shown(story.output, show),
        "error": story.error,
        "steps": len(story.steps),
        "last_seq": story.last_seq,
        "gaps": [{"first": first, "last": last} for first, last in story.gaps],
        "usage": total.to_json(),
    }
