"""Runs a task in memory for a test and tells what happened: result, error, steps, calls, waits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.author.task import Task
from engine.control.compiling import Compiled, compile_text, compile_tree
from engine.control.tools import load_catalog
from engine.core.diagnostics import did_you_mean
from engine.core.errors import DefinitionError, InvalidInput
from engine.core.kinds import EventType
from engine.core.plan.ir import Plan, ToolContract
from engine.core.plan.planned import refuse_planned
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.projection import is_listening
from engine.core.run.require import unmet_requirements
from engine.core.schemas import value_problems
from engine.core.values import Json, canonical_json
from engine.dryrun.effects import START_US, Answer, Answered
from engine.dryrun.running import DryRun, run_in_memory
from engine.obs.logs import lines_to_stderr
from engine.settings import PROJECT_FILE, load_project
from engine.source.python_paths import is_python, split_name
from engine.source.python_reader import read_python_task
from engine.source.task_text import read_task_text
from engine.testing.replies import RealTools, Replies, Script, Source, invented
from engine.tooling.catalog import ToolCatalog
from engine.tooling.definition import Tool


@dataclass(slots=True)
class TaskRun:
    """How a task ran.

    Attributes:
        status: `succeeded`, `failed`, `cancelled`, `waiting` (nobody gives the answer) or `refused` (the input).
        output: The result.
        error: {code, message, step, …} if it failed or was refused.
        calls: Prompts and tool calls in order: {path, label, kind, name, attempt, request, reply, error}.
        steps: Last output of every labelled step.
        trace: Events in order: {seq, type, at, …}, `at` in seconds from the start.
        waits: Waits that were open at the end: {wait_id, label, info, schema}.
        seconds: Length of the run by the virtual clock.
        problems: What was wrong with the test itself: calls without a reply, answers that were refused.
    """

    status: str
    output: Json = None
    error: dict[str, Any] | None = None
    calls: list[dict[str, Json]] = field(default_factory=list)
    steps: dict[str, Json] = field(default_factory=dict)
    trace: list[dict[str, Json]] = field(default_factory=list)
    waits: list[dict[str, Json]] = field(default_factory=list)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def result(self) -> Json:
        """The result of a run that succeeded.

        Raises:
            AssertionError: It did not succeed, or the test left a call without a reply.
        """
        if self.status != "succeeded" or self.problems:
            raise AssertionError(self.summary())
        return self.output

    def summary(self) -> str:
        """Return how the run ended, in a few lines for a person."""
        lines = [f"the task is {self.status}", *self.problems]
        if self.error is not None:
            lines.append(f"error[{self.error.get('code')}]: {self.error.get('message')}")
            if self.error.get("step"):
                lines.append(f"at step {self.error['step']}")
        lines += [f"it waits at {wait.get('label') or wait['wait_id']}" for wait in self.waits]
        made = ", ".join(f"{call['kind']} {call['label']}" for call in self.calls)
        return "\n  ".join([*lines, f"calls: {made or 'none'}"])


# --- answers -------------------------------------------------------------------------------------------------------


class Answers:
    """Answers to waits: by label, path, name of the event or inbox, or in the order in which the waits open.

    Args:
        given: An object of answers by name (a list is used up item by item), or a list for all waits. An answer
            {$answer: VALUE, $after: SECONDS} comes later, and {$cancel: REASON} cancels the execution. For a step that
            listens they are messages, by label or name of the inbox; {$message: VALUE, $after: SECONDS, $busy: POLICY}
            comes so long after the message before it, also while a turn runs.
    """

    def __init__(self, given: Mapping[str, Json] | Sequence[Json]) -> None:
        self._order: list[Json] | None = None
        self._table: dict[str, list[Json]] = {}
        if isinstance(given, Mapping):
            self._table = {key: list(value) if isinstance(value, list) else [value] for key, value in given.items()}
        else:
            self._order = list(given)
        self._opened: list[str] = []

    def __call__(self, wait: Mapping[str, Json]) -> Answer | None:
        """Answer a wait that was opened."""
        names = [str(wait.get(key)) for key in ("label", "wait_id", "path") if wait.get(key)]
        info = wait.get("info")
        if isinstance(info, dict) and "event" in info:
            names.append(str(info["event"]))
        if is_listening(info):
            names.append(str(info["messages"]))
        self._opened += names
        if self._order is not None:
            return _next(self._order) if self._order else None
        for name in names:
            if self._table.get(name):
                return _next(self._table[name])
        return None

    def problems(self) -> list[str]:
        """Say which answers nobody waited for."""
        left = len(self._order or ())
        if left:
            return [f"{left} of the answers {'was' if left == 1 else 'were'} never waited for"]
        return [
            f"the answer '{name}' was never waited for; {did_you_mean(name, self._opened)}".rstrip("; ")
            for name, rest in self._table.items()
            if rest
        ]


def _next(given: list[Json]) -> Answer:
    """Take the next answer, and the messages that come after it by themselves."""
    first = _answer(given.pop(0))
    then: list[Answer] = []
    while given and isinstance(item := given[0], dict) and "$message" in item:
        then.append(_answer(given.pop(0)))
    return replace(first, then=tuple(then))


def _answer(given: Json) -> Answer:
    if isinstance(given, dict) and "$message" in given:
        return Answer(given["$message"], float(given.get("$after", 0)), busy=str(given.get("$busy") or ""))
    if isinstance(given, dict) and "$answer" in given:
        return Answer(given["$answer"], float(given.get("$after", 0)))
    if isinstance(given, dict) and "$cancel" in given:
        return Answer(given["$cancel"], float(given.get("$after", 0)), is_cancel=True)
    return Answer(given)


# --- one run -------------------------------------------------------------------------------------------------------


def run_plan(
    plan: Plan,
    given: Json,
    *,
    replies: Mapping[str, Json] | Sequence[Json] = (),
    answers: Mapping[str, Json] | Sequence[Json] = (),
    sources: Sequence[Source] = (),
    clock_us: int = START_US,
) -> TaskRun:
    """Run a plan in memory on a virtual clock: sleeps and pauses take no time.

    Args:
        plan: The plan.
        given: The input.
        replies: See `Script`.
        answers: See `Answers`.
        sources: What answers calls that the replies leave open, in order.
        clock_us: Time at which it starts, Unix microseconds.

    Raises:
        CompileError: `task.not_runnable` if something of the plan cannot be run yet.
    """
    refuse_planned(plan)
    try:
        check_input(plan, given, clock_us)
    except InvalidInput as error:
        return TaskRun("refused", error={"code": error.code, "message": error.message})
    script, told = Script(replies), Answers(answers)
    handler = Replies([script, *sources])
    ran = run_in_memory(plan, given, handler, answerer=told, clock_us=clock_us, on_refused=handler.refused)
    run = tell_run(ran, clock_us)
    run.calls = [call.to_json() for call in handler.calls]
    run.problems = [
        *handler.unanswered,
        *script.problems(handler.calls),
        *told.problems(),
        *run.problems,
    ]
    return run


def check_input(plan: Plan, given: Json, clock_us: int = START_US) -> None:
    """Compare an input with the schema and the conditions of a plan.

    Raises:
        InvalidInput: `input.invalid`, `input.requirement`.
    """
    problems, code = value_problems(given, plan.input_schema, whole="input"), "input.invalid"
    if not problems:
        problems, code = unmet_requirements(plan, given, now_us=clock_us), "input.requirement"
    if problems:
        raise InvalidInput("; ".join(problems), code=code)


def tell_run(ran: DryRun, clock_us: int = START_US) -> TaskRun:
    """Return what a run in memory gave, in the words of tests."""
    run = TaskRun("waiting")
    if ran.finished is not None:
        outcome = ran.finished.outcome
        if isinstance(outcome, Ok):
            run.status, run.output = "succeeded", outcome.value
        elif isinstance(outcome, Failed):
            run.status, run.error = "failed", outcome.error.to_json()
        else:
            run.status = "cancelled"
    waits: dict[str, dict[str, Json]] = {}
    for event in ran.events:
        body = event.body
        run.trace.append({"seq": event.seq, "type": event.type, "at": (event.now_us - clock_us) / 1e6, **body})
        if event.type == EventType.ERROR.value and run.error is not None:
            run.error = body["error"]
        elif event.type == EventType.WAIT.value:
            waits[str(body["wait_id"])] = {key: body.get(key) for key in ("wait_id", "label", "info", "schema")}
        elif event.type == EventType.ANSWER_REFUSED.value:
            run.problems.append(f"the answer for {body.get('wait_id')} was refused: {body.get('message')}")
        elif event.type == EventType.MESSAGE_TAKEN.value and body.get("code") == "input.rejected":
            run.problems.append(f"a message to '{body.get('name')}' was refused: {body.get('message')}")
        elif body.get("label") and "output" in body:
            run.steps[str(body["label"])] = body["output"]
    if ran.events:
        run.seconds = (ran.events[-1].now_us - clock_us) / 1e6
    run.waits = [waits.get(name, {"wait_id": name}) for name in ran.waits]
    return run


# --- the helper for pytest -----------------------------------------------------------------------------------------


def run_task(
    task: str | Path | Mapping[str, Any] | Task,
    given: Json = None,
    *,
    replies: Mapping[str, Json] | Sequence[Json] | Callable[[Call], Answered | None] = (),
    answers: Mapping[str, Json] | Sequence[Json] = (),
    tools: Sequence[Tool[..., Any]] = (),
    run_tools: Sequence[str] = (),
    invent: bool = False,
    project: Path | None = None,
) -> TaskRun:
    """Run a task in memory: no server, no model, no waiting. Made for pytest.

        def test_greets():
            run = run_task("greet.yaml", {"name": "Ada"}, replies={"ask": "Hello Ada!"})
            assert run.result == "Hello Ada!"
            assert run.calls[0]["request"]["messages"][-1]["content"] == "Say hello to Ada"

    Args:
        task: A file (`greet.yaml`, `tasks.py:greet`), the text of a task, a task as JSON, or a `Task`.
        given: The input.
        replies: Replies to prompts and tools by step label, step path, tool name or `prompt`, or a list for all calls
            in their order; an object {"$error": CODE} is a failure. Or a function of the call.
        answers: Answers to waits by label or path, or a list in the order in which they open.
        tools: Python tools that the task may name, beside those of the project's everstep.toml.
        run_tools: Tools that really run although they read or write; those of effect `none` always do.
        invent: Make up what has no reply, instead of failing.
        project: The everstep.toml that counts; None = the one beside the file, else the one here.

    Returns:
        What happened; `run.result` is the output, and raises if there is none.

    Raises:
        DefinitionError: The task is wrong.
        InvalidInput: The file or the project cannot be read.
    """
    file = Path(task) if isinstance(task, Path) or (isinstance(task, str) and not _is_text(task)) else None
    catalog = catalog_for(file or Path("task"), project)
    named = catalog.with_tools(tools)
    try:
        plan = compile_any(task if file is None else file, named.contracts())
    except DefinitionError as error:
        raise DefinitionError(
            f"{error.message}\n{error.render()}",
            code=error.code,
            hint=error.hint,
            diagnostics=error.diagnostics,
            file=error.file,
            source=error.source,
        ) from None
    own: list[Source] = [replies] if callable(replies) else []
    made_up: list[Source] = [invented] if invent else []
    sources: list[Source] = [*own, RealTools(named, run_tools), *made_up]
    return run_plan(plan, given, replies=() if callable(replies) else replies, answers=answers, sources=sources)


def _is_text(task: str) -> bool:
    """Return whether a text is a task and not the name of its file, which a task in one line might pass for."""
    return "\n" in task or task.lstrip().startswith("{") or re.search(r"(?:^|\s)\w+:\s", task) is not None


def compile_any(
    task: str | Path | Mapping[str, Any] | Task, contracts: Mapping[str, ToolContract], *, name: str = "task"
) -> Plan:
    """Compile a task file, the text of a task, a task as JSON, or a `Task`.

    Args:
        task: The task.
        contracts: The tools that it may name.
        name: Name of a `Task` that has none of its own.

    Raises:
        DefinitionError: The task is wrong, or cannot be run.
    """
    if isinstance(task, Path):
        return compile_file(task, contracts)
    if isinstance(task, Task):
        root = task.to_node(task.name or name)
        return _to_run(compile_tree(root, source="", file=task.name or name, contracts=contracts))
    text = task if isinstance(task, str) else canonical_json(dict(task))
    return _to_run(compile_text(text, file="task", contracts=contracts))


def _to_run(compiled: Compiled) -> Plan:
    compiled.check_runs()
    return compiled.plan


def compile_file(path: Path, contracts: Mapping[str, ToolContract]) -> Plan:
    """Compile a task file; a Python file is run for it.

    Raises:
        DefinitionError: The task is wrong, or cannot be run; with file and source, so that places can be shown.
        InvalidInput: `file.unreadable`.
    """
    if is_python(path):
        made = read_python_task(path)
        return _to_run(compile_tree(made.root, source=made.source, file=made.file, contracts=contracts))
    return _to_run(compile_text(read_task_text(path), file=str(path), contracts=contracts))


def read_text(path: Path) -> str:
    """Read a file.

    Raises:
        InvalidInput: `file.unreadable`.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput(f"{path} cannot be read: {reason}", code="file.unreadable") from error


def catalog_for(file: Path, project: Path | None) -> ToolCatalog:
    """Return the Python tools of the project that a task file belongs to.

    Raises:
        InvalidInput: `config.…` if everstep.toml or one of its modules is wrong.
    """
    if project is None:
        beside = split_name(file)[0].parent / PROJECT_FILE
        project = beside if beside.is_file() else Path(PROJECT_FILE)
    lines_to_stderr()
    return load_catalog(load_project(project))
