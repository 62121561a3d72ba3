"""Tests of commands that need no server: exit codes, error texts, validate, dry-run, imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.core.errors import BugError, Conflict, DefinitionError, EngineError, InvalidInput, NotFound, Unavailable
from engine.edge.cli.exits import Exit, TimedOut, exit_of, exit_of_status
from engine.edge.cli.main import run_command
from engine.edge.cli.output import table, wants_json
from engine.edge.cli.values import clip, duration
from tests.support.patience import START_S

GOOD = """
name: greet
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - label: ask
    prompt: "Say hello to {{ _.name }}"
    unwrap: true
"""
GOOD_INPUT = '{"name": "Ada"}'
BROKEN = """name: broken
main:
  - promt: hello
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVERSTEP_ADDRESS", "EVERSTEP_PROJECT_FILE", "EVERSTEP_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "broken.yaml").write_text(BROKEN)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DefinitionError("x"), 2),
        (InvalidInput("x"), 2),
        (NotFound("x"), 4),
        (Unavailable("x"), 5),
        (Conflict("x"), 1),
        (TimedOut("x"), 124),
        (BugError("x"), 1),
    ],
)
def test_every_error_class_has_its_exit_code(error: EngineError, code: int) -> None:
    assert exit_of(error) == code


def test_the_end_of_an_execution_has_its_exit_code() -> None:
    assert [exit_of_status(status) for status in ("succeeded", "failed", "cancelled")] == [0, 1, 3]


def test_a_valid_file_is_named_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "good.yaml"]) == Exit.OK
    assert "good.yaml: task 'greet' is valid (1 step)" in capsys.readouterr().out


def test_an_invalid_file_is_shown_with_place_caret_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "good.yaml", "broken.yaml"]) == Exit.USAGE
    out = capsys.readouterr().out
    assert "broken.yaml:3:5: error[E206]" in out
    assert "    3 |   - promt: hello\n      |     ^\n" in out
    assert "did you mean 'prompt'?" in out


def test_findings_are_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "broken.yaml", "-o", "json"]) == Exit.USAGE
    body = json.loads(capsys.readouterr().out)
    assert body["valid"] is False
    assert body["diagnostics"][0]["line"] == 3


def test_a_dry_run_prints_the_result_on_stdout_and_the_steps_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Path("replies.json").write_text('{"ask": "Hello Ada!"}')
    assert run_command(["dry-run", "good.yaml", "-i", '{"name": "Ada"}', "--replies", "replies.json"]) == Exit.OK
    captured = capsys.readouterr()
    assert captured.out == "Hello Ada!\n"
    assert "call            main.0  ask" in captured.err


