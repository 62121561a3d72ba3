"""docs/testing.md is true: its task, its test file and its pytest function run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.testing.cases import CASE_KEYS, EXPECT_KEYS, NAMES
from engine.testing.replies import MARKS
from engine.testing.suite import run_file

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
FENCE = re.compile(r"```(yaml|python)\n(.*?)```", re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for kind, text in FENCE.findall(PAGE):
        if kind == "yaml":
            (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text)
    return tmp_path


def test_the_test_file_of_the_page_passes(folder: Path) -> None:
    report = run_file(folder / "greet.test.yaml")
    assert [(case.case.name, [run.misses for run in case.runs]) for case in report.cases if not case.ok] == []
    assert len(report.cases) == 5


@pytest.mark.usefixtures("folder")
def test_the_pytest_function_of_the_page_passes() -> None:
    (text,) = [text for kind, text in FENCE.findall(PAGE) if kind == "python"]
    space: dict[str, Any] = {}
    exec(text, space)
    space["test_greets"]()


@pytest.mark.parametrize("word", [*CASE_KEYS, *EXPECT_KEYS, *NAMES, *MARKS])
def test_every_word_of_a_test_file_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE
