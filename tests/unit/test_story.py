"""The story of an execution: what the fold of its events says of steps, attempts, waits, children and cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.core.run.effects import Call, CallOutcome, Ok
from engine.core.run.events import EventRecord
from engine.core.run.story import Story
from engine.core.run.story_parts import StepState, StepStory, clipped
from engine.core.run.story_views import LOST_WORKER, attempt_view, seqs_of, show_whole, step_row, step_view, story_view
from engine.core.run.story_words import entries
from engine.core.run.usage import PARTS
from engine.core.values import compact_json
from engine.dryrun.effects import START_US, Answer, Answered
from engine.dryrun.replies import chat_reply, failed
from engine.dryrun.running import DryRun
from engine.testing.suite import run_file
from tests.support.example_server import EXAMPLES, case_files
from tests.support.memory import run
from tests.support.program_runs import in_memory
from tests.support.programs import make_program

ENDED = frozenset({StepState.DONE, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED})


def records_of(events: Iterable[Any]) -> list[EventRecord]:
    return [EventRecord("e", "r", item.seq, item.now_us, item.type, compact_json(item.body)) for item in events]


def story_of(ran: DryRun) -> Story:
    return Story().extend(records_of(ran.events))


def views_of(story: Story) -> Any:
    """Return everything that a story tells, as JSON text."""
    totals = story.totals()
    steps = [step_view(step, totals[step.path]) for step in story.walk()]
    rows = [step_row(step, totals[step.path]) for step in story.walk()]
    return json.dumps([story_view(story, totals[""]), steps, rows])


def priced(text: str, cost: str | None = "0.0021", tokens: int = 10) -> dict[str, Any]:
    return {**chat_reply(text, model="m", tokens=tokens), "cost": cost}


def check_whole(story: Story, *, times: bool = True) -> None:
    """Check what holds of every execution that has ended and of which no event is missing."""
    walked = list(story.walk())
    assert len(walked) == len(story.steps) == len({step.path for step in walked})
    assert story.gaps == []
    for step in walked:
        assert step.state in ENDED, step.path
        assert step.open == {} == step.block.open, step.path
        assert step.input is not None, step.path
        assert step.began_us <= step.ended_us or not times
        assert (step.output is not None) == (step.state in (StepState.DONE, StepState.SKIPPED)), step.path
        assert all(block.state in ENDED and block.owner is step for block in step.blocks), step.path
        assert all(attempt.outcome in ("ok", "failed", "cancelled") for attempt in step.attempts), step.path
        assert all(wait.outcome in ("answered", "expired", "stopped") for wait in step.waits), step.path
    for step in walked:
        before = [other for other in step.block.steps if other.index == step.index - 1]
        given = before[0].output if before else step.block.input
        assert step.input is given, step.path


# --- every execution -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [range(start, start + 40) for start in range(0, 200, 40)], ids=str)
def test_every_step_of_a_random_program_ends_and_runs_on_what_the_one_before_handed_on(seeds: range) -> None:
    for seed in seeds:
        check_whole(story_of(in_memory(make_program(seed, clock=False), f"e{seed}")))


@pytest.mark.parametrize("file", case_files(), ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_the_story_of_an_example_is_whole(file: Path) -> None:
    report = run_file(file)
    told = [row.run for case in report.cases for row in case.runs if row.run is not None and row.run.trace]
    assert told
    for each in told:
        records = []
        for item in each.trace:
            seq, at_s, type_ = item.pop("seq"), item.pop("at"), item.pop("type")
            records.append(EventRecord("e", "r", seq, START_US + round(at_s * 1e6), type_, compact_json(item)))
        story = Story().extend(records)
        if each.status in ("succeeded", "failed", "cancelled"):
            # a trace tells times from the beginning of the case on, and the bodies of its events real ones
            check_whole(story, times=False)
            assert story.state.value == {"succeeded": "done"}.get(each.status, each.status)
        views_of(story)


def test_any_prefix_has_a_story_and_reading_it_changes_nothing() -> None:
    for seed in range(60):
        records = records_of(in_memory(make_program(seed, clock=False), "e").events)
        growing = Story()
        for number, record in enumerate(records, start=1):
            growing.apply(record)
            if number % 7 == seed % 7:
                assert views_of(growing) == views_of(Story().extend(records[:number]))
        assert views_of(growing) == views_of(Story().extend(records))


def test_events_that_are_missing_cost_what_they_would_have_told_and_nothing_else() -> None:
    for seed in range(80):
        records = records_of(in_memory(make_program(seed, clock=False), "e").events)
        for keep in (lambda n: n % 3, lambda n: n % 5 != 1, lambda n: n > 4):
            left = [record for record in records if keep(record.seq)]
            story = Story().extend(left)
            views_of(story)
            missing = sum(last - first + 1 for first, last in story.gaps)
            assert missing == (left[-1].seq - len(left) if left else 0)
            assert len(list(story.walk())) == len(story.steps)


def test_an_event_that_comes_again_is_known() -> None:
    records = records_of(run("name: a\nmain: [{prompt: x}, {evaluate: 1}]").events)
    twice = [record for record in records for _ in range(2)]
    assert views_of(Story().extend(twice)) == views_of(Story().extend(records))


# --- steps ---------------------------------------------------------------------------------------------------------


def at(ran: DryRun, path: str) -> StepStory:
    return story_of(ran).steps[path]


def test_a_call_that_was_tried_again_tells_each_request_its_error_and_its_pause() -> None:
    left = [Answered(failed("backend.overloaded", "full"), 0.5), Answered(Ok(priced("fine")), 2.0)]
    ran = run("name: a\nmain: [{prompt: 'say {{ _ }}', unwrap: true}]", "hi", lambda call: left.pop(0))
    story = story_of(ran)
    view = step_view(story.steps["main.0"], story.totals()["main.0"])
    first, second = view["attempts"]
    assert (first["attempt"], first["outcome"], first["error"]["code"]) == (1, "failed", "backend.overloaded")
    assert (first["pause_s"], second["pause_s"]) == (1.0, None)
    assert first["request"]["value"]["messages"] == [{"role": "user", "content": "say hi"}]
    assert (second["attempt"], second["outcome"], second["model"], second["cost"]) == (2, "ok", "m", "0.0021")
    assert second["reply"]["value"] == {"role": "assistant", "content": "fine"}
    assert (view["input"]["value"], view["output"]["value"], view["tries"]) == ("hi", "fine", 2)
    assert view["took_s"] == pytest.approx(0.5 + 1.0 + 2.0)
    assert (view["usage"]["llm_calls"], view["usage"]["cost"]) == (2, "0.0021")


def test_a_reply_that_does_not_fit_is_a_repair_round_of_the_same_attempt() -> None:
    replies = [priced("no"), priced('{"n": 1}')]
    text = "name: a\nmain: [{prompt: x, output_schema: {type: object, required: [n]}, unwrap: true}]"
    step = at(run(text, None, lambda call: Answered(Ok(replies.pop(0)))), "main.0")
    assert [(item.attempt, item.round, item.outcome) for item in step.attempts] == [(1, 0, "failed"), (1, 1, "ok")]
    assert step.attempts[0].error is not None
    assert step.attempts[0].error["code"] == "backend.bad_reply"
    assert step.attempts[0].reply is not None
    assert step.attempts[1].request is not None
    assert len(step.attempts[1].request.value["messages"]) == 3
    assert step.state is StepState.DONE


def test_a_lost_worker_is_told_by_how_often_the_call_was_handed_out() -> None:
    records = records_of(run("name: a\nmain: [{prompt: x}]").events)
    (event,) = [record for record in records if record.type == "effect.finished"]
    whole = Story().extend(records).steps["main.0"]
    view = step_view(whole, whole.usage)["attempts"][0]
    assert (view["deliveries"], view["note"]) == (1, None)
    lost = event._replace(body=compact_json({**json.loads(event.body), "deliveries": 2}))
    story = Story().extend([lost if record.seq == event.seq else record for record in records])
    view = step_view(story.steps["main.0"], story.totals()["main.0"])["attempts"][0]
    assert (view["deliveries"], view["note"]) == (2, LOST_WORKER)


def test_a_wait_tells_who_answered_what_and_when() -> None:
    ran = run("name: a\nmain: [{label: sure, approve: 'Pay?'}]", answers=[{"approved": True}])
    (wait,) = at(ran, "main.0").waits
    assert (wait.outcome, wait.actor) == ("answered", "dry-run")
    assert wait.answer is not None
    assert wait.answer.value == {"approved": True}
    assert wait.info is not None


def test_a_wait_that_nobody_answers_is_open_and_its_step_waits() -> None:
    ran = run("name: a\nmain: [{approve: 'Pay?'}, {evaluate: 1}]")
    story = story_of(ran)
    step = story.steps["main.0"]
    assert (step.state, step.waits[0].outcome, story.state) == (StepState.WAITING, "", StepState.RUNNING)
    assert step_row(step, step.usage)["waits_for"] == ["main.0"]
    assert list(story.steps) == ["main.0"]


def test_a_wait_whose_deadline_passes_goes_on_with_its_default_or_fails() -> None:
    kept = at(run("name: a\nmain: [{wait_for_input: {info: x, deadline: 1m, default: 0}}]"), "main.0")
    assert (kept.state, kept.waits[0].outcome, kept.output.value if kept.output else None) == ("done", "expired", 0)
    lost = at(run("name: a\nmain: [{wait_for_input: {info: x, deadline: 1m}}]"), "main.0")
    assert (lost.state, lost.waits[0].outcome) == ("failed", "expired")
    assert lost.error is not None
    assert lost.error["code"] == "wait.expired"


def test_a_step_names_the_executions_that_it_started() -> None:
    step = at(run("name: a\nmain: [{task: other, arguments: {n: 1}}]"), "main.0")
    (attempt,) = step.attempts
    assert step.child_ids == [attempt.child_id]
    assert (attempt.name, attempt.task_version, step.kind) == ("other", 1, "task")


def test_an_error_that_on_error_takes_is_told_at_the_step_that_is_done_all_the_same() -> None:
    text = "name: a\nmain: [{prompt: x, on_error: {evaluate: $ error.code}}]"
    step = at(run(text, None, lambda call: Answered(failed("backend.refused", "no", retryable=False))), "main.0")
    assert (step.state, step.caught) == (StepState.DONE, True)
    assert step.error is not None
    assert step.error["code"] == "backend.refused"
    assert [(block.construct, block.state) for block in step.blocks] == [("on_error", "done")]
    assert step.output is not None
    assert step.output.value == "backend.refused"


def test_what_stands_around_a_failed_step_failed_and_what_ran_beside_it_was_stopped() -> None:
    text = """
