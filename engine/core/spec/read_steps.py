"""Reads steps: finds the kind by its marker key, takes its members, reports what does not fit. Workflow-safe."""

from __future__ import annotations

from typing import Any

from engine.core.diagnostics import Findings
from engine.core.kinds import StepKind
from engine.core.spec import codes, vocabulary
from engine.core.spec.error_codes import meant_code
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe
from engine.core.spec.parts import CheckSpec, NameSpec, RetrySpec
from engine.core.spec.read_agent import read_agent, read_cache, read_embed, read_search
from engine.core.spec.read_flow import any_value, needed, read_flow
from engine.core.spec.read_prompt import read_prompt
from engine.core.spec.read_waits import read_approve, read_event, read_sleep_parts, read_wait
from engine.core.spec.steps import (
    ErrorStep,
    EvaluateStep,
    GetStep,
    LogStep,
    ModifiersSpec,
    ReturnStep,
    SetStep,
    SleepStep,
    StepList,
    StepSpec,
    TaskStep,
    ToolCallStep,
    YieldStep,
)

_CHECK = "write `check: [{if: EXPRESSION, message: TEXT, on_fail: repair | error | ask}]`"


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
        "mods": _modifiers(fields, kind),
    }
    if kind is None:
        return EvaluateStep(value=ScalarNode(None, node.position), **common)
    fields.entry("kind_")
    if _indented_too_little(kind, fields):
        return EvaluateStep(value=ScalarNode(None, node.position), **common)
    step = _read_kind(kind, fields, common)
    _refuse_rest(kind, fields)
    return step