def test_a_dry_run_says_which_replies_it_made_up_and_how_to_script_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["dry-run", "good.yaml", "-i", '{"name": "Ada"}']) == Exit.OK
    said = capsys.readouterr().err
    assert 'replies were made up for: ask; script them with --replies FILE.json, such as {"ask": "…"}' in said
    assert run_command(["dry-run", "good.yaml", "-i", '{"name": "Ada"}', "-o", "json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["invented"] == ["ask"]
    Path("replies.json").write_text('{"ask": "Hello Ada!"}')
    assert run_command(["dry-run", "good.yaml", "-i", '{"name": "Ada"}', "--replies", "replies.json"]) == Exit.OK
    assert "made up" not in capsys.readouterr().err


def test_a_prompt_without_a_label_is_named_by_its_path_which_takes_a_reply(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.yaml").write_text("name: two\nmain: [{prompt: a, unwrap: true}, {prompt: b, unwrap: true}]\n")
    assert run_command(["dry-run", "two.yaml"]) == Exit.OK
    assert "made up for: main.0, main.1;" in capsys.readouterr().err
    Path("replies.json").write_text('{"main.0": "x", "main.1": "y"}')
    assert run_command(["dry-run", "two.yaml", "--replies", "replies.json"]) == Exit.OK
    assert capsys.readouterr().out == "y\n"


def test_a_dry_run_of_a_failing_task_exits_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fails.yaml").write_text("name: f\nmain:\n  - error: no way\n")
    assert run_command(["dry-run", "fails.yaml"]) == Exit.FAILED
    assert "error[task.error]: no way" in capsys.readouterr().err


def test_a_dry_run_that_waits_takes_answers(capsys: pytest.CaptureFixture[str]) -> None:
    Path("waits.yaml").write_text("name: w\nmain:\n  - wait_for_input: {info: {q: 1}}\n")
    assert run_command(["dry-run", "waits.yaml"]) == Exit.FAILED
    assert run_command(["dry-run", "waits.yaml", "--answer", '"yes"', "-o", "json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["output"] == "yes"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nonsense"], "usage", "No such command 'nonsense'"),
        (["run"], "usage", "Missing argument 'TASK'"),
        (["ls", "--status", "odd"], "usage", "odd"),
        (["run", "good.yaml", "-i", "{"], "input.not_json", "--input is not JSON"),
        (["run", "good.yaml", "-i", "NaN"], "input.not_json", "NaN"),
        (["run", "good.yaml", "-i", "1", "--input-file", "x"], "usage", "exclude each other"),
        (["run", "missing.yaml"], "file.unreadable", "missing.yaml cannot be read"),
        (["validate", "missing.yaml"], "file.unreadable", "missing.yaml cannot be read"),
        (["dry-run", "good.yaml", "-i", "{}"], "input.invalid", "input: 'name' is a required property"),
        (["answer", "some-id"], "usage", "an answer needs --input"),
        (["validate", "good.yaml", "--project", "no.toml"], "config.missing", "no.toml does not exist"),
    ],
)
def test_a_wrong_command_line_is_an_error_with_a_code_and_exit_two(
    arguments: list[str], code: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error[{code}]: ")
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "command", [["ls"], ["describe", "x"], ["logs", "-f", "x"], ["run", "good.yaml", "-i", GOOD_INPUT]]
)
def test_no_server_is_exit_five_with_the_command_that_starts_one(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # port 9 of loopback is the discard service, which nobody runs
    assert run_command([*command, "--address", "http://127.0.0.1:9"]) == Exit.UNREACHABLE
    err = capsys.readouterr().err
    assert err.startswith("error[unreachable]: the API at http://127.0.0.1:9 cannot be reached\n")
    assert "hint: start one with `everstep dev`" in err


def test_an_error_is_json_where_the_output_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["ls", "-o", "json", "--address", "http://127.0.0.1:9"]) == Exit.UNREACHABLE
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "unreachable"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ls", "-o", "json"], True),
        (["ls", "-ojsonl"], True),
        (["ls", "--output=json"], True),
        (["ls", "-o", "text"], False),
        (["ls"], False),
        (["ls", "-o"], False),
    ],
)
def test_whether_json_is_wanted_is_seen_even_where_parsing_failed(arguments: list[str], expected: bool) -> None:
    assert wants_json(arguments) is expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0404, "40 ms"), (3.21, "3.2 s"), (125, "2 min 05 s"), (11_400, "3 h 10 min")]
)
def test_time_spans_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [({"a": 1}, '{"a": 1}'), ("one\n two", "one two"), ("x" * 50, f"{'x' * 9}…")]
)
def test_values_are_cut_to_one_line(value: Any, text: str) -> None:
    assert clip(value, 10) == text


def test_tables_line_their_columns_up() -> None:
    assert table(("ID", "STATUS"), [("1", "running"), ("222", "failed")]) == "ID   STATUS\n1    running\n222  failed"


def test_the_program_does_not_import_what_help_does_not_need() -> None:
    code = (
        "import sys; from engine.edge.cli.main import run_command; run_command(['--help']);"
        "print(sorted({'temporalio', 'fastapi', 'sqlalchemy', 'httpx', 'pydantic_settings'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "mock-llm" in ran.stdout


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("everstep 0.")


def test_commands_that_talk_to_the_api_load_no_engine() -> None:
    code = (
        "import sys; from engine.edge.cli.main import run_command;"
        "run_command(['ls', '--address', 'http://127.0.0.1:9']);"
        "print(sorted({'temporalio', 'fastapi', 'sqlalchemy', 'pydantic_settings'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=START_S)
    assert ran.stdout == "[]\n"