name: a
main:
  - parallel:
      - [{sleep: 1h}]
      - [{if: 'True', then: [{evaluate: 1}, {error: broken}]}]
"""
    story = story_of(run(text))
    states = {step.path: step.state.value for step in story.walk()}
    assert states == {
        "main.0": "failed",
        "main.0[0].0": "cancelled",
        "main.0[1].0": "failed",
        "main.0[1].0.then.0": "done",
        "main.0[1].0.then.1": "failed",
    }
    assert (story.state, story.error["code"] if story.error else "") == (StepState.FAILED, "task.error")


def test_a_collected_failure_ends_its_branch_and_not_the_map() -> None:
    text = "name: a\nmain: [{over: '$ [0, 1]', on_item_error: collect, map: {evaluate: $ 1 / _}}]"
    story = story_of(run(text))
    step = story.steps["main.0"]
    assert [(block.state.value, block.taken) for block in step.blocks] == [("failed", "collect"), ("done", "")]
    assert step_row(step, step.usage)["rounds"] == {"begun": 2, "ended": 2, "failed": 1, "of": 2}
    assert (step.state, story.state) == (StepState.DONE, StepState.DONE)


def test_the_undoing_of_a_step_stands_in_it_and_leaves_it_done() -> None:
    text = """
name: a
main:
  - {tool: book, arguments: {seat: b}, undo: [{tool: pay, arguments: {amount: 2}}]}
  - {error: broken}
