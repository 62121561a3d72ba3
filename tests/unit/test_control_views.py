"""What story, sentences, tree and event lines show of pauses, breaks, moved deadlines and forks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.progress import Progress
from engine.core.run.story import Story
from engine.core.run.story_parts import StepState
from engine.core.run.story_views import step_row, story_view
from engine.core.run.story_words import entries
from engine.core.values import compact_json
from engine.dryrun.effects import SeenEvent
from engine.edge.cli.eventtext import EventLines
from engine.edge.cli.titles import Titles
from engine.edge.cli.tree import RunTree
from tests.support.forks import fork_at
from tests.support.stepping import ID, Stepper

TASK = """
name: t
main:
  - tool: lookup
    arguments: {name: a}
  - wait_for_input: {info: "?", deadline: 1h}
    label: ask
  - evaluate: $ 7
"""
OTHER = "00000000-0000-4000-8000-0000000000ff"
KEYS = {"pause": "p", "continue": "c", "deadline": "d"}


def records_of(stepper: Stepper) -> list[EventRecord]:
    events = stepper.effects.events
    return [EventRecord("e", "r", item.seq, item.now_us, item.type, compact_json(item.body)) for item in events]


def shown(event: SeenEvent) -> dict[str, Any]:
    at = dt.datetime.fromtimestamp(event.now_us / 1e6, dt.UTC)
    return {"seq": event.seq, "type": event.type, "at": at.isoformat(), "body": event.body}


def tree_of(stepper: Stepper) -> RunTree:
    tree = RunTree()
    for event in stepper.effects.events:
        tree.apply(shown(event))
    return tree


def waiting() -> Stepper:
    stepper = Stepper(TASK, breaks=("ask",))
    stepper.go()
    return stepper


def told(stepper: Stepper) -> Progress:
    progress = Progress()
    for record in records_of(stepper):
        progress.apply(record)
    return progress


def test_the_status_is_paused_until_it_is_continued_and_what_it_was_then() -> None:
    stepper = waiting()
    assert told(stepper).status is ExecutionStatus.PAUSED
    stepper.control("continue")
    assert told(stepper).status is ExecutionStatus.AWAITING_INPUT
    stepper.control("pause", key="p")
    assert told(stepper).status is ExecutionStatus.PAUSED
    stepper.control("continue")
    assert stepper.control("pause", key="p").body["repeated"] is True
    assert told(stepper).status is ExecutionStatus.AWAITING_INPUT
    stepper.control("pause")
    stepper.cancel()
    assert told(stepper).status is ExecutionStatus.RUNNING
    assert told(stepper).ended


def test_a_moved_deadline_is_that_of_the_wait() -> None:
    stepper = waiting()
    stepper.control("continue")
    stepper.control("deadline", wait_id="main.1", deadline_us=5_000_000, key="d")
    assert [wait.deadline_us for wait in told(stepper).open_waits] == [5_000_000]
    story = Story().extend(records_of(stepper))
    assert [wait.deadline_us for wait in story.steps["main.1"].waits] == [5_000_000]
    assert [body["deadline_us"] for body in tree_of(stepper).waits.values()] == [5_000_000]
    stepper.control("deadline", wait_id="main.1")
    stepper.control("deadline", wait_id="main.1", deadline_us=5_000_000, key="d")
    assert [wait.deadline_us for wait in told(stepper).open_waits] == [None]


def test_a_story_says_that_an_execution_stands_still_and_before_which_step() -> None:
    stepper = waiting()
    story = Story().extend(records_of(stepper))
    view = story_view(story, story.totals()[""])
    since = stepper.bodies(EventType.EXECUTION_PAUSED)
    assert since[0]["at"] == "main.1"
    assert view["paused"] == {"since": view["paused"]["since"], "actor": None, "reason": "break", "at": "main.1"}
    stepper.control("continue")
    assert Story().extend(records_of(stepper)).paused is None
    stepper.control("pause")
    stepper.cancel()
    assert Story().extend(records_of(stepper)).paused is None


def test_the_tree_shows_a_pause_and_what_was_recorded() -> None:
    stepper = waiting()
    last = tree_of(stepper).lines(0)[-1]
    assert (last.text, last.note) == ("paused", "before main.1")
    stepper.control("continue")
    stepper.control("pause", reason="deploy")
    assert tree_of(stepper).lines(0)[-1].note == "by ann, deploy"
    stepper.control("continue")
    assert "paused" not in [line.text for line in tree_of(stepper).lines(0)]
    assert tree_of(copy_of(stepper)).lines(0)[0].note == "recorded"


def copy_of(stepper: Stepper) -> Stepper:
    stepper.answer(1)
    fork = fork_at(stepper.effects.events, "main.2", ID)
    copy = Stepper(stepper.plan, execution_id=OTHER, fork=fork)
    copy.go()
    return copy


def test_recorded_steps_are_done_and_not_skipped() -> None:
    stepper = waiting()
    stepper.control("continue")
    story = Story().extend(records_of(copy_of(stepper)))
    assert {path: step.state for path, step in story.steps.items()} == dict.fromkeys(
        ("main.0", "main.1", "main.2"), StepState.DONE
    )
    totals = story.totals()
    assert [step_row(step, totals[step.path])["recorded"] for step in story.walk()] == [True, True, False]
    assert story_view(story, totals[""])["forked"]["execution_id"] == ID


def test_every_outcome_is_said_in_a_sentence() -> None:
    stepper = waiting()
    stepper.control("continue", breaks=["main.2"])
    stepper.control("pause", key="p", reason="deploy")
    stepper.control("pause")
    stepper.control("continue", breaks=[])
    stepper.control("continue")
    stepper.control("pause", key="p")
    stepper.control("breaks", breaks=["ask", "main.2"])
    stepper.control("deadline", wait_id="main.1", deadline_us=1_900_000_000_000_000)
    stepper.control("deadline", wait_id="main.1")
    stepper.control("pause")
    stepper.cancel()
    types = {"execution.paused", "execution.continued", "breaks.changed", "deadline.changed", "control.refused"}
    said = [item["what"] for item in entries(records_of(stepper)) if item["type"] in types]
    assert said == [
        "the execution pauses before step main.1",
        "ann let the execution go on, it will pause before main.2",
        "ann paused the execution: deploy",
        "ann paused the execution, which was paused already",
        "ann let the execution go on, it will pause before no step",
        "what ann wanted (continue) was refused: control.not_paused: the execution is not paused",
        "ann paused the execution: deploy (the same key came once more, nothing was done)",
        "ann changed where the execution pauses: it will pause before ask, main.2",
        "ann moved the deadline of main.1 to 2030-03-17T17:46:40Z",
        "ann took the deadline of main.1 away",
        "ann paused the execution",
        "the pause of the execution ends, since it is cancelled",
    ]
    copied = waiting()
    copied.control("continue")
    first, recorded = list(entries(records_of(copy_of(copied))))[:2]
    assert first["what"].endswith(f"was started as a retry of execution {ID} from step main.2")
    assert recorded["what"] == "tool call is taken over as it was recorded"


def test_event_lines_name_place_actor_and_what_was_wanted() -> None:
    stepper = waiting()
    stepper.control("continue", breaks=["main.2"])
    stepper.control("continue")
    stepper.control("deadline", wait_id="main.1")
    lines = EventLines(Titles({}), 200)
    shown_lines = [lines.line(shown(event)) for event in stepper.effects.events]
    by_word = {word: (path, facts) for word, path, _, facts in shown_lines}
    assert by_word["paused"] == ("main.1", "reason=break")
    assert by_word["continued"] == ("", 'actor=ann  breaks=["main.2"]')
    assert by_word["refused"] == ("", "actor=ann  error=control.not_paused: the execution is not paused")
    assert by_word["deadline"] == ("main.1", "actor=ann  deadline=none")
