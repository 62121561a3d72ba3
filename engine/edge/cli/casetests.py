"""The command `test`: runs the tests that stand beside tasks, in memory, or records real replies for them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.core.errors import DefinitionError, EngineError, InvalidInput
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import ProjectFile
from engine.edge.cli.output import as_json, note, report_error, write

if TYPE_CHECKING:
    from engine.testing.suite import FileReport

DATA_DIR = Path(".everstep")


class ReportMode(StrEnum):
    """How the outcome of tests is printed."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


def run_tests(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Test files or folders; default: this folder.")
    ] = None,
    match: Annotated[str, typer.Option("-k", help="Only cases, or rows of data, whose name holds this text.")] = "",
    record: Annotated[
        bool, typer.Option("--record", help="Make the calls of `record: true` cases for real and keep the replies.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Make the calls of `record: true` cases for real and keep nothing.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="File of earlier pass rates: a case that falls below fails.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=1, help="How far a pass rate may fall below the baseline.")
    ] = 0.0,
    save_baseline: Annotated[
        Path | None, typer.Option("--save-baseline", help="Write the pass rates of this run into a file.")
    ] = None,
    project: ProjectFile = None,
    output: Annotated[
        ReportMode, typer.Option("--output", "-o", help="How to print: text, json or junit.")
    ] = ReportMode.TEXT,
) -> None:
    """Run the tests of tasks (NAME.test.yaml beside NAME.yaml) in memory; exit 1 if one fails, 2 if one is wrong."""
    from engine.edge.cli.taskfiles import find_tests
    from engine.testing.recording import CallProcess
    from engine.testing.suite import Options, run_file

    if record and live:
        raise InvalidInput("--record and --live exclude each other", code="usage", hint="--record keeps the replies")
    files = find_tests(paths or [Path()])
    began = time.perf_counter()
    reports: list[FileReport] = []
    broken: list[EngineError] = []
    with contextlib.ExitStack() as stack:
        process = None
        if record or live:
            _use_dev_model()
            process = stack.enter_context(CallProcess(_project_file(project, files)))
        options = Options(project=project, match=match, process=process, record=record)
        for file in files:
            try:
                report = run_file(file, options)
            except (DefinitionError, InvalidInput) as error:
                # the files after it are run all the same
                broken.append(error)
                report_error(error, as_json_text=output is ReportMode.JSON)
                continue
            reports.append(report)
            if output is ReportMode.TEXT and report.cases:
                _show(report)
    _finish(reports, time.perf_counter() - began, output)
    if broken:
        raise typer.Exit(Exit.USAGE)
    if not any(report.cases for report in reports):
        raise InvalidInput(f"no case is called like '{match}'", code="test.nothing", hint="check -k")
    fallen = _look_at_baseline(reports, baseline, tolerance, save_baseline)
    if fallen or not all(report.ok for report in reports):
        raise typer.Exit(Exit.FAILED)


def _look_at_baseline(reports: list[FileReport], baseline: Path | None, tolerance: float, save: Path | None) -> bool:
    """Compare with an earlier run, then write this one down; return whether a case has fallen."""
    from engine.testing.baseline import drops_since, save_baseline

    drops = [] if baseline is None else drops_since(baseline, reports, tolerance=tolerance)
    for drop in drops:
        note(str(drop))
    if save is not None:
        save_baseline(save, reports)
    return bool(drops)


def _show(report: FileReport) -> None:
    from engine.testing.report import render_file

    write(render_file(report))


def _finish(reports: list[FileReport], seconds: float, output: ReportMode) -> None:
    from engine.testing.report import render_summary, report_json, report_junit

    if output is ReportMode.JSON:
        write(as_json(report_json(reports, seconds)))
    elif output is ReportMode.JUNIT:
        write(report_junit(reports, seconds))
    else:
        note(render_summary(reports, seconds))


def _project_file(given: Path | None, files: list[Path]) -> Path:
    from engine.edge.cli.definitions import find_project

    return find_project(given, files)


def _use_dev_model() -> None:
    """Let real calls reach the bundled model of an `everstep dev` that runs on this folder."""
    from engine.edge.supervisor.places import LOOPBACK, PORTS_FILE, is_free

    file = Path(os.environ.get("EVERSTEP_DATA_DIR", DATA_DIR)) / PORTS_FILE
    port = json.loads(file.read_text(encoding="utf-8")).get("model", 0) if file.is_file() else 0
    if port and not is_free(port):
        os.environ.setdefault("EVERSTEP_MODEL_URL", f"http://{LOOPBACK}:{port}/v1")