"""
    story = story_of(run(text))
    first, undone, second = list(story.walk())
    assert (first.path, first.state, [block.construct for block in first.blocks]) == ("main.0", "done", ["undo"])
    assert (undone.path, undone.state) == ("main.0.undo.0", "done")
    assert second.state is StepState.FAILED


def test_the_steps_of_finally_come_last_and_the_failure_before_them_stays_one() -> None:
    story = story_of(run("name: a\nmain: [{if: 'True', then: {error: broken}}]\nfinally: [{log: bye}]"))
    assert [(step.path, step.state.value) for step in story.walk()] == [
        ("main.0", "failed"),
        ("main.0.then.0", "failed"),
        ("finally.0", "done"),
    ]


def test_a_cancel_stops_what_runs_and_the_story_says_by_whom_and_why() -> None:
    def cancel(wait: Any) -> Answer:
        return Answer("enough", is_cancel=True)

    story = story_of(run("name: a\nmain: [{approve: x}]", answerer=cancel))
    assert (story.state, story.error) == (StepState.CANCELLED, {"reason": "enough", "actor": "dry-run"})
    step = story.steps["main.0"]
    assert (step.state, step.waits[0].outcome) == (StepState.CANCELLED, "stopped")


def test_a_block_that_is_repeated_has_its_own_steps_for_each_attempt() -> None:
    text = "name: a\nmain: [{if: 'True', then: [{evaluate: 1}, {error: x}], retry: {attempts: 2, initial: 1s}}]"
    story = story_of(run(text))
    step = story.steps["main.0"]
    assert [block.path for block in step.blocks] == ["main.0.then", "main.0~2.then"]
    assert [(item.attempt, item.outcome, item.pause_s) for item in step.attempts] == [
        (1, "failed", 1.0),
        (2, "failed", None),
    ]
    assert step.attempts[1].started_us - step.attempts[0].ended_us == 1_000_000


@pytest.mark.parametrize("body", ["prompt: x", "tool: pay", "task: other", "approve: x", "sleep: 1h", "workflow: sub"])
@pytest.mark.parametrize("runs", [True, False])
def test_a_step_whose_condition_does_not_hold_was_skipped(body: str, runs: bool) -> None:
    arguments = ", arguments: {amount: 1}" if body == "tool: pay" else ""
    text = f"name: a\nmain: [{{{body}{arguments}, when: '{runs}'}}, {{evaluate: 1}}]\nsub: [{{evaluate: 2}}]"
    first = at(run(text, answers=[{"approved": True}]), "main.0")
    assert first.state is (StepState.DONE if runs else StepState.SKIPPED)


def test_the_loser_of_a_race_was_cancelled() -> None:
    story = story_of(run("name: a\nmain: [{race: [[{sleep: 1s}], [{sleep: 1h}]]}]"))
    assert [step.state.value for step in story.walk()] == ["done", "done", "cancelled"]


def test_a_list_that_calls_itself_a_thousand_levels_deep_is_told_level_by_level() -> None:
    text = """
