"""What `everstep run` prints where no terminal is: one line for each thing that happens, and each failure once."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from engine.edge.cli.live import PlainDisplay, TreeDisplay
from engine.edge.cli.tree import RunTree

ASKS = ("wait", {"path": "main.1", "wait_id": "main.1", "kind": "approve", "info": "sure?", "schema": None})
MAIN = [{"tool": "lookup"}, {"evaluate": "$ _"}]


def told(capsys: pytest.CaptureFixture[str], *events: tuple[str, dict[str, Any]]) -> list[str]:
    """Show events and return the lines without their times."""
    display = PlainDisplay(RunTree(MAIN), "e1")
    for number, (kind, body) in enumerate(events, start=1):
        display.show({"seq": number, "type": kind, "at": "2026-01-01T00:00:00Z", "body": body})
    return [line.partition("  ")[2] for line in capsys.readouterr().err.splitlines()]


def failed(path: str, retry_in_s: float | None = None, message: str = "it broke") -> tuple[str, dict[str, Any]]:
    error = {"code": "tool.failed", "message": message, "step": path}
    return "attempt.failed", {"path": path, "kind": "tool_call", "attempt": 1, "error": error, "retry_in_s": retry_in_s}


def ended(path: str, message: str = "it broke", code: str = "tool.failed") -> tuple[str, dict[str, Any]]:
    return "error", {"error": {"code": code, "message": message, "step": path}}


def test_a_failure_that_ends_the_execution_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(capsys, ("init", {}), failed("main.0"), ended("main.0"))
    assert line == "main.0  tool lookup  failed  0 ms  tool.failed: it broke"


def test_a_failure_stays_told_when_other_steps_ran_in_between(capsys: pytest.CaptureFixture[str]) -> None:
    after = ("step", {"path": "main.1", "kind": "evaluate", "next": None})
    lines = told(capsys, ("init", {}), failed("main.0"), after, ended("main.0"))
    assert [line.split()[0] for line in lines] == ["main.0", "main.1"]


def test_a_step_without_attempts_is_told_by_the_end_alone(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(capsys, ("init", {}), ended("main.1", code="expression.failed"))
    assert "main.1" in line
    assert "expression.failed: it broke" in line


def test_a_step_that_is_tried_again_is_told_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, ("init", {}), failed("main.0", 1.0), failed("main.0"), ended("main.0"))
    assert [("retrying" in line, "failed" in line) for line in lines] == [(True, True), (False, True)]


def test_of_calls_that_are_refused_before_they_begin_it_is_told_which_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unknown = {"code": "tool.unknown", "message": "there is no tool 'x' here", "step": "main.0"}
    begun = {"path": "main.0[0]", "workflow": "main[0].parallel[0]", "construct": "parallel[0]", "of": 2}
    lines = told(
        capsys,
        ("init", {}),
        ("init_branch", begun),
        ("branch.failed", {"path": "main.0[1]", "error": unknown}),
        failed("main.0[0].0"),
        ("branch.failed", {"path": "main.0[0]", "error": failed("main.0[0].0")[1]["error"]}),
    )
    assert lines[0].endswith("  [1] tool.unknown: there is no tool 'x' here")
    assert ["tool.failed" in line for line in lines[1:]] == [True, False], "the step has told that"


def test_a_call_that_waits_says_what_it_asks(capsys: pytest.CaptureFixture[str]) -> None:
    info = {"kind": "approval", "tool": "pay", "arguments": {"amount": 3}, "info": "A large one"}
    lines = told(capsys, ("init", {}), ("wait", {"path": "main.0", "wait_id": "main.0#1/approval", "info": info}))
    assert lines[0].endswith('A large one: may it be called with {"amount": 3}')


def test_an_end_for_another_reason_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, ("init", {}), failed("main.0"), ended("main.0", "too late", "step.total_timeout"))
    assert len(lines) == 2
    assert "too late" in lines[1]


def test_the_command_that_answers_is_not_cut_on_a_narrow_terminal() -> None:
    tree = RunTree(MAIN)
    for number, (kind, body) in enumerate([("init", {}), ASKS], start=1):
        tree.apply({"seq": number, "type": kind, "at": "2026-01-01T00:00:00Z", "body": body})
    display = TreeDisplay(tree, "x" * 36, "task")
    display.close()
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(display.render())
    words = console.export_text().split()
    assert words[words.index("everstep") :] == ["everstep", "answer", "x" * 36, "--input", "'\"yes\"'"]


def test_what_a_model_writes_is_shown_until_its_message_is_there() -> None:
    tree = RunTree([{"prompt": "x"}])
    display = TreeDisplay(tree, "e1", "task")
    display.close()

    def shown() -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(display.render())
        return console.export_text()

    display.write("main.0", "Once upon", anew=True)
    display.write("main.0", " a time", anew=False)
    assert "main.0 writes: Once upon a time" in shown()
    display.write("main.0", "Again", anew=True)
    assert "main.0 writes: Again" in shown()
    body = {"path": "main.0", "kind": "prompt", "usage": {"total_tokens": 1_200}, "cost": "0.0021"}
    display.show({"seq": 2, "type": "effect.finished", "at": "2026-01-01T00:00:00Z", "body": body})
    assert "writes" not in shown()
    assert shown().splitlines()[0] == "task  1,200 tokens  $0.0021"


def test_a_step_tells_how_often_it_was_tried_and_what_it_used(capsys: pytest.CaptureFixture[str]) -> None:
    started = ("effect.started", {"path": "main.0", "kind": "prompt", "attempt": 2})
    used = ("effect.finished", {"path": "main.0", "kind": "prompt", "usage": {"total_tokens": 7}, "cost": None})
    done = ("step", {"path": "main.0", "kind": "prompt", "output": "a", "next": 1})
    lines = told(capsys, ("init", {}), started, used, done)
    assert lines[-1] == "main.0  tool lookup  done  0 ms  2 tries  7 tokens"
