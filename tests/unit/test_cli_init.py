"""A project made by `init` works at once, and nothing of the user's is overwritten."""

from __future__ import annotations

import json
import runpy
import shlex
from pathlib import Path

import pytest

from engine.edge.cli.exits import Exit
from engine.edge.cli.init_files import SAMPLE_INPUT, SCHEMA_FILE, TASK_FILE
from engine.edge.cli.main import run_command
from engine.source.editor_schema import task_schema


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a fresh project, entered."""
    monkeypatch.chdir(tmp_path)
    assert run_command(["init", "my project"]) == Exit.OK
    monkeypatch.chdir(tmp_path / "my project")
    return tmp_path / "my project"


def test_the_new_task_is_valid_without_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_command(["validate", "."]) == Exit.OK
    assert capsys.readouterr().out == f"{TASK_FILE}: task 'digest' is valid (5 steps)\n"


def test_a_dry_run_of_the_new_task_gives_its_result(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    replies = project / "replies.json"
    replies.write_text('{"count_words": 13, "summarize": "About Ada."}')
    assert run_command(["dry-run", TASK_FILE, "-i", SAMPLE_INPUT, "--replies", "replies.json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"summary": "About Ada.", "words": 13}
    assert run_command(["dry-run", TASK_FILE, "-i", SAMPLE_INPUT]) == Exit.OK


def test_the_new_tool_does_what_it_says(project: Path) -> None:
    assert runpy.run_path(str(project / "tools.py"))["count_words"]("one two  three") == 3


def test_the_first_line_of_the_task_names_the_schema_that_lies_there(project: Path) -> None:
    first = (project / TASK_FILE).read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert json.loads((project / SCHEMA_FILE).read_text(encoding="utf-8")) == json.loads(json.dumps(task_schema()))


def test_files_that_exist_are_not_overwritten_and_nothing_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.py").write_text("mine")
    assert run_command(["init"]) == Exit.FAILED
    assert "tools.py already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tools.py"]
    assert (tmp_path / "tools.py").read_text() == "mine"


def test_the_gitignore_of_a_repository_stays_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert run_command(["init"]) == Exit.OK
    assert (tmp_path / ".gitignore").read_text() == "*.log\n"
    assert "kept .gitignore; it should ignore .everstep/" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run_command(["init", "file/inside"]) == Exit.USAGE
    assert capsys.readouterr().err.startswith("error[file.unwritable]: file/inside cannot be written")


def test_three_commands_are_named_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["init", "my project"]) == Exit.OK
    shown = capsys.readouterr().out.partition("next:\n")[2].splitlines()
    commands = [shlex.split(line, comments=True) for line in shown]
    assert len(commands) == 3
    assert commands[0][:2] == ["cd", "my project"]
    names = [words[words.index("everstep") + 1] for words in commands]
    for name in names:
        assert run_command([name, "--help"]) == Exit.OK


def test_the_new_tests_pass(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_command(["test"]) == Exit.OK
    captured = capsys.readouterr()
    assert "2 passed" in captured.out + captured.err