name: deep
main: [{workflow: down, arguments: {n: "$ _"}}]
down: [{if: $ _.n > 0, then: {workflow: down, arguments: {n: $ _.n - 1}}, else: {evaluate: 0}}]
"""
    story = story_of(run(text, 400))
    check_whole(story)
    depths = [step.depth for step in story.walk()]
    assert depths == list(range(len(depths)))
    assert len(depths) == 2 * 400 + 3


# --- usage ---------------------------------------------------------------------------------------------------------


def test_what_inner_steps_used_counts_for_those_around_them_and_an_unknown_price_is_no_zero() -> None:
    costs = iter(["0.5", None, "0.25"])

    def reply(call: Call) -> Answered:
        return Answered(Ok(priced("a", next(costs), tokens=7)))

    story = story_of(
        run("name: a\nmain: [{over: '$ [1, 2]', parallelism: 1, map: {prompt: x}}, {prompt: y}]", None, reply)
    )
    totals = {
        path: (sums.llm_calls, sums.total_tokens, sums.to_json()["cost"]) for path, sums in story.totals().items()
    }
    assert totals == {
        "": (3, 21, "0.75"),
        "main.0": (2, 14, "0.5"),
        "main.0.map[0].0": (1, 7, "0.5"),
        "main.0.map[1].0": (1, 7, None),
        "main.1": (1, 7, "0.25"),
    }
    assert story.totals()[""].unpriced_calls == 1


def test_parts_of_tokens_stand_in_events_outputs_sums_and_words_where_they_were_told() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    parts = {"cached_tokens": 6, "reasoning_tokens": 3}
    left = [Ok({**priced("a"), "usage": usage}) for usage in (told, told | parts)]
    source = "name: a\nmain: [{prompt: x}, {evaluate: \"$ get(_.usage, 'cached_tokens', 0)\"}, {prompt: y}]"
    ran = run(source, None, lambda call: Answered(left.pop(0)))
    story = story_of(ran)
    assert [event.body["usage"] for event in ran.events if event.type == "effect.finished"] == [
        told,
        told | parts,
    ]
    outputs = [event.body["output"] for event in ran.events if event.type == "step"]
    assert (outputs[0]["usage"], outputs[1]) == (told, 0)
    sums = story.totals()[""].to_json()
    assert [sums[name] for name in PARTS] == [6, 0, 3]
    shown = [attempt_view(story.steps[path].attempts[0])["usage"] for path in ("main.0", "main.2")]
    assert shown == [told, told | parts]
    assert [item["what"] for item in entries(records_of(ran.events))][-2].endswith(
        "(13 tokens, 6 cached, 3 reasoning, $0.0021)"
    )


def test_who_was_passed_over_is_told_by_both_names_where_a_backend_has_several_models() -> None:
    over = [{"backend": "b", "model": "x", "why": "reads no images"}, {"model": "lost", "why": "no backend has it"}]
    one = {"policy": "order", "passed_over": over, "tried": [{"backend": "c", "code": "backend.overloaded"}]}
    many = {"policy": "order", "passed_over": [{"backend": "b", "model": f"m{n}", "why": "is down"} for n in range(10)]}
    left = [Ok({**priced("a"), "route": route}) for route in (one, many)]
    ran = run("name: a\nmain: [{prompt: x}, {prompt: y}]", None, lambda call: Answered(left.pop(0)))
    first, second = [item["what"] for item in entries(records_of(ran.events)) if item["type"] == "effect.finished"]
    assert "after c (backend.overloaded) failed, passing over b (reads no images), lost (no backend has it)," in first
    assert "passing over b/m0 (is down), b/m1 (is down)," in second
    assert "b/m7 (is down) and 2 more," in second


# --- values --------------------------------------------------------------------------------------------------------


def test_long_values_are_cut_but_keep_their_shape_and_are_found_again() -> None:
    ran = run("name: a\nmain: [{evaluate: {text: \"$ 'x' * 5000\", n: 1}}, {evaluate: 2}]")
    records = records_of(ran.events)
    story = Story(100).extend(records)
    step = story.steps["main.0"]
    assert step.output is not None
    assert step.output.cut
    assert len(compact_json(step.output.value)) < 200
    bodies = {record.seq: json.loads(record.body) for record in records if record.seq in seqs_of(step)}
    assert step_row(step, step.usage, show=show_whole(bodies))["output"]["value"] == {"text": "x" * 5000, "n": 1}
    assert step_row(step, step.usage)["output"]["truncated"] is True


@pytest.mark.parametrize(
    ("value", "budget", "cut"),
    [
        ("abc", 3, False),
        ("abcd", 3, True),
        ([1] * 50, 10, True),
        ({"a": "b" * 9}, 5, True),
        (None, 0, False),
        (12345, 1, False),
    ],
)
def test_a_value_is_cut_when_it_is_longer_than_its_budget(value: Any, budget: int, cut: bool) -> None:
    short, was_cut = clipped(value, budget)
    assert was_cut is cut
    assert type(short) is type(value)
    assert (short == value) is not cut


# --- words ---------------------------------------------------------------------------------------------------------


def test_each_event_is_told_in_a_sentence_and_missing_ones_are_owned_up_to() -> None:
    left: list[CallOutcome] = [failed("backend.overloaded", "full"), Ok(priced("fine"))]
    ran = run("name: a\nmain: [{label: ask, prompt: x}, {log: bye}]", "hi", lambda call: Answered(left.pop(0), 2.0))
    records = records_of(ran.events)
    assert [item["what"] for item in entries(records)] == [
        "the execution of task 'a' version 1 was started",
        "'ask': the default model is asked",
        "the call failed: backend.overloaded",
        "attempt 1 failed, the next one follows in 1.0 s: backend.overloaded: full",
        "'ask': the default model is asked, attempt 2",
        "model m answered after 2.0 s (10 tokens, $0.0021)",
        "'ask' (prompt) is done after 5.0 s",
        "log says: bye; the execution has succeeded",
    ]
    with_gap = list(entries([records[0], *records[4:]]))
    assert [(item["seq"], item["type"]) for item in with_gap[:3]] == [(1, "init"), (2, "gap"), (5, "effect.started")]
    assert with_gap[1]["what"].startswith("events 2 to 4 are not here (yet)")


def test_every_type_of_event_has_a_sentence_of_its_own() -> None:
    for seed in range(60):
        records = records_of(in_memory(make_program(seed, clock=False), "e").events)
        for record, item in zip(records, entries(records), strict=True):
            assert item["what"] != record.type, record
            assert "None" not in item["what"], item["what"]


# --- time ----------------------------------------------------------------------------------------------------------


class Counting:
    """Counts how often steps are looked at while events are folded, whatever the clock says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from engine.core.run import story, story_tree

        self.count = 0
        for home, name in ((story, "open_step"), (story_tree, "open_step"), (story_tree, "_shut")):
            monkeypatch.setattr(home, name, self.counted(getattr(home, name)))

    def counted(self, function: Any) -> Any:
        def call(step: Any) -> Any:
            self.count += 1
            return function(step)

        return call


