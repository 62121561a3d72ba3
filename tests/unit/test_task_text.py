"""A task file that is not UTF-8 gets a diagnostic with its place, in every form of output."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from engine.core.errors import SourceError
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.source.task_text import decode_source, read_task_text

BROKEN = "name: café\r\nmain:\r\n  - evaluate: ".encode() + b"caf\xe9\r\n"
PLACE = "latin.yaml:3:18"
MODES = ("text", "json", "jsonl", "sarif", "github")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "latin.yaml").write_bytes(BROKEN)
    (tmp_path / "tasks" / "latin.yaml").write_bytes(BROKEN)
    (tmp_path / "tasks" / "good.yaml").write_text("main: [{evaluate: 1}]\n")


def place_of(data: bytes) -> tuple[int, int]:
    with pytest.raises(SourceError) as caught:
        decode_source(data, "t")
    (found,) = caught.value.diagnostics
    assert found.code == "E101"
    return found.position.line, found.position.column


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"\xff", (1, 1)),
        (b"ab\xff", (1, 3)),
        ("äöü".encode() + b"\xff", (1, 4)),
        (b"a\n\xff", (2, 1)),
        (b"a\r\nb\r\n \xe9", (3, 2)),
        (b"a\rb\xe9", (2, 2)),
        ("ab€".encode()[:-1], (1, 3)),
        ("name: x\n".encode("utf-16"), (1, 1)),
    ],
)
def test_the_place_is_that_of_the_first_byte_that_is_no_text(data: bytes, place: tuple[int, int]) -> None:
    assert place_of(data) == place


def test_utf_16_is_recognised() -> None:
    with pytest.raises(SourceError) as caught:
        decode_source("name: x\n".encode("utf-16"), "t")
    assert caught.value.hint == "it looks like UTF-16; save it as UTF-8"


def test_a_text_is_read_as_it_stands_but_for_the_ends_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert read_task_text(tmp_path / "x.yaml") == "\ufeffä\nb\nc\n"


def test_for_people_the_line_is_shown_with_a_caret(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "latin.yaml"]) == Exit.USAGE
    assert capsys.readouterr().out == (
        f"{PLACE}: error[E101]: the byte 0xe9 is not UTF-8 text\n"
        "    3 |   - evaluate: caf\ufffd\n"
        "      |                  ^\n"
        "      = hint: save the file as UTF-8\n"
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_form_of_output_has_the_diagnostic(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "tasks", "-o", mode]) == Exit.USAGE
    printed = capsys.readouterr()
    assert printed.err == ""
    if mode == "json":
        (found,) = json.loads(printed.out)["diagnostics"]
        assert (found["code"], found["file"], found["line"], found["column"]) == ("E101", "tasks/latin.yaml", 3, 18)
    elif mode == "jsonl":
        (line,) = printed.out.splitlines()
        assert json.loads(line)["code"] == "E101"
    elif mode == "sarif":
        (result,) = json.loads(printed.out)["runs"][0]["results"]
        assert result["ruleId"] == "E101"
        assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 3, "startColumn": 18}
    elif mode == "github":
        assert printed.out.startswith("::error file=tasks/latin.yaml,line=3,col=18,title=E101::")
    else:
        assert f"tasks/{PLACE}: error[E101]" in printed.out
        assert "tasks/good.yaml: task 'good' is valid" in printed.out


@pytest.mark.parametrize("command", ["dry-run", "graph"])
def test_other_commands_say_the_same(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command, "latin.yaml"]) == Exit.USAGE
    assert f"{PLACE}: error[E101]" in capsys.readouterr().err


def test_a_python_file_that_is_not_utf_8_is_shown_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "task.py").write_bytes(b"from engine import Task\nname = 'caf\xe9'\n")
    assert run_command(["validate", "task.py"]) == Exit.USAGE
    assert "task.py:2:12: error[E101]" in capsys.readouterr().out


def test_a_python_file_of_a_folder_is_passed_over_if_it_is_no_utf_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks" / "latin.yaml").unlink()
    (tmp_path / "tasks" / "old.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n")
    assert run_command(["validate", "tasks"]) == Exit.OK
    assert "old.py" not in capsys.readouterr().out


def test_standard_input_is_looked_at_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BROKEN), encoding="utf-8"))
    assert run_command(["validate", "-"]) == Exit.USAGE
    assert "-:3:18: error[E101]" in capsys.readouterr().out