def _indented_too_little(kind: StepKind, fields: Fields) -> bool:
    """Report that the members of a step's marker stand beside it, as in `foreach:` with `in:` in the same column."""
    marker = vocabulary.MARKER_OF[kind]
    value = fields.node.get(marker)
    if not (isinstance(value, ScalarNode) and value.value is None):
        return False
    beside = [entry for entry in fields.node.entries if entry.key in vocabulary.INSIDE.get(kind, ())]
    if not beside:
        return False
    names = " and ".join(f"`{entry.key}`" for entry in beside)
    fields.error(
        codes.UNKNOWN_KEY,
        f"{names} {'stands' if len(beside) == 1 else 'stand'} beside `{marker}:` instead of inside of it",
        beside[0].key_position,
        key=beside[0].key,
        hint=f"indent {names} under `{marker}:`" + (" as a list of cases" if kind is StepKind.SWITCH else ""),
    )
    return True


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
        if entry.key in vocabulary.LATER_KINDS:
            reported.append(entry.key)
            fields.error(
                codes.LATER,
                f"'{entry.key}' on a step is not available in this version",
                entry.key_position,
                key=entry.key,
            )
        elif (kind, entry.key) in vocabulary.OTHER_WORDS:
            reported.append(entry.key)
            fields.error(
                codes.UNKNOWN_KEY,
                f"{fields.what} has no key '{entry.key}'",
                entry.key_position,
                key=entry.key,
                hint=vocabulary.OTHER_WORDS[kind, entry.key],
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


def _modifiers(fields: Fields, kind: StepKind | None) -> ModifiersSpec:
    on_error, undo = fields.take("on_error"), fields.take("undo")
    return ModifiersSpec(
        when=fields.take("when"),
        cache=read_cache(fields),
        retry=_retry(fields),
        timeout_s=fields.duration("timeout"),
        total_timeout_s=fields.duration("total_timeout"),
        on_error=None if on_error is None else read_step_list(on_error, fields.findings, fields.at("on_error")),
        checks=_checks(fields, kind),
        undo=None if undo is None else read_step_list(undo, fields.findings, fields.at("undo")),
    )


def _checks(fields: Fields, kind: StepKind | None) -> tuple[CheckSpec, ...]:
    node = fields.take("check")
    if node is None:
        return ()
    if kind is not None and kind not in vocabulary.CHECKED_KINDS:
        names = ", ".join(f"`{vocabulary.MARKER_OF[item]}`" for item in vocabulary.CHECKED_KINDS)
        text = f"'check' looks at a result from outside, so it stands on {names} steps only"
        fields.error(codes.CONFLICT, text, node.position, key="check", hint="use `if:` and `error:` here")
        return ()
    found: list[CheckSpec] = []
    for index, item in enumerate(node.items if isinstance(node, ListNode) else (node,)):
        if not isinstance(item, MapNode):
            fields.wrong_type("check", item, "a list of objects", _CHECK)
            continue
        inner = Fields(item, fields.findings, f"{fields.at('check')}[{index}]", "the check")
        condition = inner.need("if", hint="say what must hold, such as `if: len(_) < 500`")
        message, on_fail = inner.take("message"), inner.choice("on_fail", vocabulary.ON_FAIL)
        if on_fail == "repair" and kind not in (*vocabulary.REPAIRING_KINDS, None):
            text = "only a model can repair its reply; a tool's result can fail (`error`) or be shown (`ask`)"
            inner.error(codes.CONFLICT, text, item.position, key="on_fail")
        if condition is not None:
            found.append(CheckSpec(condition=condition, message=message, on_fail=on_fail))
        inner.refuse_left(("if", "message", "on_fail"))
    return tuple(found)


def _retry(fields: Fields) -> RetrySpec | None:
    node = fields.take("retry")
    if node is None:
        return None
    if not isinstance(node, MapNode):
        fields.wrong_type("retry", node, "an object", "write `retry: {attempts: 3}`")
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
            meant = meant_code(item.value)
            if meant:
                message = f"the engine has no error code '{item.value[:60]}'"
                at, hint = item.position, f"did you mean '{meant}'?"
                inner.findings.warn(codes.MISSPELT, message, at, hint=hint, path=inner.at("on"))
        else:
            inner.wrong_type("on", item, "an error code or a list of them", "such as backend.rate_limited or tool")
    return tuple(found)


def _task(fields: Fields, common: dict[str, Any]) -> StepSpec:
    task = fields.text("task") if needed(fields, "task", keep=True) is not None else None
    version = fields.whole("version", 1, vocabulary.MAX_TASK_VERSION)
    if task is not None and version is not None and "@" in task.text:
        message = f"'{task.text}' names a version, and 'version' does as well"
        fields.error(codes.CONFLICT, message, task.position, key="version", hint="leave one of them out")
    return TaskStep(task=task or NameSpec(""), version=version, arguments=fields.take("arguments"), **common)


def _read_kind(kind: StepKind, fields: Fields, common: dict[str, Any]) -> StepSpec:
    match kind:
        case StepKind.EVALUATE:
            return EvaluateStep(value=any_value(fields, "evaluate"), **common)
        case StepKind.RETURN:
            return ReturnStep(value=any_value(fields, "return"), **common)
        case StepKind.SET:
            return SetStep(values=needed(fields, "set"), **common)
        case StepKind.GET:
            return GetStep(key=needed(fields, "get"), **common)
        case StepKind.ERROR:
            return ErrorStep(message=needed(fields, "error"), **common)
        case StepKind.PROMPT:
            return read_prompt(fields, common)
        case StepKind.AGENT:
            return read_agent(fields, common)
        case StepKind.EMBED:
            return read_embed(fields, common)
        case StepKind.SEARCH:
            return read_search(fields, common)
        case StepKind.TOOL_CALL:
            tool = fields.text("tool") if needed(fields, "tool", keep=True) is not None else None
            return ToolCallStep(tool=tool or NameSpec(""), arguments=fields.take("arguments"), **common)
        case StepKind.YIELD:
            workflow = fields.text("workflow") if needed(fields, "workflow", keep=True) is not None else None
            return YieldStep(workflow=workflow or NameSpec(""), arguments=fields.take("arguments"), **common)
        case StepKind.TASK:
            return _task(fields, common)
        case StepKind.LOG:
            return LogStep(message=any_value(fields, "log"), **common)
        case StepKind.WAIT_FOR_INPUT:
            return read_wait(fields, common)
        case StepKind.APPROVE:
            return read_approve(fields, common)
        case StepKind.WAIT_FOR_EVENT:
            return read_event(fields, common)
        case StepKind.SLEEP:
            return SleepStep(parts=read_sleep_parts(fields), **common)
        case _:
            return read_flow(kind, fields, common, read_step_list)
