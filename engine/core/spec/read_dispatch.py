"""Reads the `dispatch` block beside a task: triggers, cron, admission, priority, labels. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from engine.core.spec import codes
from engine.core.spec.cron import cron_problems, names_both_days
from engine.core.spec.dispatch import (
    Busy,
    CollectSpec,
    ConcurrencySpec,
    CronSpec,
    DebounceSpec,
    DispatchSpec,
    SingletonSpec,
    TriggerSpec,
)
from engine.core.spec.fields import Fields
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode, position_at

PARTS: Final = ("triggers", "cron", "admission", "priority", "labels")
ADMISSION: Final = ("debounce", "collect", "singleton", "concurrency")
BUSY: Final = ("queue", "skip", "replace")
LEAST_PRIORITY: Final = 5
MAX_LABELS: Final = 20
MAX_LABEL_CHARS: Final = 100
MAX_STARTS: Final = 100
"""Triggers, and crons, of one task."""
MAX_COLLECTED: Final = 10_000
MAX_RUNNING: Final = 1_000_000


def read_dispatch(fields: Fields) -> DispatchSpec | None:
    """Take `dispatch` out of a task.

    Args:
        fields: The members of the task.

    Returns:
        The block as far as it could be read; None if there is none.
    """
    node = fields.mapping("dispatch")
    if node is None:
        return None
    inner = Fields(node, fields.findings, "dispatch", "dispatch")
    triggers = tuple(_trigger(item) for item in _objects(inner, "triggers", "the trigger"))
    crons = tuple(_crons(inner))
    admission = inner.mapping("admission")
    debounce = collect = singleton = concurrency = None
    if admission is not None:
        let_in = Fields(admission, fields.findings, "dispatch.admission", "admission")
        debounce, collect, singleton = _debounce(let_in), _collect(let_in), _singleton(let_in)
        concurrency = _concurrency(let_in)
        if debounce is not None and collect is not None:
            message = "'debounce' drops what 'collect' would gather"
            at = admission.position
            let_in.error(codes.CONFLICT, message, at, key="collect", hint="leave one of them out")
        let_in.refuse_left(ADMISSION)
    dispatch = DispatchSpec(
        triggers=triggers,
        crons=crons,
        debounce=debounce,
        collect=collect,
        singleton=singleton,
        concurrency=concurrency,
        priority=inner.whole("priority", 1, LEAST_PRIORITY),
        labels=_labels(inner),
    )
    inner.refuse_left(PARTS)
    return dispatch


def _objects(fields: Fields, key: str, what: str) -> Iterator[Fields]:
    """Yield the members of each object of a list."""
    node = fields.sequence(key)
    if node is None or _too_many(fields, key, node):
        return
    for index, item in enumerate(node.items):
        if isinstance(item, MapNode):
            yield Fields(item, fields.findings, f"dispatch.{key}[{index}]", what)
        else:
            fields.wrong_type(key, item, "a list of objects")


def _too_many(fields: Fields, key: str, node: ListNode) -> bool:
    if len(node.items) <= MAX_STARTS:
        return False
    message = f"'{key}' has {len(node.items)} items, but may have at most {MAX_STARTS}"
    fields.error(codes.OUT_OF_RANGE, message, node.position, key=key)
    return True


def _trigger(fields: Fields) -> TriggerSpec:
    event = fields.need("event", hint="name the event that starts an execution")
    fields.entry("event")
    trigger = TriggerSpec(
        event=_word(fields, "event", event), condition=fields.take("if"), input=fields.take("input"), path=fields.path
    )
    fields.refuse_left(("event", "if", "input"))
    return trigger


def _word(fields: Fields, key: str, node: Node | None) -> ScalarNode:
    """Return a node that holds text which is not empty, or say what it is instead."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value.strip():
        return node
    if node is not None:
        fields.wrong_type(key, node, "text", "put quotes around it" if isinstance(node, ScalarNode) else "")
    return ScalarNode("", fields.node.position)


# --- cron ----------------------------------------------------------------------------------------------------------


def _crons(fields: Fields) -> Iterator[CronSpec]:
    node = fields.take("cron")
    if node is None:
        return
    items = node.items if isinstance(node, ListNode) else (node,)
    if isinstance(node, ListNode) and _too_many(fields, "cron", node):
        return
    for index, item in enumerate(items):
        path = f"dispatch.cron[{index}]" if isinstance(node, ListNode) else "dispatch.cron"
        if isinstance(item, MapNode):
            yield _cron(Fields(item, fields.findings, path, "the cron"))
        elif isinstance(item, ScalarNode) and isinstance(item.value, str):
            _check_cron(item, fields, path)
            yield CronSpec(at=item, path=path)
        else:
            fields.wrong_type("cron", item, "text such as `0 8 * * *`, or {at, timezone, input}")


