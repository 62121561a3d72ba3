"""Runs the cases of a test file: every row of a data set, every repetition, scripted, recorded or for real."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from engine.core.errors import EngineError, InvalidInput
from engine.core.plan.ir import Plan
from engine.core.values import Json
from engine.testing.cases import Case, CaseFile, Expect, Given, read_cases
from engine.testing.checks import Miss, fill, misses_of
from engine.testing.data import Row
from engine.testing.recording import CallProcess, Cassette, Player, Recorder, load_cassette
from engine.testing.replies import RealTools, Script, Source, invented
from engine.testing.running import TaskRun, catalog_for, compile_file, run_plan
from engine.tooling.catalog import ToolCatalog


class Runner(Protocol):
    """Runs a plan once; in memory by default, but another may make the same cases hold for a server."""

    def __call__(self, plan: Plan, given: Json, *, replies: Json, answers: Json, sources: Sequence[Source]) -> TaskRun:
        """See `run_plan`."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a suite is run.

    Attributes:
        project: The everstep.toml that counts; None = the one beside the task, else the one here.
        match: Only cases whose name holds this text; of a case whose name does not, the rows whose names do.
        process: Makes real calls; None = none are made.
        record: Keep the real replies in the cassette.
        runner: Runs the task.
    """

    project: Path | None = None
    match: str = ""
    process: CallProcess | None = None
    record: bool = False
    runner: Runner = run_plan


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run of a case.

    Attributes:
        name: Row and number of the run; empty if the case has only one.
        place: `file:line` of the row; empty without a data set.
        misses: What was not as expected.
        run: What happened; None if it could not be run.
    """

    name: str
    place: str
    misses: list[Miss]
    run: TaskRun | None = None


@dataclass(frozen=True, slots=True)
class CaseReport:
    """A case after all its runs.

    Attributes:
        case: The case.
        runs: Its runs.
        passed: How many rows passed (or 1 or 0 without a data set).
        needed: How many had to.
        seconds: How long it took by the clock on the wall.
    """

    case: Case
    runs: list[RunReport] = field(default_factory=list)
    passed: int = 0
    needed: int = 1
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return self.skipped or self.passed >= self.needed

    @property
    def skipped(self) -> bool:
        """Whether it was not run."""
        return bool(self.case.skip)


@dataclass(frozen=True, slots=True)
class FileReport:
    """A test file after all its cases."""

    file: Path
    task: Path
    cases: list[CaseReport]

    @property
    def ok(self) -> bool:
        """Whether all its cases passed."""
        return all(case.ok for case in self.cases)


def run_file(path: Path, options: Options = Options()) -> FileReport:
    """Run the cases of a test file.

    Args:
        path: The test file.
        options: How.

    Raises:
        DefinitionError: The test file or the task is wrong.
        InvalidInput: A file cannot be read, or the recording is none.
    """
    file = read_cases(path)
    catalog = catalog_for(file.task, options.project)
    plan = compile_file(file.task, catalog.contracts())
    cassette = load_cassette(file.cassette)
    bench = _Bench(plan, catalog, cassette, file, options)
    wanted = [(case, _wanted_rows(case, options.match.lower())) for case in file.cases]
    reports = [_run_case(case, rows, bench) for case, rows in wanted if rows is not None]
    if options.record and options.process is not None:
        _forget_gone(cassette, file)
        cassette.save()
    return FileReport(path, file.task, reports)


def _forget_gone(cassette: Cassette, file: CaseFile) -> None:
    names = {case.name for case in file.cases if case.record}
    cassette.cases = {name: runs for name, runs in cassette.cases.items() if name in names}


# --- one case ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all cases of a file share."""

    plan: Plan
    catalog: ToolCatalog
    cassette: Cassette
    file: CaseFile
    options: Options


def _wanted_rows(case: Case, match: str) -> list[tuple[Row | None, str]] | None:
    """Return the rows of a case that are to be run, with their names; a case without data has one that is None.

    A case of which nothing is to be run gives None: one without rows that was asked for must not pass unseen.
    """
    rows: tuple[Row | None, ...] = (None,) if case.rows is None else case.rows
    named = list(zip(rows, _row_names(case), strict=True))
    if match in case.name.lower():
        return named
    return [(row, name) for row, name in named if match in name.lower()] or None


