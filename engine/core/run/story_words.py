"""Says of each event in a sentence what happened, with what belongs to it as data. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from engine.core.kinds import EventType, StepKind
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import is_listening
from engine.core.run.story_parts import clipped
from engine.core.run.times import iso_time
from engine.core.run.usage import cost_to_nano, nano_to_cost, parts_text
from engine.core.values import Json

Body = dict[str, Any]

MOST_OF_A_ROUTE: Final = 8
"""Models that a sentence names of those that did not answer; the data beside it has all."""
_PLACE: Final = frozenset({"path", "branch", "workflow", "index", "scope", "next"})
_SOMEBODY: Final = "somebody"
_COUNTED: Final = {
    "mapreduce": "item",
    "foreach": "item",
    "parallel": "branch",
    "race": "branch",
    "listen": "turn",
    "agent": "turn",
}


def entries(
    records: Iterable[EventRecord], *, after_seq: int = 0, limit_chars: int | None = None
) -> Iterator[dict[str, Any]]:
    """Tell of events in order, and of those that are missing between them.

    Args:
        records: Events in order of their numbers.
        after_seq: Number of the event before the first one.
        limit_chars: Characters to keep of the data of each; None = all.

    Yields:
        {at, seq, type, what, path, data, truncated?}; the type of missing events is `gap`, and their time that of the
        event behind them.
    """
    last = after_seq
    for record in records:
        if record.seq > last + 1:
            yield _gap(last + 1, record)
        last = record.seq
        yield entry(record, limit_chars=limit_chars)


def _gap(first: int, behind: EventRecord) -> dict[str, Any]:
    last = behind.seq - 1
    which = f"event {first} is" if first == last else f"events {first} to {last} are"
    return {
        "at": iso_time(behind.now_us),
        "seq": first,
        "type": "gap",
        "what": f"{which} not here (yet): the repair fetches what a lost worker did not tell",
        "path": None,
        "data": {"first": first, "last": last},
    }


def entry(record: EventRecord, *, limit_chars: int | None = None) -> dict[str, Any]:
    """Tell of one event; see `entries`."""
    body = body_of(record)
    path = str(body.get("path") or (body.get("error") or {}).get("step") or "")
    say = _SENTENCES.get(record.type)
    data: Json = {name: value for name, value in body.items() if name not in _PLACE}
    cut = False
    if limit_chars is not None and len(record.body) > limit_chars:
        data, cut = clipped(data, limit_chars)
    told: dict[str, Any] = {
        "at": iso_time(record.now_us),
        "seq": record.seq,
        "type": record.type,
        "what": record.type if say is None else say(body, record.now_us),
        "path": path or None,
        "data": data,
    }
    if cut:
        told["truncated"] = True
    return told


def closing_entry(error: dict[str, Any], at_us: int) -> dict[str, Any]:
    """Tell of an end that no event tells, since it came from outside; see `entries`.

    Args:
        error: {code, message, details?} of the execution.
        at_us: When it ended, Unix microseconds.
    """
    told = {"seq": None, "type": str(error.get("code") or "execution.failed"), "what": closing_words(error)}
    return {"at": iso_time(at_us), **told, "path": None, "data": {"error": error}}


def closing_words(error: dict[str, Any]) -> str:
    """Say how an execution was ended from outside: code, reason, and who did it."""
    actor = (error.get("details") or {}).get("actor")
    ended = f"was ended by {actor}" if actor else "has ended"
    return f"the execution {ended}: {_error({'error': error})}"


# --- words ---------------------------------------------------------------------------------------------------------


def seconds_text(seconds: float) -> str:
    """Return a time span: `40 ms`, `3.2 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def dollars_text(cost: Json) -> str:
    """Return a price as `$0.0012`; an empty text if it is not known."""
    dollars = nano_to_cost(cost_to_nano(cost))
    return "" if dollars is None else f"${dollars}"


def _error(body: Body) -> str:
    error = body.get("error") or {}
    return f"{error.get('code', 'error')}: {error.get('message', '')}"


def _step(body: Body) -> str:
    """Name a step: its label, or its kind and whom it calls."""
    label = body.get("label")
    kind = str(body.get("kind") or "step").replace("_", " ")
    name = body.get("name")
    return f"'{label}' ({kind})" if label else f"{kind} {name}" if name else kind


def _took(body: Body, now_us: int, since: str) -> str:
    began = body.get(since)
    return "" if not isinstance(began, int) else f" after {seconds_text((now_us - began) / 1e6)}"


def _said_init(body: Body, _now_us: int) -> str:
    by = f" by {body['actor']}" if body.get("actor") else ""
    parent, forked = body.get("parent") or {}, body.get("forked") or {}
    of = f", for step {parent.get('path')} of execution {parent.get('execution_id')}" if parent else ""
    if forked:
        word = "as a retry" if forked.get("kind") == "retry" else "as a fork"
        of = f" {word} of execution {forked.get('execution_id')} from step {forked.get('path')}"
    tools = ", ".join(str(item.get("tool")) for item in body.get("drift") or [])
    drift = f"; defined otherwise than when it was stored: {tools}" if tools else ""
    return f"the execution of task '{body.get('task')}' version {body.get('version')} was started{by}{of}{drift}"


def _said_branch(body: Body, _now_us: int) -> str:
    construct = str(body.get("construct") or "")
    if construct == "yield":
        return f"the list '{body.get('workflow')}' begins"
    if construct == "finally":
        return "the steps of `finally` begin"
    if construct == "on_error":
        return "on_error takes the error"
    if construct == "undo":
        return "the step is undone"
    number = construct.partition("[")[2].rstrip("]")
    if number and not construct.startswith("switch"):
        of = f" of {body['of']}" if body.get("of") else ""
        return f"{_COUNTED.get(construct.partition('[')[0], 'round')} {int(number) + 1}{of} begins"
    return f"{construct} begins"


def _said_call(body: Body, _now_us: int) -> str:
    kind, name, number = body.get("kind"), body.get("name"), int(body.get("attempt") or 1)
    again = f", attempt {number}" if number > 1 else ""
    label = f"'{body['label']}': " if body.get("label") else ""
    if kind == StepKind.PROMPT.value:
        return f"{label}{f'model {name}' if name else 'the default model'} is asked{again}"
    if kind == StepKind.TASK.value:
        return f"{label}task {name} version {body.get('version')} runs as execution {body.get('child_id')}{again}"
    if kind == StepKind.EMBED.value:
        return f"{label}{f'model {name}' if name else 'the default model'} is asked for vectors{again}"
    if kind == StepKind.SEARCH.value:
        return f"{label}documents are searched{again}"
    if body.get("child_id"):
        child = f"version {body.get('version')} of its task runs as execution {body['child_id']}"
        return f"{label}tool {name} is called: {child}{again}"
    return f"{label}tool {name} is called{again}"


def _said_call_end(body: Body, _now_us: int) -> str:
    took = f" after {seconds_text(body['took_s'])}" if isinstance(body.get("took_s"), (int, float)) else ""
    lost = int(body.get("deliveries") or 1) - 1
    again = f"; it was handed out {lost + 1} times, since {lost} worker{'s were' if lost > 1 else ' was'} lost" * (
        lost > 0
    )
    outcome = body.get("outcome")
    if outcome == "failed":
        # what it means for the step, and the message, are told by the event that follows
        return f"the call failed{took}: {(body.get('error') or {}).get('code')}{again}"
    if outcome == "cancelled":
        return f"the call was stopped{took}{again}"
    if body.get("cached"):
        kept = f"the reply of model {body.get('model')}" if "reply" in body else "the output"
        return f"nothing was called: {kept} was kept from an equal call{again}"
    if "reply" not in body:
        return f"the call ended well{took}{again}"
    usage = body.get("usage") or {}
    tokens = usage.get("total_tokens")
    facts = [f"{tokens} tokens" if tokens else "", parts_text(usage), dollars_text(body.get("cost"))]
    reason = body.get("finish_reason")
    facts.append(f"finish reason {reason}" if reason not in (None, "", "stop") else "")
    told = ", ".join(fact for fact in facts if fact)
    at = _route_words(body)
    waited = (body.get("route") or {}).get("waited_s")
    if waited:
        took = f" {seconds_text(waited)} after it was due{took and f' and{took}'}"
    return f"model {body.get('model')} answered{at}{took}{f' ({told})' if told else ''}{again}"


def _route_words(body: Body) -> str:
    """Return where a model answered, if there was a choice of which something is to be told."""
    route = body.get("route") or {}
    failed, over = _each_of(route.get("tried", ()), "code"), _each_of(route.get("passed_over", ()), "why")
    told = [f"after {failed} failed" if failed else "", f"passing over {over}" if over else ""]
    words = ", ".join(part for part in told if part)
    return f" at {body.get('backend')}, {words}," if words else ""


def _each_of(items: Sequence[Body], reason: str) -> str:
    """Return models and backends with what is to be said of each; where a backend has several, by both names."""
    backends = [item.get("backend") for item in items]
    told: list[str] = []
    for item in items[:MOST_OF_A_ROUTE]:
        backend, model = item.get("backend"), item.get("model")
        is_plain = not (backend and model) or backends.count(backend) == 1
        told.append(f"{backend or model if is_plain else f'{backend}/{model}'} ({item.get(reason)})")
    more = len(items) - MOST_OF_A_ROUTE
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _said_attempt_failed(body: Body, _now_us: int) -> str:
    number, again = body.get("attempt") or 1, body.get("retry_in_s")
    if body.get("overflow"):
        return _said_overflow(body)
    if body.get("repair"):
        return f"the reply is not good enough, repair round {body['repair']} follows: {_error(body)}"
    if again is None:
        return f"attempt {number} failed, there is no other: {_error(body)}"
    return f"attempt {number} failed, the next one follows in {seconds_text(float(again))}: {_error(body)}"


def _said_overflow(body: Body) -> str:
    number = body.get("messages") or 0
    old = f"{'the oldest message' if number == 1 else f'the {number} oldest messages'}"
    how = f"{old} {'is' if number == 1 else 'are'} left out" if number else "results of tools are shortened"
    if body["overflow"] == "summarise" and number:
        how = f"{old} {'is' if number == 1 else 'are'} summarised"
    return f"the conversation has outgrown the model: {how}, and it is asked again"


def _said_step(body: Body, now_us: int) -> str:
    if body.get("skipped"):
        return f"{_step(body)} was skipped"
    if body.get("recorded"):
        return f"{_step(body)} is taken over as it was recorded"
    if body.get("log") is not None:
        return f"{_step(body)} says: {body['log']}"
    return f"{_step(body)} is done{_took(body, now_us, 'started_us')}"


def _said_finish(body: Body, now_us: int) -> str:
    last = f"{_said_step(body, now_us)}; " if body.get("path") else ""
    return f"{last}the execution has succeeded"


def _said_wait(body: Body, _now_us: int) -> str:
    info = body.get("info")
    label = f"'{body['label']}' " if body.get("label") else ""
    until = f" until {iso_time(body['deadline_us'])}" if body.get("deadline_us") else ""
    if isinstance(info, dict) and set(info) == {"event", "key"}:
        key = "" if info["key"] is None else f" with the key {info['key']}"
        return f"{label}waits for the event '{info['event']}'{key}{until}"
    if is_listening(info):
        return f"{label}listens for messages to '{info['messages']}'{until}"
    return f"{label}waits for an answer{until}"


def _said_resume(body: Body, now_us: int) -> str:
    took = _took(body, now_us, "opened_us")
    if body.get("expired"):
        return f"nobody answered before the deadline{took}; it goes on with its default"
    who = body.get("actor") or _SOMEBODY
    if body.get("event"):
        return f"the event '{body['event']}' came from {who}{took}; it goes on"
    if body.get("message"):
        return f"a message to '{body['message']}' came from {who}{took}; a turn begins"
    return f"it goes on with the answer of {who}{took}"


def _said_accepted(body: Body, _now_us: int) -> str:
    repeated = " once more, under the same key" if body.get("repeated") else ""
    return f"{body.get('actor') or _SOMEBODY} answered {body.get('wait_id')}{repeated}"


def _said_refused(body: Body, _now_us: int) -> str:
    who = body.get("actor") or _SOMEBODY
    return f"an answer of {who} was refused: {body.get('code')}: {body.get('message')}"


def _said_event(body: Body, _now_us: int) -> str:
    who = body.get("actor") or _SOMEBODY
    if body.get("wait_id"):
        return f"{who} sent the event '{body.get('name')}', which {body['wait_id']} was waiting for"
    problems = body.get("problems") or []
    why = f", which does not fit ({'; '.join(map(str, problems))})" if problems else ""
    return f"{who} sent the event '{body.get('name')}'{why}; it is kept until a step waits for it"


_DISPOSITIONS: Final = {
    "started": "begins a turn",
    "queued": "waits for its turn",
    "joined": "waits for the next turn, with others",
    "interrupting": "interrupts the turn that runs",
    "rolling_back": "rolls the turn back that runs",
    "kept": "is kept until a step listens for it",
}


def _said_message(body: Body, _now_us: int) -> str:
    who = body.get("actor") or _SOMEBODY
    what = f"{who} sent a message to '{body.get('name')}'"
    if body.get("disposition") == "rejected":
        what = f"{what}, which was refused: {body.get('code')}: {body.get('message')}"
    else:
        disposition = str(body.get("disposition"))
        what = f"{what}, which {_DISPOSITIONS.get(disposition, disposition)}"
    return f"{what} (it came once more, nothing was done)" if body.get("repeated") else what


_TAKEN: Final = {
    "interrupt": "a message interrupted the turn",
    "rollback": "a message rolled the turn back",
    "collect": "the branch failed and its error is collected",
    "skip": "the branch failed and is left out",
    "race": "the branch failed and is out of the race",
    "undo": "the undoing of a step failed; that of the others goes on",
}


def _said_branch_failed(body: Body, _now_us: int) -> str:
    return f"{_TAKEN.get(str(body.get('taken')), 'the branch failed')}: {_error(body)}"


def _said_error(body: Body, _now_us: int) -> str:
    attempts = int((body.get("error") or {}).get("attempts") or 1)
    return f"the execution has failed{f' after {attempts} attempts' if attempts > 1 else ''}: {_error(body)}"


def _said_cancelled(body: Body, _now_us: int) -> str:
    by = f" by {body['actor']}" if body.get("actor") else ""
    why = f": {body['reason']}" if body.get("reason") else ""
    return f"the execution was cancelled{by}{why}"


_WHY: Final = {"cancel": "since it is cancelled", "limit.time": "since it is out of time"}


def _once_more(body: Body) -> str:
    return " (the same key came once more, nothing was done)" if body.get("repeated") else ""


def _said_paused(body: Body, _now_us: int) -> str:
    if not body.get("key"):
        return f"the execution pauses before step {body.get('at')}"
    who, why = body.get("actor") or _SOMEBODY, f": {body['reason']}" if body.get("reason") else ""
    if body.get("already"):
        return f"{who} paused the execution, which was paused already{why}{_once_more(body)}"
    return f"{who} paused the execution{why}{_once_more(body)}"


def _said_continued(body: Body, _now_us: int) -> str:
    if body.get("why"):
        return f"the pause of the execution ends, {_WHY.get(str(body['why']), str(body['why']))}"
    breaks = body.get("breaks")
    until = "" if breaks is None else f", {_said_breaks(breaks)}"
    return f"{body.get('actor') or _SOMEBODY} let the execution go on{until}{_once_more(body)}"


def _said_breaks(breaks: Any) -> str:
    named = [str(item) for item in breaks or []]
    return f"it will pause before {', '.join(named)}" if named else "it will pause before no step"


def _said_breaks_changed(body: Body, _now_us: int) -> str:
    who = body.get("actor") or _SOMEBODY
    return f"{who} changed where the execution pauses: {_said_breaks(body.get('breaks'))}{_once_more(body)}"


def _said_deadline(body: Body, _now_us: int) -> str:
    until = body.get("deadline_us")
    how = "took the deadline of" if until is None else "moved the deadline of"
    to = " away" if until is None else f" to {iso_time(until)}"
    return f"{body.get('actor') or _SOMEBODY} {how} {body.get('wait_id')}{to}{_once_more(body)}"


def _said_control_refused(body: Body, _now_us: int) -> str:
    who = body.get("actor") or _SOMEBODY
    return f"what {who} wanted ({body.get('kind')}) was refused: {body.get('code')}: {body.get('message')}"


_SENTENCES: Final[dict[str, Callable[[Body, int], str]]] = {
    EventType.INIT.value: _said_init,
    EventType.INIT_BRANCH.value: _said_branch,
    EventType.STEP.value: _said_step,
    EventType.WAIT.value: _said_wait,
    EventType.RESUME.value: _said_resume,
    EventType.FINISH_BRANCH.value: _said_step,
    EventType.FINISH.value: _said_finish,
    EventType.ERROR.value: _said_error,
    EventType.CANCELLED.value: _said_cancelled,
    EventType.EFFECT_STARTED.value: _said_call,
    EventType.EFFECT_FINISHED.value: _said_call_end,
    EventType.ATTEMPT_FAILED.value: _said_attempt_failed,
    EventType.BRANCH_FAILED.value: _said_branch_failed,
    EventType.ANSWER_ACCEPTED.value: _said_accepted,
    EventType.ANSWER_REFUSED.value: _said_refused,
    EventType.EVENT_RECEIVED.value: _said_event,
    EventType.MESSAGE_TAKEN.value: _said_message,
    EventType.EXECUTION_PAUSED.value: _said_paused,
    EventType.EXECUTION_CONTINUED.value: _said_continued,
    EventType.BREAKS_CHANGED.value: _said_breaks_changed,
    EventType.DEADLINE_CHANGED.value: _said_deadline,
    EventType.CONTROL_REFUSED.value: _said_control_refused,
}
