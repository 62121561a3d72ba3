"""Shows schedules as JSON, with what Temporal says of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.client import ScheduleDescription

from engine.control.scheduling import read_body
from engine.core.run.projection import iso_time
from engine.store.schedules import RunFacts, ScheduleFacts

SHOWN_TIMES = 10


@dataclass(frozen=True, slots=True)
class ScheduleSight:
    """A schedule as it is shown.

    Attributes:
        facts: What it shall be.
        description: What Temporal says of it; None = it does not answer, or does not have it yet.
        runs: Its last runs, the latest first.
    """

    facts: ScheduleFacts
    description: ScheduleDescription | None = None
    runs: Sequence[RunFacts] = ()


def schedule_view(sight: ScheduleSight, *, whole: bool = True) -> dict[str, Any]:
    """Return a schedule as JSON.

    Args:
        sight: The schedule.
        whole: Whether its last runs are shown too.
    """
    facts, told = sight.facts, sight.description
    info = None if told is None else told.info
    state = None if told is None else told.schedule.state
    body = read_body(facts.body).model_dump(mode="json")
    view: dict[str, Any] = {
        "id": facts.id,
        "name": facts.name,
        "task": facts.task,
        "of_task": facts.origin_id or None,
        **body,
        # Temporal pauses one by itself, too, after a failure
        "paused": facts.paused if state is None else state.paused,
        "note": facts.note if state is None or not state.note else state.note,
        "problem": facts.problem or None,
        "applied": facts.applied_rev == facts.rev,
        "next_at": [] if info is None else [_moment(item) for item in info.next_action_times[:SHOWN_TIMES]],
        "starts": None if info is None else info.num_actions,
        "missed": None if info is None else info.num_actions_missed_catchup_window,
        "skipped": None if info is None else info.num_actions_skipped_overlap,
        "running": None if info is None else len(info.running_actions),
        "left": state.remaining_actions if state is not None and state.limited_actions else None,
        "created_at": iso_time(facts.created_us),
        "updated_at": iso_time(facts.updated_us),
        "actor": facts.actor,
    }
    if whole:
        view["runs"] = [run_view(run) for run in sight.runs]
    return view


def run_view(run: RunFacts) -> dict[str, Any]:
    """Return a run of a schedule as JSON."""
    return {
        "for": iso_time(run.nominal_us),
        "at": iso_time(run.at_us),
        "outcome": run.outcome or "under_way",
        "execution_id": run.execution_id or None,
        "error": run.error,
    }


def _moment(moment: dt.datetime) -> str:
    return iso_time(int(moment.timestamp() * 1e6))
