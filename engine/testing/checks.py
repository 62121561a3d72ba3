"""Compares what a run gave with what a case expects, and says for each miss what was expected and what came."""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.core.diagnostics import Position
from engine.core.errors import EngineError
from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression
from engine.core.lang.template import compile_template, is_template
from engine.core.values import Json, compact_json
from engine.dryrun.effects import START_US
from engine.testing.cases import Assertion, Expect, Given
from engine.testing.running import TaskRun

MAX_SHOWN_CHARS = 300
MOST_PLACES = 10
OF_THE_TEST = ("test.no_reply", "test.stale")
"""Errors of a run that are the test's own fault."""
_NOW = dt.datetime.fromtimestamp(START_US / 1e6, dt.UTC)


@dataclass(frozen=True, slots=True)
class Miss:
    """Something that is not as expected.

    Attributes:
        what: What was looked at, such as `output.total` or an assertion.
        position: Where the expectation stands; None = it stands nowhere, such as that of success.
        expected: What was expected, for a person; empty if `got` says it all.
        got: What came, for a person.
    """

    what: str
    position: Position | None
    expected: str
    got: str

    def to_json(self) -> dict[str, Json]:
        """Return {what, line, column, expected, got}."""
        return {
            "what": self.what,
            "line": None if self.position is None else self.position.line,
            "column": None if self.position is None else self.position.column,
            "expected": self.expected,
            "got": self.got,
        }


def shown(value: Json) -> str:
    """Return a value on one line, cut to a bearable length."""
    text = compact_json(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}… ({len(text)} characters)"


def evaluate(source: str, env: Mapping[str, Any]) -> Json:
    """Evaluate an expression of a test.

    Raises:
        EngineError: It cannot be compiled or evaluated.
    """
    return compile_expression(source).evaluate(env, EvalContext(now=_NOW, seed="test"))


def fill(value: Json, env: Mapping[str, Any]) -> Json:
    """Compute the expressions (`$ row.x`) and templates in a value of a case that has a data set.

    Raises:
        EngineError: One of them fails.
    """
    if isinstance(value, str):
        if value.startswith("$ "):
            return evaluate(value[2:], env)
        if is_template(value):
            return compile_template(value).render(env, EvalContext(now=_NOW, seed="test"))
        return value
    if isinstance(value, list):
        return [fill(item, env) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, env) for key, item in value.items()}
    return value


def misses_of(run: TaskRun, expect: Expect, env: Mapping[str, Any]) -> list[Miss]:
    """Return what is not as expected.

    Args:
        run: What happened.
        expect: What was expected, with nothing left to compute.
        env: What assertions see.
    """
    found = [Miss("the test", None, "", item) for item in run.problems]
    if found and run.error is not None and run.error.get("code") in OF_THE_TEST:
        # all that follows from a missing reply would only hide it
        return found
    found += _status_misses(run, expect)
    if run.status == "succeeded":
        if expect.output is not None:
            found += differences(expect.output.value, run.output, "output", expect.output.position)
        if expect.contains is not None:
            found += differences(expect.contains.value, run.output, "output", expect.contains.position, part=True)
    elif (expect.output or expect.contains) and not found:
        found.append(Miss("status", None, "succeeded", _ended(run)))
    if expect.error is not None and run.error is not None:
        found += _error_misses(run.error, expect.error)
    if expect.calls is not None:
        found += _name_misses("calls", [_call_names(call) for call in run.calls], expect.calls)
    if expect.waits is not None:
        found += _name_misses("waits", [_wait_names(wait) for wait in run.waits], expect.waits)
    for item in expect.asserts:
        found += _assertion_misses(item, env)
    return found


def _ended(run: TaskRun) -> str:
    if run.error is not None:
        place = f" at {run.error['step']}" if run.error.get("step") else ""
        return f"{run.status}{place}: error[{run.error.get('code')}]: {run.error.get('message')}"
    if run.waits:
        return f"waiting at {', '.join(str(wait.get('label') or wait['wait_id']) for wait in run.waits)}"
    return run.status


def _status_misses(run: TaskRun, expect: Expect) -> Iterator[Miss]:
    if expect.status is not None:
        if run.status != expect.status.value:
            yield Miss("status", expect.status.position, str(expect.status.value), _ended(run))
    elif expect.error is not None:
        if run.status not in ("failed", "refused"):
            got = f"{run.status} with {shown(run.output)}" if run.status == "succeeded" else _ended(run)
            yield Miss("error", expect.error.position, shown(expect.error.value), got)
    elif expect.waits is not None and expect.waits.value:
        if run.status != "waiting":
            yield Miss("status", expect.waits.position, "waiting", _ended(run))
    elif run.status != "succeeded":
        yield Miss("status", None, "succeeded", _ended(run))


