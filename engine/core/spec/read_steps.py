"""Reads steps: finds the kind by its marker key, takes its members, reports what does not fit. Workflow-safe."""

from __future__ import annotations

from typing import Any, cast

from engine.core.diagnostics import Findings
from engine.core.kinds import StepKind
from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.model import (
    ErrorStep,
    EvaluateStep,
    ForeachStep,
    GetStep,
    IfElseStep,
    MapReduceStep,
    ModifiersSpec,
    NameSpec,
    OnItemError,
    ParallelStep,
    RetrySpec,
    ReturnStep,
    SetStep,
    SleepStep,
    StepList,
    StepSpec,
    ToolCallStep,
    WaitStep,
    YieldStep,
)
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe
from engine.core.spec.read_prompt import read_prompt

_ITEM_ERRORS = ("fail", "collect", "skip")


def read_step_list(node: Node, findings: Findings, path: str) -> StepList:
    """Read one step or a list of steps.

    A step that cannot be read becomes an `evaluate` of null, so that numbers and labels of its neighbours stay right.

    Args:
        node: An object, or a list of objects.
        findings: Where to put what is wrong.
        path: Its place in the structure.

    Returns:
        The steps; empty only after an error was reported.
    """
    if isinstance(node, ListNode):
        if not node.items:
            findings.error(codes.NO_STEPS, f"'{path}' has no steps", node.position, path=path)
        steps = tuple(read_step(item, findings, f"{path}[{index}]") for index, item in enumerate(node.items))
        return StepList(steps, node.position)
    return StepList((read_step(node, findings, path),), node.position)


def read_step(node: Node, findings: Findings, path: str) -> StepSpec:
    """Read one step; see `read_step_list`."""
    if not isinstance(node, MapNode):
        message = f"a step must be an object, not {describe(node)}"
        hint = "a step is written as `KIND: …`, for example `evaluate: $ _.x`"
        findings.error(codes.WRONG_TYPE, message, node.position, path=path, hint=hint)
        return EvaluateStep(value=ScalarNode(None, node.position), position=node.position, path=path)
    kind = _find_kind(node, findings, path)
    what = "the step" if kind is None else f"the {vocabulary.MARKER_OF[kind]} step"
    fields = Fields(node, findings, path, what)
    common: dict[str, Any] = {
        "position": node.position,
        "path": path,
        "label": _label(fields),
        "mods": _modifiers(fields),
    }
    if kind is None:
        return EvaluateStep(value=ScalarNode(None, node.position), **common)
    fields.entry("kind_")
    step = _read_kind(kind, fields, common)
    _refuse_rest(kind, fields)
    return step


def _find_kind(node: MapNode, findings: Findings, path: str) -> StepKind | None:
    """Return the kind of a step, or None after saying why there is none."""
    keys = node.keys()
    named = node.entry("kind_")
    if named is not None:
        word = named.value.value if isinstance(named.value, ScalarNode) else None
        if word in vocabulary.LATER_KINDS:
            message = f"the step kind '{word}' is not available in this version"
            findings.error(codes.LATER, message, named.value.position, path=path)
            return None
        if word not in list(StepKind):
            hint = suggest(findings, str(word), list(StepKind)) or f"kinds are {', '.join(StepKind)}"
            findings.error(
                codes.UNKNOWN_KIND, f"'{word}' is not a kind of step", named.value.position, path=path, hint=hint
            )
            return None
        return StepKind(word)
    marks = [key for key in keys if key in vocabulary.MARKERS]
    if len(marks) > 1:
        second = node.entry(marks[1])
        assert second is not None
        findings.error(
            codes.SEVERAL_KINDS,
            f"a step does one thing, but this one has {' and '.join(f'`{mark}`' for mark in marks)}",
            second.key_position,
            path=path,
            hint="make two steps of it",
        )
        return None
    if marks:
        return vocabulary.MARKERS[marks[0]]
    _explain_no_kind(node, findings, path)
    return None


def _explain_no_kind(node: MapNode, findings: Findings, path: str) -> None:
    for entry in node.entries:
        if entry.key in vocabulary.LATER_KINDS:
            message = f"the step kind '{entry.key}' is not available in this version"
            findings.error(codes.LATER, message, entry.key_position, path=path)
            return
    for entry in node.entries:
        if entry.key in vocabulary.PARTNERS:
            findings.error(
                codes.NO_KIND,
                f"the step has '{entry.key}', but no key that says what it does",
                entry.key_position,
                path=path,
                hint=vocabulary.PARTNERS[entry.key],
            )
            return
    known = [*vocabulary.MARKERS, *vocabulary.LATER_KINDS]
    for entry in node.entries:
        near = suggest(findings, entry.key, known) if entry.key not in vocabulary.MODIFIERS else ""
        if near:
            message = f"'{entry.key}' is not a kind of step"
            findings.error(codes.UNKNOWN_KIND, message, entry.key_position, path=path, hint=near)
            return
    others = [entry for entry in node.entries if entry.key not in vocabulary.MODIFIERS]
    at = others[0].key_position if others else node.position
    findings.error(
        codes.NO_KIND,
        "the step has no key that says what it does",
        at,
        path=path,
        hint=f"it needs one of {', '.join(vocabulary.MARKERS)}",
    )


