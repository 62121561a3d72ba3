"""Tells how the tests of tasks went: as text for a person, as JSON, and as JUnit XML for CI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from engine.testing.suite import CaseReport, FileReport, RunReport

MOST_FAILED_RUNS = 5
"""Failed runs of a case that are shown in full."""


def counts_of(reports: Sequence[FileReport]) -> tuple[int, int, int]:
    """Return how many cases passed, failed and were skipped."""
    cases = [case for report in reports for case in report.cases]
    skipped = sum(case.skipped for case in cases)
    failed = sum(not case.ok for case in cases)
    return len(cases) - skipped - failed, failed, skipped


def render_file(report: FileReport) -> str:
    """Return what happened in a file, as text of several lines."""
    return "\n".join([str(report.file), *(line for case in report.cases for line in _case_lines(report, case))])


def render_summary(reports: Sequence[FileReport], seconds: float) -> str:
    """Return the last line."""
    passed, failed, skipped = counts_of(reports)
    parts = [f"{passed} passed"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{skipped} skipped"] if skipped else []
    return f"{', '.join(parts)} in {seconds:.2f} s"


def _case_lines(report: FileReport, case: CaseReport) -> Iterator[str]:
    if case.skipped:
        yield f"  skip  {case.case.name} ({case.case.skip})"
        return
    yield f"  {'ok  ' if case.ok else 'FAIL'}  {case.case.name}{_score(case)}"
    failed = [run for run in case.runs if run.misses]
    if case.ok:
        return
    for run in failed[:MOST_FAILED_RUNS]:
        yield from _run_lines(report, case, run)
    if len(failed) > MOST_FAILED_RUNS:
        yield f"        and {len(failed) - MOST_FAILED_RUNS} more runs failed"


def _score(case: CaseReport) -> str:
    if len(case.runs) <= 1:
        return ""
    good = sum(not run.misses for run in case.runs)
    told = f"  {good} of {len(case.runs)} runs passed"
    if case.case.rows is not None:
        return f"{told}, {case.passed} of {len(case.case.rows)} rows; {case.needed} needed"
    return f"{told}; {case.case.passes} needed"


def _run_lines(report: FileReport, case: CaseReport, run: RunReport) -> Iterator[str]:
    if run.name:
        yield f"      {run.name}{f' ({run.place})' if run.place else ''}"
    for miss in run.misses:
        at = miss.position or case.case.position
        place = f"{report.file}:{at.line}:{at.column}"
        if not miss.expected:
            yield f"        {place}: {miss.what}: {miss.got}"
            continue
        yield f"        {place}: {miss.what}"
        yield f"          expected  {miss.expected}"
        yield f"          got       {miss.got}"
    if run.run is not None:
        made = ", ".join(str(call["label"]) for call in run.run.calls)
        yield f"        calls: {made or 'none'}"


# --- for programs --------------------------------------------------------------------------------------------------


def report_json(reports: Sequence[FileReport], seconds: float) -> dict[str, Any]:
    """Return {ok, passed, failed, skipped, seconds, files: [{file, task, ok, cases: [{name, line, ok, runs}]}]}."""
    passed, failed, skipped = counts_of(reports)
    return {
        "ok": failed == 0,
        "passed": passed,
        "failed": failed,
        "skipped": skipped,
        "seconds": round(seconds, 3),
        "files": [
            {
                "file": str(report.file),
                "task": str(report.task),
                "ok": report.ok,
                "cases": [_case_json(case) for case in report.cases],
            }
            for report in reports
        ],
    }


def _case_json(case: CaseReport) -> dict[str, Any]:
    return {
        "name": case.case.name,
        "line": case.case.position.line,
        "ok": case.ok,
        "skipped": case.case.skip or None,
        "passed": case.passed,
        "needed": case.needed,
        "seconds": round(case.seconds, 4),
        "runs": [
            {
                "name": run.name,
                "place": run.place or None,
                "ok": not run.misses,
                "status": None if run.run is None else run.run.status,
                "misses": [miss.to_json() for miss in run.misses],
            }
            for run in case.runs
        ],
    }


def report_junit(reports: Sequence[FileReport], seconds: float) -> str:
    """Return JUnit XML: a suite per file, a test case per case."""
    passed, failed, skipped = counts_of(reports)
    total = passed + failed + skipped
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append(f'<testsuites tests="{total}" failures="{failed}" skipped="{skipped}" time="{seconds:.3f}">')
    for report in reports:
        bad, left_out = sum(not case.ok for case in report.cases), sum(case.skipped for case in report.cases)
        name = quoteattr(_clean(str(report.file)))
        lines.append(f'  <testsuite name={name} tests="{len(report.cases)}" failures="{bad}" skipped="{left_out}">')
        for case in report.cases:
            lines += _junit_case(report, case)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"])


def _junit_case(report: FileReport, case: CaseReport) -> Iterator[str]:
    name, group = quoteattr(_clean(case.case.name)), quoteattr(_clean(str(report.file)))
    yield f'    <testcase name={name} classname={group} time="{case.seconds:.3f}">'
    if case.skipped:
        yield f"      <skipped message={quoteattr(_clean(case.case.skip))}/>"
    elif not case.ok:
        first = next(miss for run in case.runs for miss in run.misses)
        text = "\n".join(line for line in _case_lines(report, case))
        told = f"expected {first.expected}, got {first.got}" if first.expected else first.got
        message = quoteattr(_clean(f"{first.what}: {told}"))
        yield f"      <failure message={message}>{escape(_clean(text))}</failure>"
    yield "    </testcase>"


def _clean(text: str) -> str:
    """Return a text without the control characters that XML cannot hold."""
    return "".join(char for char in text if char in "\t\n" or ord(char) >= 32)