def test_the_work_grows_with_the_number_of_events_and_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    def records(number: int) -> Sequence[EventRecord]:
        body = f"{{over: $ range({number}), parallelism: 50, map: {{evaluate: $ _}}}}"
        text = f"name: a\nlimits: {{steps: 50000}}\nmain: [{body}]"
        return records_of(run(text).events)

    counting = Counting(monkeypatch)
    done: list[float] = []
    for number in (500, 2_000):
        counting.count = 0
        found = records(number)
        Story().extend(found)
        done.append(counting.count / len(found))
    assert done[1] == pytest.approx(done[0], rel=0.05)


def test_what_is_open_was_stopped_when_the_execution_ended_without_a_word() -> None:
    task = "name: t\nmain: [{foreach: {in: '$ [1, 2]', do: {wait_for_input: {info: go}}}}]"
    story = story_of(run(task))
    assert story.state is StepState.RUNNING
    error = {"code": "execution.terminated", "message": "too old"}
    closed_us = story.last_us + 7_000_000
    story.stop(StepState.FAILED, closed_us, error)
    assert (story.state, story.ended_us, story.error) == (StepState.FAILED, closed_us, error)
    assert {step.state for step in story.walk()} == {StepState.CANCELLED}
    assert {step.ended_us for step in story.walk()} == {closed_us}
    (wait,) = [wait for step in story.walk() for wait in step.waits]
    assert (wait.outcome, wait.closed_us) == ("stopped", closed_us)
    told = views_of(story)
    story.stop(StepState.CANCELLED, closed_us + 1)
    assert views_of(story) == told, "an end is told once"
