"""The list of statements and the tests of this folder say the same, so that no statement loses its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
LIST = HERE / "statements.md"
ROW = re.compile(r"\| ([a-z_]+\.\d+) \| (.+) \| (?:`(test_\w+)`|not yet: (.+)) \|")


class Row(NamedTuple):
    """A statement: its id, its words, and the test that bears them, or why there is none yet."""

    id: str
    words: str
    test: str
    missing: str

    @property
    def file(self) -> str:
        """Name of the file that holds the test."""
        return f"test_{self.id.partition('.')[0]}.py"


def rows() -> list[Row]:
    """Return the statements in the order of the list."""
    lines = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = [line for line in lines if not line.startswith(("| id ", "| --- "))]
    found = [ROW.fullmatch(line) for line in listed]
    assert None not in found, [line for line, match in zip(listed, found, strict=True) if match is None]
    return [Row(*(text or "" for text in match.groups())) for match in found if match]


def functions_of(file: Path) -> dict[str, str]:
    """Return the tests of a file and what they say that they show."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {node.name: ast.get_docstring(node) or "" for node in functions if node.name.startswith("test_")}


FILES = sorted(path for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)


def test_every_statement_has_a_number_of_its_own() -> None:
    ids = [row.id for row in rows()]
    assert len(ids) == len(set(ids)) > 150
    groups: dict[str, list[int]] = {}
    for group, _, number in (name.partition(".") for name in ids):
        groups.setdefault(group, []).append(int(number))
    assert groups == {group: list(range(1, len(numbers) + 1)) for group, numbers in groups.items()}


def test_every_statement_belongs_to_a_file_of_tests() -> None:
    assert {row.file for row in rows()} == {path.name for path in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_tests_of_a_file_are_those_of_the_list_and_say_its_words(file: Path) -> None:
    listed = {row.test: row.words for row in rows() if row.file == file.name and row.test}
    assert functions_of(file) == listed


def test_what_is_not_shown_yet_says_why() -> None:
    assert all(len(row.missing) > 10 for row in rows() if not row.test)
