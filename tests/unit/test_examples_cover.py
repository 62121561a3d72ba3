"""The examples: each has tests that pass in memory and a row in the table; together they show all of the language."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from engine.core.plan.ir import Plan
from engine.edge.cli.taskfiles import TEST_SUFFIXES, find_tasks
from engine.source.python_paths import split_name
from engine.testing.report import render_file
from engine.testing.running import catalog_for, compile_file
from engine.testing.suite import run_file
from tests.support.dev_process import everstep
from tests.support.example_server import EXAMPLES, case_files, example_folders
from tests.support.example_words import all_words, words_of

ROW = re.compile(r"^\| \[(\w+)\]\((\w+)\) \| (.+) \|$", re.MULTILINE)
FOLDERS = [folder.name for folder in example_folders()]


@cache
def plans(example: str) -> dict[Path, Plan]:
    """Return the plans of an example's tasks."""
    found = find_tasks([EXAMPLES / example])
    return {file.path: compile_file(file.path, catalog_for(file.path, None).contracts()) for file in found.files}


@cache
def words(example: str) -> set[str]:
    """Return the words of the language that an example uses."""
    return set().union(*(words_of(plan) for plan in plans(example).values()))


def rows() -> list[tuple[str, str, str]]:
    """Return the rows of the table: name, link, what it shows."""
    return ROW.findall((EXAMPLES / "README.md").read_text(encoding="utf-8"))


def test_there_are_more_than_sixteen() -> None:
    assert len(FOLDERS) > 16


@pytest.mark.parametrize("file", case_files(), ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_the_tests_of_an_example_pass_in_memory(file: Path) -> None:
    report = run_file(file)
    assert report.ok, render_file(report)
    assert not any(case.skipped or case.case.record for case in report.cases)


@pytest.mark.parametrize("example", FOLDERS)
def test_every_task_of_an_example_has_its_tests(example: str) -> None:
    tasks = {split_name(path)[0] for path in plans(example)}
    assert [path.name for path in tasks if not path.with_name(f"{path.stem}{TEST_SUFFIXES[0]}").is_file()] == []


def test_there_is_nothing_to_say_against_them() -> None:
    told = everstep("validate", str(EXAMPLES), "-o", "json").json
    assert told["diagnostics"] == []
    assert len(told["files"]) == sum(len(plans(example)) for example in FOLDERS)


def test_no_two_tasks_have_one_name() -> None:
    names = [plan.task for example in FOLDERS for plan in plans(example).values()]
    assert sorted(names) == sorted(set(names))


def test_together_they_show_every_word_of_the_language_that_runs() -> None:
    shown = set().union(*(words(example) for example in FOLDERS))
    assert all_words() - shown == set()


def test_the_table_has_a_row_for_each_in_order() -> None:
    assert [(name, link) for name, link, _ in rows()] == [(name, name) for name in FOLDERS]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_an_example_has_what_the_table_says(row: tuple[str, str, str]) -> None:
    example, _, shows = row
    text = "".join(path.read_text(encoding="utf-8") for path in {split_name(path)[0] for path in plans(example)})
    short = {word.rpartition(".")[2] for word in words(example)}
    said = re.findall(r"`([^`]+)`", shows)
    known = {word.rpartition(".")[2] for word in all_words()}
    assert said, "what it shows stands in backquotes"
    assert [word for word in said if word not in (short if word in known else text)] == []