def _cron(fields: Fields) -> CronSpec:
    node = fields.need("at", hint="write the five fields, such as `at: 0 8 * * *`")
    fields.entry("at")
    at = _word(fields, "at", node)
    if at is node:
        _check_cron(at, fields, fields.at("at"))
    zone = fields.take("timezone")
    cron = CronSpec(
        at=at,
        timezone=None if zone is None else _word(fields, "timezone", zone),
        input=fields.take("input"),
        path=fields.path,
    )
    fields.refuse_left(("at", "timezone", "input"))
    return cron


def _check_cron(node: ScalarNode, fields: Fields, path: str) -> None:
    text = str(node.value)
    problems = cron_problems(text)
    for problem in problems:
        fields.findings.error(
            codes.BAD_CRON, problem.message, position_at(node, problem.offset), hint=problem.hint, path=path
        )
    if not problems and names_both_days(text):
        fields.findings.warn(
            codes.BOTH_DAYS,
            "this cron comes only on days that fit both the day of the month and the day of the week",
            node.position,
            path=path,
            hint="write two crons if either is enough",
        )


# --- admission -----------------------------------------------------------------------------------------------------


def _debounce(fields: Fields) -> DebounceSpec | None:
    inner = _long_form(fields, "debounce", "wait")
    if inner is None:
        return None
    debounce = DebounceSpec(wait_s=_wait(inner), at_most_s=inner.duration("at_most"), key=inner.take("key"))
    inner.refuse_left(("wait", "at_most", "key"))
    if debounce.at_most_s is not None and debounce.at_most_s < debounce.wait_s:
        message = "'at_most' is shorter than 'wait'"
        inner.error(codes.CONFLICT, message, inner.node.position, key="at_most")
    return debounce


def _collect(fields: Fields) -> CollectSpec | None:
    inner = _long_form(fields, "collect", "wait")
    if inner is None:
        return None
    collect = CollectSpec(wait_s=_wait(inner), size=inner.whole("size", 1, MAX_COLLECTED) or 100, key=inner.take("key"))
    inner.refuse_left(("wait", "size", "key"))
    return collect


def _wait(fields: Fields) -> float:
    found = fields.node.get("wait")
    if found is None or found == ScalarNode(None, found.position):
        fields.need("wait", hint="say how long, such as `wait: 30s`")
        return 1.0
    return fields.duration("wait") or 1.0


def _singleton(fields: Fields) -> SingletonSpec | None:
    inner = _long_form(fields, "singleton", "busy")
    if inner is None:
        return None
    singleton = SingletonSpec(busy=cast("Busy", inner.choice("busy", BUSY) or "queue"), key=inner.take("key"))
    inner.refuse_left(("busy", "key"))
    return singleton


def _concurrency(fields: Fields) -> ConcurrencySpec | None:
    inner = _long_form(fields, "concurrency", "limit")
    if inner is None:
        return None
    at = inner.node.position
    concurrency = ConcurrencySpec(
        limit=inner.whole("limit", 1, MAX_RUNNING),
        per_key=inner.whole("per_key", 1, MAX_RUNNING),
        key=inner.take("key"),
    )
    inner.refuse_left(("limit", "per_key", "key"))
    if inner.node.get("limit") is None and inner.node.get("per_key") is None:
        inner.error(codes.MISSING_KEY, "concurrency has no 'limit'", at, hint="say how many may run at a time")
    elif concurrency.per_key is not None and concurrency.key is None:
        hint = "write `key:` with an expression on the input `_`"
        inner.error(codes.MISSING_KEY, "'per_key' counts by a key, and there is none", at, hint=hint)
    elif concurrency.key is not None and inner.node.get("per_key") is None:
        inner.error(codes.CONFLICT, "'key' says what `per_key` counts by, and there is none", at, key="key")
    return concurrency


def _long_form(fields: Fields, key: str, short: str) -> Fields | None:
    """Take a member that is an object, or the value of its most important member alone."""
    node = fields.take(key)
    if node is None:
        return None
    if not isinstance(node, MapNode):
        node = MapNode((MapEntry(short, node.position, node),), node.position)
    return Fields(node, fields.findings, fields.at(key), key)


# --- labels --------------------------------------------------------------------------------------------------------


def _labels(fields: Fields) -> tuple[str, ...]:
    node = fields.sequence("labels")
    found: list[str] = []
    for item in () if node is None else node.items:
        text = item.value if isinstance(item, ScalarNode) else None
        if not isinstance(text, str):
            hint = "put quotes around it" if isinstance(item, ScalarNode) else ""
            fields.wrong_type("labels", item, "a list of texts", hint)
        elif not 0 < len(text.strip()) <= len(text) <= MAX_LABEL_CHARS:
            message = f"a label has 1 to {MAX_LABEL_CHARS} characters"
            fields.error(codes.OUT_OF_RANGE, message, item.position, key="labels")
        elif text in found:
            fields.error(codes.CONFLICT, f"the label '{text}' stands twice", item.position, key="labels")
        else:
            found.append(text)
    if node is not None and len(found) > MAX_LABELS:
        message = f"a task may have {MAX_LABELS} labels, this one has {len(found)}"
        fields.error(codes.OUT_OF_RANGE, message, node.position, key="labels")
    return tuple(found)