def _refuse_rest(kind: StepKind, fields: Fields) -> None:
    reported: list[str] = []
    for entry in fields.left():
        if entry.key in vocabulary.LATER_MODIFIERS or entry.key in vocabulary.LATER_KINDS:
            reported.append(entry.key)
            fields.error(
                codes.LATER,
                f"'{entry.key}' on a step is not available in this version",
                entry.key_position,
                key=entry.key,
            )
    fields.refuse_left([*vocabulary.KEYS[kind], *vocabulary.MODIFIERS], skip=reported)


def _label(fields: Fields) -> NameSpec | None:
    label = fields.text("label")
    if label is None:
        return None
    if not label.text.strip() or len(label.text) > vocabulary.MAX_LABEL_CHARS:
        limit = vocabulary.MAX_LABEL_CHARS
        fields.error(codes.BAD_LABEL, f"a label has 1 to {limit} characters", label.position, key="label")
        return None
    if label.text.isdigit():
        fields.error(
            codes.BAD_LABEL,
            f"the label '{label.text}' is only digits, so steps[…] could not tell it from a number",
            label.position,
            key="label",
            hint="add a letter",
        )
        return None
    return label


def _modifiers(fields: Fields) -> ModifiersSpec:
    on_error = fields.take("on_error")
    return ModifiersSpec(
        when=fields.take("when"),
        retry=_retry(fields),
        timeout_s=fields.duration("timeout"),
        total_timeout_s=fields.duration("total_timeout"),
        on_error=None if on_error is None else read_step_list(on_error, fields.findings, fields.at("on_error")),
    )


def _retry(fields: Fields) -> RetrySpec | None:
    node = fields.mapping("retry")
    if node is None:
        return None
    inner = Fields(node, fields.findings, fields.at("retry"), "retry")
    attempts = inner.whole("attempts", 1, vocabulary.MAX_ATTEMPTS)
    if attempts is None and node.entry("attempts") is None:
        inner.error(
            codes.MISSING_KEY, "retry has no 'attempts'", node.position, hint="say how many attempts there are in all"
        )
    initial = inner.duration("initial", zero=True)
    factor = inner.number("factor", 1, 100)
    longest = inner.duration("max")
    default = RetrySpec()
    retry = RetrySpec(
        attempts=attempts or 1,
        initial_s=default.initial_s if initial is None else initial,
        factor=default.factor if factor is None else factor,
        max_s=max(default.max_s, initial or 0.0) if longest is None else longest,
        on=_codes(inner),
    )
    if retry.max_s < retry.initial_s:
        inner.error(
            codes.CONFLICT,
            f"'max' ({retry.max_s:g} s) is shorter than 'initial' ({retry.initial_s:g} s)",
            node.position,
            key="max",
        )
    inner.refuse_left(("attempts", "initial", "factor", "max", "on"))
    return retry


def _codes(inner: Fields) -> tuple[str, ...]:
    node = inner.take("on")
    if node is None:
        return ()
    items = node.items if isinstance(node, ListNode) else (node,)
    found: list[str] = []
    for item in items:
        if isinstance(item, ScalarNode) and isinstance(item.value, str) and item.value:
            found.append(item.value)
        else:
            inner.wrong_type("on", item, "an error code or a list of them", "such as backend.rate_limited or tool")
    return tuple(found)


def _read_kind(kind: StepKind, fields: Fields, common: dict[str, Any]) -> StepSpec:
    match kind:
        case StepKind.EVALUATE:
            return EvaluateStep(value=_any(fields, "evaluate"), **common)
        case StepKind.RETURN:
            return ReturnStep(value=_any(fields, "return"), **common)
        case StepKind.SET:
            return SetStep(values=_needed(fields, "set"), **common)
        case StepKind.GET:
            return GetStep(key=_needed(fields, "get"), **common)
        case StepKind.ERROR:
            return ErrorStep(message=_needed(fields, "error"), **common)
        case StepKind.PROMPT:
            return read_prompt(fields, common)
        case StepKind.TOOL_CALL:
            tool = fields.text("tool") if _needed(fields, "tool", keep=True) is not None else None
            return ToolCallStep(tool=tool or NameSpec(""), arguments=fields.take("arguments"), **common)
        case StepKind.YIELD:
            workflow = fields.text("workflow") if _needed(fields, "workflow", keep=True) is not None else None
            return YieldStep(workflow=workflow or NameSpec(""), arguments=fields.take("arguments"), **common)
        case StepKind.IF_ELSE:
            return _if_else(fields, common)
        case StepKind.FOREACH:
            return _foreach(fields, common)
        case StepKind.MAP_REDUCE:
            return _map_reduce(fields, common)
        case StepKind.PARALLEL:
            return _parallel(fields, common)
        case StepKind.WAIT_FOR_INPUT:
            return _wait(fields, common)
        case StepKind.SLEEP:
            return SleepStep(parts=_sleep_parts(fields), **common)


