"""The commands about the language: explain, graph, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.core.spec.codes import CODES
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command

TASK = """name: small
main:
  - label: ask
    prompt: hello
  - if: _
    then: {workflow: rest}
rest: [{evaluate: 1}]
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(TASK)


def test_a_code_is_explained_with_reason_and_both_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "e104"]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("error E104: A file holds one task; a second YAML document follows.\n\n")
    assert out.index("Wrong:\n\n    main:\n") < out.index("Right:\n\n    main:\n")


def test_without_a_code_all_are_listed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(CODES)
    assert "Names and references:" in lines


def test_explanations_are_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "-o", "json"]) == Exit.OK
    everything = json.loads(capsys.readouterr().out)
    assert [item["code"] for item in everything] == list(CODES)
    assert all(item["why"] and item["bad"] and item["good"] for item in everything)
    assert run_command(["explain", "W601", "-o", "json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["severity"] == "warning"


def test_the_code_of_a_run_is_explained_by_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "backend.timeout"]) == Exit.OK
    out = capsys.readouterr().out
    assert "backend.timeout ends a step" in out
    assert "can catch it with `on_error`" in out
    assert run_command(["explain", "limit.steps"]) == Exit.OK
    assert "cannot catch it" in capsys.readouterr().out


def test_an_unknown_code_is_not_found_and_a_near_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "E1044"]) == Exit.NOT_FOUND
    assert "did you mean 'E104'?" in capsys.readouterr().err


def test_a_task_file_is_drawn_as_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["graph", "small.yaml"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["---", 'title: "small"', "---", "flowchart TD"]
    assert '    n_main_0("ask<br/>prompt “hello”")' in lines
    assert '  n_main_1 -->|"no"| n_main_end' in lines
    assert '  n_main_1_then_0 -.->|"runs"| n_rest_start' in lines


def test_a_task_file_is_drawn_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["graph", "small.yaml", "-o", "json"]) == Exit.OK
    drawn = json.loads(capsys.readouterr().out)
    assert drawn["task"] == "small"
    assert {"source": "main.0", "target": "main.1", "label": "", "aside": False} in drawn["edges"]


def test_a_broken_task_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.yaml").write_text("main: []\n")
    assert run_command(["graph", "broken.yaml"]) == Exit.USAGE
    assert "broken.yaml:1:7: error[E208]" in capsys.readouterr().err


def test_a_task_of_a_server_that_is_not_there_is_exit_five(capsys: pytest.CaptureFixture[str]) -> None:
    # port 9 of loopback is the discard service, which nobody runs
    assert run_command(["graph", "some-task", "--address", "http://127.0.0.1:9"]) == Exit.UNREACHABLE
    assert "cannot be reached" in capsys.readouterr().err


def test_the_schema_for_editors_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["schema"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["title"] == "Everstep task"
