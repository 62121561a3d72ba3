"""What `wait_for_event` does: it goes on with the event of its name and key, whether that comes before or after it."""

from __future__ import annotations

from typing import Any

from engine.core.contracts.execution import AnswerSignal, EventSignal
from engine.core.run.effects import Ok
from engine.core.run.machine import Machine, Pace
from engine.core.run.walker import Identity
from engine.dryrun.effects import MemoryEffects
from engine.dryrun.running import DryRun
from tests.support.memory import compiled, echo, error_of, output_of, run, seen

TASK = """
name: t
main:
  - wait_for_event: order.paid
    key: $ _.order
    schema: {type: object, required: [sum]}
  - evaluate: $ _.sum
"""


def paid(order: str, value: Any, number: str = "") -> EventSignal:
    """Return an event; its id is made of the order unless given."""
    return EventSignal(id=number or f"e-{order}", name="order.paid", key=order, value=value, actor="shop")


def outcome(result: DryRun) -> Any:
    assert result.finished is not None, result.waits
    return result.finished.outcome


def test_it_goes_on_with_the_event_of_its_name_and_key():
    other = EventSignal(id="x", name="order.sent", key="o1", value={"sum": 1})
    result = run(TASK, {"order": "o1"}, outside=[other, paid("o2", {"sum": 2}), paid("o1", {"sum": 3})])
    assert outcome(result) == Ok(3)
    resumed = seen(result, "resume")[0].body
    assert (resumed["event"], resumed["key"], resumed["actor"]) == ("order.paid", "e-o1", "shop")


def test_an_event_that_came_before_its_wait_is_kept():
    early = TASK.replace("main:", "main:\n  - sleep: {hours: 1}")
    assert outcome(run(early, {"order": "o1"}, outside=[paid("o1", {"sum": 4})])) == Ok(4)


def test_a_kept_event_survives_continue_as_new():
    early = TASK.replace("main:", "main:\n  - sleep: {hours: 1}\n  - sleep: {hours: 1}")
    result = run(early, {"order": "o1"}, outside=[paid("o1", {"sum": 5})], carry_every=1)
    assert result.runs > 1
    assert outcome(result) == Ok(5)


def test_an_event_is_taken_once_however_often_it_comes():
    twice = """
name: t
main:
  - wait_for_event: order.paid
  - wait_for_event: order.paid
    deadline: 1h
    default: none
"""
    first = EventSignal(id="same", name="order.paid", value=1)
    assert outcome(run(twice, outside=[first, first])) == Ok("none")


def test_an_event_that_does_not_fit_the_schema_does_not_count():
    result = run(TASK, {"order": "o1"}, outside=[paid("o1", "nothing", "a"), paid("o1", {"sum": 6}, "b")])
    assert outcome(result) == Ok(6)
    assert seen(result, "event.received")[0].body["problems"]


def test_a_wait_for_an_event_has_a_deadline_and_a_default():
    assert error_of(TASK.replace("    schema", "    deadline: 1d\n    schema"), {"order": "o1"}).code == "wait.expired"
    task = "name: t\nmain: [{wait_for_event: never, deadline: 5m, default: late}]"
    assert output_of(task) == "late"


def test_several_waits_for_one_event_take_one_each():
    task = "name: t\nmain: [{parallel: [{wait_for_event: tick}, {wait_for_event: tick}]}]"
    ticks = [EventSignal(id=str(number), name="tick", value=number) for number in (1, 2)]
    assert outcome(run(task, outside=ticks)) == Ok([1, 2])


def test_an_answer_without_an_id_is_not_taken_for_an_event_but_one_with_its_id_stands_in_for_it():
    task = "name: t\nmain: [{wait_for_event: never}]"
    effects = MemoryEffects(echo)
    machine = Machine(compiled(task), effects, Identity(execution_id="e"))
    machine.start(None)
    machine.run()
    machine.answer(AnswerSignal(key="a", value=1))
    assert machine.run() is Pace.WAITING
    machine.answer(AnswerSignal(key="b", value=2, wait_id="main.0"))
    assert machine.run() is Pace.DONE
    assert machine.result is not None
    assert machine.result.outcome == Ok(2)
