"""Stage: answers from outside — finding the wait, checking the value, remembering the outcome. Workflow-safe."""

from __future__ import annotations

from engine.core.contracts.execution import AnswerSignal
from engine.core.errors import ExpressionError
from engine.core.kinds import EventType
from engine.core.run.frames import WaitFrame
from engine.core.run.state import Branch
from engine.core.run.waits import resume
from engine.core.run.walker import Walker
from engine.core.schemas import value_problems
from engine.core.values import Json, to_json_value

MAX_REMEMBERED_KEYS = 1_000


def open_waits(walker: Walker, *, events: bool = False, messages: bool = False) -> list[tuple[Branch, WaitFrame]]:
    """Return the open waits for answers, or those for events or for messages, the oldest first."""
    waits: list[tuple[Branch, WaitFrame]] = []
    for branch in walker.branches.values():
        top = branch.stack[-1] if branch.stack else None
        if not isinstance(top, WaitFrame) or branch.unwind is not None:
            continue
        if (top.event is not None) is events and (top.inbox is not None) is messages:
            waits.append((branch, top))
    return sorted(waits, key=lambda pair: pair[1].opened)


def take_answer(walker: Walker, signal: AnswerSignal) -> None:
    """Accept or refuse an answer; a key that was seen before gets its first outcome again."""
    known = walker.state.answers.get(signal.key)
    if known is not None:
        accepted = bool(known["accepted"])
        body = {"key": signal.key, "actor": signal.actor, **known, "repeated": True}
        walker.emit(EventType.ANSWER_ACCEPTED if accepted else EventType.ANSWER_REFUSED, body)
        return
    chosen = _wait_for(walker, signal)
    if chosen is None and _wants_message(walker, signal.wait_id):
        message = f"'{signal.wait_id}' is a step that listens: it takes messages, not answers"
        _refuse(walker, signal, signal.wait_id, "answer.wants_message", message)
        return
    if chosen is None:
        code = "answer.closed" if signal.wait_id else "answer.not_waiting"
        message = f"no wait '{signal.wait_id}' is open" if signal.wait_id else "the execution does not wait for input"
        _refuse(walker, signal, signal.wait_id, code, message)
        return
    branch, frame = chosen
    problems = fitting_problems(signal.value, frame.schema)
    if problems:
        _refuse(walker, signal, frame.wait_id, "input.rejected", "; ".join(problems))
        return
    _accept(walker, branch, frame, signal)


def is_expected(walker: Walker, signal: AnswerSignal) -> bool:
    """Return whether an answer can be taken now: its wait is open, or its key was seen before."""
    return signal.key in walker.state.answers or _wait_for(walker, signal) is not None


def _wait_for(walker: Walker, signal: AnswerSignal) -> tuple[Branch, WaitFrame] | None:
    waits = open_waits(walker)
    if signal.wait_id:
        # somebody may stand in for an event that does not come
        waits += open_waits(walker, events=True)
    return next((pair for pair in waits if not signal.wait_id or pair[1].wait_id == signal.wait_id), None)


def _wants_message(walker: Walker, wait_id: str) -> bool:
    return any(frame.wait_id == wait_id for _, frame in open_waits(walker, messages=True))


def fitting_problems(value: Json, schema: Json, *, whole: str = "value") -> list[str]:
    """Say why a value cannot come in as an input or an answer: no JSON of ours, or not what the schema asks for.

    Args:
        value: The value.
        schema: The schema.
        whole: What problems of the whole value call it.
    """
    try:
        to_json_value(value)
    except ExpressionError as error:
        return [error.message]
    return value_problems(value, schema, whole=whole)


def _accept(walker: Walker, branch: Branch, frame: WaitFrame, signal: AnswerSignal) -> None:
    _remember(walker, signal.key, {"accepted": True, "wait_id": frame.wait_id})
    body: dict[str, Json] = {"key": signal.key, "actor": signal.actor, "wait_id": frame.wait_id}
    walker.emit(EventType.ANSWER_ACCEPTED, {**body, "value": signal.value})
    resume(walker, branch, frame, signal.value, body)


def _refuse(walker: Walker, signal: AnswerSignal, wait_id: str, code: str, message: str) -> None:
    _remember(walker, signal.key, {"accepted": False, "wait_id": wait_id, "code": code, "message": message})
    body = {"key": signal.key, "actor": signal.actor, "wait_id": wait_id, "code": code, "message": message}
    walker.emit(EventType.ANSWER_REFUSED, body)


def _remember(walker: Walker, key: str, outcome: dict[str, Json]) -> None:
    answers = walker.state.answers
    answers[key] = outcome
    while len(answers) > MAX_REMEMBERED_KEYS:
        del answers[next(iter(answers))]