def _run_case(case: Case, rows: Sequence[tuple[Row | None, str]], bench: _Bench) -> CaseReport:
    if case.skip:
        return CaseReport(case)
    began = time.perf_counter()
    if case.record and bench.options.record:
        # rows that are left out this time keep what was recorded for them
        whole = case.rows is None or len(rows) == len(case.rows)
        kept = {} if whole else bench.cassette.cases.get(case.name, {})
        bench.cassette.cases[case.name] = dict(kept)
    reports: list[RunReport] = []
    passed = 0
    for row, name in rows:
        made = [_run_once(case, row, key, bench) for key in _keys(name, case.repeat)]
        passed += sum(not report.misses for report in made) >= case.passes
        reports += made
    needed = max(1, -int(-case.pass_rate * len(rows) // 1)) if case.rows is not None else 1
    return CaseReport(case, reports, passed, needed, time.perf_counter() - began)


def _row_names(case: Case) -> list[str]:
    """Return what the rows are called in reports and recordings: their own names, or else numbers."""
    if case.rows is None:
        return [""]
    names = [str(row.values.get("name") or "") for row in case.rows]
    # a name that several rows have would mix up their recordings
    return [name if name and names.count(name) == 1 else f"row {index + 1}" for index, name in enumerate(names)]


def _keys(row: str, repeat: int) -> Iterator[str]:
    """Yield the names of the runs of a row; empty for the only run of a case."""
    for number in range(repeat):
        yield ", ".join(part for part in (row, f"run {number + 1}" if repeat > 1 else "") if part)


def _run_once(case: Case, row: Row | None, name: str, bench: _Bench) -> RunReport:
    place = "" if row is None else row.place
    env: dict[str, Json] = {"row": None if row is None else row.values, "expected": _expected(row)}
    try:
        given, replies, shared, answers = _inputs(case, row, env)
        expect = _expect_of(case, row, env)
        env["input"] = given
        run = _run(case, name, bench, given, replies, shared, answers)
    except EngineError as error:
        miss = Miss("the case", case.position, "to be run", f"error[{error.code}]: {error.message}")
        return RunReport(name, place, [miss])
    env |= {"result": run.output, "output": run.output, "error": run.error, "status": run.status}
    env |= {"calls": run.calls, "steps": run.steps, "trace": run.trace, "waits": run.waits, "seconds": run.seconds}
    return RunReport(name, place, misses_of(run, expect, env), run)


def _expected(row: Row | None) -> Json:
    return None if row is None else row.values.get("expected")


def _inputs(case: Case, row: Row | None, env: Mapping[str, Any]) -> tuple[Json, Json, Json, Json]:
    """Return input, own replies, shared replies and answers; with a data set their expressions are computed."""
    if row is None:
        given = {} if case.given is None else case.given.value
        return given, case.replies or (), case.shared or (), case.answers or ()
    given = row.given if case.given is None else fill(case.given.value, env)
    # what the case says for all rows need not be asked for by each of them
    shared = fill(case.replies, env) or {}
    if isinstance(shared, dict) and isinstance(case.shared, dict):
        shared = {**case.shared, **shared}
    answers = row.values.get("answers") or fill(case.answers, env) or ()
    return given, row.values.get("replies") or (), shared or case.shared or (), answers


def _expect_of(case: Case, row: Row | None, env: Mapping[str, Any]) -> Expect:
    if row is None:
        return case.expect
    expect = case.expect
    expect = replace(
        expect,
        output=_filled(expect.output, env),
        contains=_filled(expect.contains, env),
        error=_filled(expect.error, env),
        calls=_filled(expect.calls, env),
        waits=_filled(expect.waits, env),
    )
    if expect == Expect() or expect == Expect(asserts=expect.asserts):
        if row.values.get("error"):
            expect = replace(expect, error=Given(row.values["error"], case.position))
        elif "expected" in row.values and not expect.asserts:
            expect = replace(expect, output=Given(row.values["expected"], case.position))
    return expect


def _filled(given: Given | None, env: Mapping[str, Any]) -> Given | None:
    return None if given is None else Given(fill(given.value, env), given.position)


def _run(case: Case, key: str, bench: _Bench, given: Json, replies: Json, shared: Json, answers: Json) -> TaskRun:
    sources: list[Source] = [Script(shared), RealTools(bench.catalog, case.run_tools)]
    process, recorder, player = bench.options.process, None, None
    if case.record and process is not None:
        recorder = Recorder(process)
        sources.append(recorder)
    elif case.record:
        recorded = bench.cassette.cases.get(case.name, {}).get(key)
        if recorded is None:
            run_name = f" ({key})" if key else ""
            raise InvalidInput(
                f"nothing is recorded for '{case.name}'{run_name} in {bench.cassette.path}; use --record",
                code="test.not_recorded",
                hint="record it with `everstep test --record`",
            )
        player = Player(recorded)
        sources.append(player)
    if case.invent:
        sources.append(invented)
    run = bench.options.runner(bench.plan, given, replies=replies, answers=answers, sources=sources)
    if recorder is not None and bench.options.record:
        bench.cassette.cases[case.name][key] = recorder.calls
    if player is not None:
        run.problems += player.problems
    return run