def _error_misses(error: Mapping[str, Any], expected: Given) -> Iterator[Miss]:
    if isinstance(expected.value, str):
        code = str(error.get("code"))
        # a family of codes is named by its first words
        if code != expected.value and not code.startswith(f"{expected.value}."):
            yield Miss("error.code", expected.position, expected.value, f"{code}: {error.get('message')}")
        return
    yield from differences(expected.value, dict(error), "error", expected.position, part=True)


def _call_names(call: Mapping[str, Json]) -> tuple[str, ...]:
    return str(call["label"]), str(call["path"]), str(call["name"]), str(call["kind"])


def _wait_names(wait: Mapping[str, Json]) -> tuple[str, ...]:
    return str(wait.get("label") or wait["wait_id"]), str(wait["wait_id"])


def _name_misses(what: str, got: list[tuple[str, ...]], expected: Given) -> Iterator[Miss]:
    fits = len(got) == len(expected.value) and all(
        str(name) in names for name, names in zip(expected.value, got, strict=True)
    )
    if not fits:
        yield Miss(what, expected.position, shown(expected.value), shown([names[0] for names in got]))


# --- values --------------------------------------------------------------------------------------------------------


def differences(expected: Json, got: Json, place: str, position: Position, *, part: bool = False) -> list[Miss]:
    """Return the places at which two values differ, at most ten.

    Args:
        expected: What was expected.
        got: What came.
        place: Name of the value.
        position: Where the expectation stands.
        part: Whether an object may have members that were not expected.
    """
    found: list[Miss] = []
    for where, want, have in _places(expected, got, place, part=part):
        found.append(Miss(where, position, want, have))
        if len(found) == MOST_PLACES:
            break
    return found


def _places(expected: Json, got: Json, place: str, *, part: bool) -> Iterator[tuple[str, str, str]]:
    if isinstance(expected, dict) and isinstance(got, dict):
        for key, value in expected.items():
            if key in got:
                yield from _places(value, got[key], f"{place}.{key}", part=part)
            else:
                yield f"{place}.{key}", shown(value), "nothing"
        if not part:
            for key in got:
                if key not in expected:
                    yield f"{place}.{key}", "nothing", shown(got[key])
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{place}", f"{len(expected)} items: {shown(expected)}", f"{len(got)} items: {shown(got)}"
            return
        for number, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from _places(one, other, f"{place}[{number}]", part=part)
    elif not _same(expected, got):
        yield place, shown(expected), shown(got)


def _same(expected: Json, got: Json) -> bool:
    # true is not 1 in JSON, though Python says so
    return isinstance(expected, bool) == isinstance(got, bool) and bool(expected == got)


# --- assertions ----------------------------------------------------------------------------------------------------


def _assertion_misses(item: Assertion, env: Mapping[str, Any]) -> Iterator[Miss]:
    try:
        holds = bool(evaluate(item.source, env))
    except EngineError as error:
        yield Miss(item.source, item.position, "true", f"error[{error.code}]: {error.message}")
        return
    if not holds:
        yield Miss(item.source, item.position, "true", "; ".join(_parts(item.source, env)) or "false")


def _parts(source: str, env: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values of the parts that made a condition false."""
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        return
    text = source.strip()
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        for part in tree.values:
            inner = ast.get_source_segment(text, part) or ""
            if not _holds(inner, env):
                yield from [f"`{inner}` is false", *_parts(inner, env)]
                return
    elif isinstance(tree, ast.Compare):
        for part in (tree.left, *tree.comparators):
            if not isinstance(part, ast.Constant):
                yield _told(ast.get_source_segment(text, part) or "", env)
    elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
        yield _told(ast.get_source_segment(text, tree.operand) or "", env)
    elif isinstance(tree, ast.Call) and len(tree.args) == 1:
        yield _told(ast.get_source_segment(text, tree.args[0]) or "", env)


def _holds(source: str, env: Mapping[str, Any]) -> bool:
    try:
        return bool(evaluate(source, env))
    except EngineError:
        return False


def _told(source: str, env: Mapping[str, Any]) -> str:
    try:
        return f"{source} = {shown(evaluate(source, env))}"
    except EngineError as error:
        # a part of a comprehension means nothing outside of it
        return f"{source}: {error.message}"
