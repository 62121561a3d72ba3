"""Reads the tests of a task: `NAME.test.yaml` beside the task, with line and column for everything that is wrong.

task: greet.yaml                  # default: the task file of the same name
replies: {ask: "Hello!"}          # for all cases; a case's own replies go before them
cases:
  - name: greets by name
    input: {name: Ada}
    replies: {ask: "Hello Ada!"}  # by label, step path, tool name or `prompt`; or a list for all calls in order
    answers: {sure: true}         # by label or path of the wait; or a list
    expect:
      output: {said: "Hello Ada!"}
      calls: [ask]
      assert: [len(calls) == 1, "'Ada' in calls[0].request.messages[-1].content"]
  - name: refuses nobody
    expect: {error: input.invalid}
  - name: all the names of the list
    data: names.jsonl             # a list, or a .jsonl, .json or .csv file of rows {name, input, expected, error}
    pass_rate: 0.9
  - name: a real model is polite
    input: {name: Ada}
    record: true                  # replies come from greet.cassette.json; `--record` makes it
    repeat: 5
    pass: 4
    expect: {assert: "'Ada' in result"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.core.diagnostics import Findings, Position
from engine.core.errors import DefinitionError, ExpressionSyntaxError, InvalidInput
from engine.core.lang.expression import compile_expression
from engine.core.spec import codes
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe, node_to_json, position_at
from engine.core.values import Json
from engine.source.parse import parse_source
from engine.source.python_paths import split_name
from engine.testing.data import Row, read_rows, rows_of
from engine.testing.replies import MARKS
from engine.testing.running import read_text

SUFFIXES: Final = (".test.yaml", ".test.yml", ".test.json")
TASK_SUFFIXES: Final = (".yaml", ".yml", ".json", ".py")
NAMES: Final = (
    "calls",
    "error",
    "expected",
    "input",
    "output",
    "result",
    "row",
    "seconds",
    "status",
    "steps",
    "trace",
    "waits",
)
"""What assertions see."""
STATUSES: Final = ("succeeded", "failed", "cancelled", "waiting", "refused")
FILE_KEYS: Final = ("task", "replies", "answers", "run_tools", "invent", "record", "cases")
CASE_KEYS: Final = (
    *("name", "input", "data", "replies", "answers", "expect", "record", "invent", "run_tools"),
    *("repeat", "pass", "pass_rate", "skip"),
)
EXPECT_KEYS: Final = ("output", "contains", "error", "status", "calls", "waits", "assert")
MOST_RUNS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Given:
    """A value of the file and where it stands."""

    value: Json
    position: Position


@dataclass(frozen=True, slots=True)
class Assertion:
    """An expression that must hold, and where it stands."""

    source: str
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What must come out; None = not looked at.

    Attributes:
        output: The result, equal.
        contains: Part of the result: objects by their members, everything else equal.
        error: Code of the error, or an object that it must contain.
        status: How it ends.
        calls: Labels or names of the calls in order.
        waits: Labels or paths of the waits that are open at the end.
        asserts: Expressions over NAMES.
    """

    output: Given | None = None
    contains: Given | None = None
    error: Given | None = None
    status: Given | None = None
    calls: Given | None = None
    waits: Given | None = None
    asserts: tuple[Assertion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Attributes:
        name: Its name, unique in the file.
        position: Where it starts.
        given: The input; None = the row, or an empty object.
        rows: Rows of its data set; None = it has none.
        replies: See `engine.testing.replies.Script`.
        shared: Replies of the file, for what its own leave open.
        answers: See `engine.testing.running.Answers`.
        expect: What must come out.
        record: Whether calls without a scripted reply are recorded.
        invent: Whether replies are made up.
        run_tools: Tools that really run.
        repeat: How often it runs.
        passes: How many of these runs must pass.
        pass_rate: Which part of the rows must pass, 0 to 1.
        skip: Why it is not run; empty = it is.
    """

    name: str
    position: Position
    given: Given | None = None
    rows: tuple[Row, ...] | None = None
    replies: Json = None
    shared: Json = None
    answers: Json = None
    expect: Expect = Expect()
    record: bool = False
    invent: bool = False
    run_tools: tuple[str, ...] = ()
    repeat: int = 1
    passes: int = 1
    pass_rate: float = 1.0
    skip: str = ""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file of cases.

    Attributes:
        path: The file.
        source: Its text.
        task: The task file.
        cases: Its cases.
    """

    path: Path
    source: str
    task: Path
    cases: tuple[Case, ...]

    @property
    def cassette(self) -> Path:
        """Where the recorded replies stand."""
        return self.path.with_name(f"{stem_of(self.path)}.cassette.json")


def stem_of(path: Path) -> str:
    """Return the name of a test file without its suffixes."""
    suffix = next((end for end in SUFFIXES if path.name.endswith(end)), path.suffix)
    return path.name.removesuffix(suffix)


def read_cases(path: Path) -> CaseFile:
    """Read a test file.

    Raises:
        DefinitionError: `test.invalid` with all findings.
        InvalidInput: `file.unreadable`, `test.no_task` if there is no task beside it, `test.data` for a bad data file.
    """
    source = read_text(path)
    root = parse_source(source, str(path))
    findings = Findings()
    task = Path()
    cases: tuple[Case, ...] = ()
    if isinstance(root, MapNode):
        fields = Fields(root, findings, "", "the test file")
        named = fields.text("task")
        task = _task_of(path, None if named is None else named.text)
        cases = tuple(_cases(fields, path, findings))
        fields.refuse_left(FILE_KEYS)
    else:
        message = f"a test file must be an object, not {describe(root)}"
        findings.error(codes.NOT_A_TASK, message, root.position, hint="put the cases under `cases:`")
    if findings.errors:
        first = findings.errors[0]
        count = len(findings.errors)
        raise DefinitionError(
            f"{path}: {count} error{'' if count == 1 else 's'}; first: {first.message}",
            code="test.invalid",
            hint=first.hint,
            diagnostics=findings.items,
            file=str(path),
            source=source,
        )
    return CaseFile(path, source, task, cases)


def _task_of(path: Path, named: str | None) -> Path:
    if named is not None:
        found = path.parent / named
        if split_name(found)[0].is_file():
            return found
        raise InvalidInput(
            f"{path}: the task {found} does not exist",
            code="test.no_task",
            hint="`task:` is a file name relative to the test file",
        )
    for suffix in TASK_SUFFIXES:
        found = path.with_name(stem_of(path) + suffix)
        if found.is_file():
            return found
    raise InvalidInput(
        f"{path}: there is no task beside it",
        code="test.no_task",
        hint=f"call the task {stem_of(path)}.yaml, or name it with `task:`",
    )


def _cases(fields: Fields, path: Path, findings: Findings) -> Iterator[Case]:
    shared = _replies(fields, findings)
    answers = _value(fields, "answers")
    run_tools = _words(fields, "run_tools")
    invent, record = fields.flag("invent") or False, fields.flag("record") or False
    found = fields.sequence("cases")
    if found is None or not found.items:
        fields.need("cases", hint="`cases:` is a list of {name, input, expect}")
        message = "there are no cases"
        if found is not None:
            findings.error(codes.NO_STEPS, message, found.position, path="cases")
        return
    seen: set[str] = set()
    for number, node in enumerate(found.items):
        place = f"cases[{number}]"
        if not isinstance(node, MapNode):
            findings.error(codes.WRONG_TYPE, f"a case is {describe(node)}, not an object", node.position, path=place)
            continue
        inner = Fields(node, findings, place, "the case")
        named = inner.text("name")
        name = f"case {number + 1}" if named is None else named.text
        if name in seen and named is not None:
            findings.error(codes.BAD_NAME, f"two cases are called '{name}'", named.position, path=f"{place}.name")
        seen.add(name)
        repeat = inner.whole("repeat", 1, MOST_RUNS) or 1
        skip = inner.entry("skip")
        own_replies, own_answers = _replies(inner, findings), _value(inner, "answers")
        own_invent, own_record = inner.flag("invent"), inner.flag("record")
        yield Case(
            name=name,
            position=node.position,
            given=_given(inner, "input"),
            rows=_rows(inner, path, findings),
            replies=own_replies,
            shared=shared,
            answers=answers if own_answers is None else own_answers,
            expect=_expect(inner, findings),
            record=record if own_record is None else own_record,
            invent=invent if own_invent is None else own_invent,
            run_tools=(*run_tools, *_words(inner, "run_tools")),
            repeat=repeat,
            passes=inner.whole("pass", 1, repeat) or repeat,
            pass_rate=_rate(inner),
            skip="" if skip is None else str(node_to_json(skip.value) or ""),
        )
        inner.refuse_left(CASE_KEYS)


def _rate(fields: Fields) -> float:
    rate = fields.number("pass_rate", 0, 1)
    return 1.0 if rate is None else rate


def _given(fields: Fields, key: str) -> Given | None:
    entry = fields.entry(key)
    return None if entry is None else Given(node_to_json(entry.value), entry.value.position)


def _value(fields: Fields, key: str) -> Json:
    node = fields.take(key)
    if node is None:
        return None
    if isinstance(node, ScalarNode):
        fields.wrong_type(key, node, "an object by label, or a list")
        return None
    return node_to_json(node)


def _words(fields: Fields, key: str) -> tuple[str, ...]:
    node = fields.sequence(key)
    if node is None:
        return ()
    words = [item.value for item in node.items if isinstance(item, ScalarNode) and isinstance(item.value, str)]
    if len(words) != len(node.items):
        fields.wrong_type(key, node, "a list of names")
    return tuple(words)


def _replies(fields: Fields, findings: Findings) -> Json:
    node = fields.node.get("replies")
    if node is not None:
        _check_marks(node, findings, fields.at("replies"))
    return _value(fields, "replies")


def _check_marks(node: Node, findings: Findings, path: str) -> None:
    if isinstance(node, ListNode):
        for number, item in enumerate(node.items):
            _check_marks(item, findings, f"{path}[{number}]")
    elif isinstance(node, MapNode):
        for entry in node.entries:
            if entry.key.startswith("$") and entry.key not in MARKS:
                findings.error(
                    codes.UNKNOWN_KEY,
                    f"a reply has no '{entry.key}'",
                    entry.key_position,
                    path=path,
                    hint=suggest(findings, entry.key, MARKS) or f"it may have {', '.join(MARKS)}",
                )
            _check_marks(entry.value, findings, f"{path}.{entry.key}")


def _rows(fields: Fields, path: Path, findings: Findings) -> tuple[Row, ...] | None:
    node = fields.take("data")
    if node is None:
        return None
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return tuple(read_rows(path.parent / node.value))
    if isinstance(node, ListNode):
        places = [f"{path}:{item.position.line}" for item in node.items]
        return tuple(rows_of([node_to_json(item) for item in node.items], places))
    fields.wrong_type("data", node, "a file name or a list of rows")
    return None


# --- expectations --------------------------------------------------------------------------------------------------


def _expect(fields: Fields, findings: Findings) -> Expect:
    node = fields.mapping("expect")
    if node is None:
        return Expect()
    inner = Fields(node, findings, fields.at("expect"), "`expect`")
    error = _given(inner, "error")
    if error is not None and not isinstance(error.value, (str, Mapping)):
        inner.error(codes.WRONG_TYPE, "'error' must be a code or an object", error.position, key="error")
    expect = Expect(
        output=_given(inner, "output"),
        contains=_given(inner, "contains"),
        error=error,
        status=_status(inner),
        calls=_list(inner, "calls"),
        waits=_list(inner, "waits"),
        asserts=tuple(_asserts(inner, findings)),
    )
    inner.refuse_left(EXPECT_KEYS)
    return expect


def _status(fields: Fields) -> Given | None:
    node = fields.node.get("status")
    word = fields.choice("status", STATUSES)
    return None if word is None or node is None else Given(word, node.position)


def _list(fields: Fields, key: str) -> Given | None:
    node = fields.sequence(key)
    return None if node is None else Given(node_to_json(node), node.position)


def _asserts(fields: Fields, findings: Findings) -> Iterator[Assertion]:
    node = fields.take("assert")
    if node is None:
        return
    for item in node.items if isinstance(node, ListNode) else (node,):
        if not isinstance(item, ScalarNode) or not isinstance(item.value, (str, bool)):
            fields.wrong_type("assert", item, "an expression, or a list of them", hint="put quotes around it")
            continue
        text = str(item.value)
        source = text[2:] if text.startswith("$ ") else text
        if _is_sound(source, item, len(text) - len(source), findings, fields.at("assert")):
            yield Assertion(source, item.position)


def _is_sound(source: str, node: ScalarNode, shift: int, findings: Findings, path: str) -> bool:
    try:
        problems: list[Any] = list(compile_expression(source).problems(NAMES))
    except ExpressionSyntaxError as error:
        at = position_at(node, error.offset + shift)
        findings.error(codes.BAD_EXPRESSION, error.message, at, hint=error.hint, path=path)
        return False
    for problem in problems:
        hint = problem.hint or f"assertions see {', '.join(NAMES)}"
        at = position_at(node, problem.offset + shift)
        findings.error(codes.UNKNOWN_NAME, problem.message, at, hint=hint, path=path)
    return not problems