def _any(fields: Fields, key: str) -> Node:
    """Take a value of which null is one."""
    found = fields.entry(key)
    if found is None:
        fields.need(key)
        return ScalarNode(None, fields.node.position)
    return found.value


def _needed(fields: Fields, key: str, *, keep: bool = False) -> Any:
    """Take a value that must be there; with `keep` only look whether it is."""
    if keep:
        found = fields.node.get(key)
        if found is None or (isinstance(found, ScalarNode) and found.value is None):
            fields.need(key)
            fields.entry(key)
            return None
        return found
    node = fields.need(key)
    fields.entry(key)
    return ScalarNode(None, fields.node.position) if node is None else node


def _steps(fields: Fields, key: str) -> StepList:
    node = fields.need(key, hint="give it one step or a list of steps")
    if node is None:
        return StepList((), fields.node.position)
    return read_step_list(node, fields.findings, fields.at(key))


def _if_else(fields: Fields, common: dict[str, Any]) -> StepSpec:
    condition = _needed(fields, "if")
    then = _steps(fields, "then")
    otherwise = fields.take("else")
    return IfElseStep(
        condition=condition,
        then=then,
        otherwise=None if otherwise is None else read_step_list(otherwise, fields.findings, fields.at("else")),
        **common,
    )


def _foreach(fields: Fields, common: dict[str, Any]) -> StepSpec:
    node = fields.need("foreach", hint="write `foreach: {in: EXPRESSION, do: STEPS}`")
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("foreach", node, "an object", "write `foreach: {in: EXPRESSION, do: STEPS}`")
        return ForeachStep(items=ScalarNode("[]"), do=StepList(()), **common)
    inner = Fields(node, fields.findings, fields.at("foreach"), "foreach")
    step = ForeachStep(items=_needed(inner, "in"), do=_steps(inner, "do"), **common)
    inner.refuse_left(("in", "do"))
    return step


def _fan(fields: Fields) -> dict[str, Any]:
    parallelism = fields.whole("parallelism", 1, vocabulary.MAX_PARALLELISM)
    on_item_error = fields.choice("on_item_error", _ITEM_ERRORS)
    return {
        "parallelism": 100 if parallelism is None else parallelism,
        "on_item_error": cast("OnItemError", on_item_error or "fail"),
    }


def _map_reduce(fields: Fields, common: dict[str, Any]) -> StepSpec:
    return MapReduceStep(
        over=_needed(fields, "over"),
        map=_steps(fields, "map"),
        reduce=fields.take("reduce"),
        initial=fields.take("initial"),
        **_fan(fields),
        **common,
    )


def _parallel(fields: Fields, common: dict[str, Any]) -> StepSpec:
    node = fields.need("parallel", hint="give it a list of steps")
    branches: list[StepList] = []
    if isinstance(node, ListNode):
        if not node.items:
            fields.error(codes.NO_STEPS, "'parallel' has no branches", node.position, key="parallel")
        path = fields.at("parallel")
        branches = [read_step_list(item, fields.findings, f"{path}[{n}]") for n, item in enumerate(node.items)]
    elif node is not None:
        fields.wrong_type("parallel", node, "a list of steps")
    return ParallelStep(branches=tuple(branches), **_fan(fields), **common)


def _wait(fields: Fields, common: dict[str, Any]) -> StepSpec:
    if fields.node.entry("wait_for_input") is None:
        # the oldest clients write the kind in `kind_` and `info` beside it
        info = fields.need("info")
        return WaitStep(info=info, **common)
    node = fields.take("wait_for_input")
    if node is None:
        return WaitStep(**common)
    if not isinstance(node, MapNode):
        fields.wrong_type("wait_for_input", node, "an object", "write `wait_for_input: {info: …, schema: …}`")
        return WaitStep(**common)
    inner = Fields(node, fields.findings, fields.at("wait_for_input"), "wait_for_input")
    step = WaitStep(info=inner.take("info"), schema=inner.schema("schema"), **common)
    for key in ("deadline", "default"):
        entry = inner.entry(key)
        if entry is not None:
            inner.error(
                codes.LATER,
                f"'{key}' of wait_for_input is not available in this version",
                entry.key_position,
                key=key,
                hint="use `timeout` and `on_error` on the step",
            )
    inner.refuse_left(("info", "schema"))
    return step


def _sleep_parts(fields: Fields) -> tuple[tuple[Node, float], ...]:
    node = fields.need("sleep", hint="write `sleep: {seconds: 30}`")
    if isinstance(node, ScalarNode):
        return ((node, 1.0),)
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("sleep", node, "an object or a duration", "write `sleep: {seconds: 30}`")
        return ()
    inner = Fields(node, fields.findings, fields.at("sleep"), "sleep")
    parts: list[tuple[Node, float]] = []
    for unit, seconds in vocabulary.SLEEP_UNITS_S.items():
        amount = inner.take(unit)
        if amount is not None:
            parts.append((amount, seconds))
    if not parts and not inner.left():
        inner.error(codes.MISSING_KEY, "sleep has no duration", node.position, hint="write `sleep: {seconds: 30}`")
    inner.refuse_left(vocabulary.SLEEP_UNITS_S)
    return tuple(parts)
