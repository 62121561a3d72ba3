"""Finds the task files under the paths that a user gives, and tells them from other YAML and JSON files."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.core.errors import InvalidInput, SourceError
from engine.edge.cli.tasks import TASK_SUFFIXES
from engine.source.python_paths import is_python
from engine.source.task_text import read_task_text

TEST_SUFFIXES = (".test.yaml", ".test.yml", ".test.json")
CASSETTE_SUFFIX = ".cassette.json"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A task file.

    Attributes:
        path: Where it is.
        text: Its text; what is not UTF-8 shows as `�`.
        error: What is wrong with the file before anybody looks for a task in it; None if nothing is.
    """

    path: Path
    text: str
    error: SourceError | None = None

    @property
    def name(self) -> str:
        """Its name for messages."""
        return str(self.path)


@dataclass(slots=True)
class Found:
    """What stands under some paths.

    Attributes:
        files: Task files, in the order of their paths.
        skipped: Other files with a task's suffix, in folders only.
        folders: Folders that were searched.
    """

    files: list[FoundFile] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


def find_tasks(paths: Sequence[Path]) -> Found:
    """Read the task files among some files and in some folders.

    A file that is named counts as a task whatever it holds; in a folder, one counts if it has `main` (or a key that
    looks like it) or `dialect`, so that settings and data may lie beside tasks. A Python file in a folder counts if it
    imports `Task` from `engine`; others are not run.

    Args:
        paths: Files and folders; folders are searched with all that is in them, but not hidden ones.

    Raises:
        InvalidInput: `file.unreadable`; `file.is_test` for a test file that was named; `apply.nothing` if there is no
            task at all.
    """
    found = Found()
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found.folders.append(path)
            for inner in _candidates(path):
                if inner.resolve() not in seen:
                    seen.add(inner.resolve())
                    _sort_in(inner, found)
        elif path.resolve() not in seen:
            seen.add(path.resolve())
            if path.name.endswith(TEST_SUFFIXES):
                hint = f"run it with `everstep test {path}`"
                raise InvalidInput(f"{path} is a test file, and no task", code="file.is_test", hint=hint)
            found.files += _read(path)
    if not found.files:
        raise InvalidInput(
            f"there is no task file in {', '.join(str(path) for path in paths)}",
            code="apply.nothing",
            hint="a task is a .yaml, .yml or .json file with `main:`",
        )
    return found


def _read(path: Path) -> list[FoundFile]:
    """Read a file; of a Python file with several tasks, each counts as one."""
    try:
        text = read_task_text(path)
    except SourceError as error:
        return [FoundFile(path, error.source, error)]
    return [FoundFile(each, text) for each in each_task(path)]


def each_task(path: Path) -> list[Path]:
    """Return `file.py:name` for each task of a Python file that holds several; any other path as it is."""
    if not is_python(path):
        return [path]
    from engine.source.python_reader import one_by_one

    return one_by_one(path)


def may_be_task(path: Path) -> bool:
    """Whether a file may hold a task by its name: YAML or JSON, and neither a test nor a recording."""
    return path.suffix in TASK_SUFFIXES and not path.name.endswith((*TEST_SUFFIXES, CASSETTE_SUFFIX))


def find_tests(paths: Sequence[Path]) -> list[Path]:
    """Return the test files among some files and in some folders.

    Raises:
        InvalidInput: `test.nothing` if there are none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [inner for inner in _files_under(path) if inner.name.endswith(TEST_SUFFIXES)]
        else:
            found.append(path)
    if not found:
        raise InvalidInput(
            f"there is no test in {', '.join(str(path) for path in paths)}",
            code="test.nothing",
            hint="the tests of greet.yaml stand beside it, in greet.test.yaml",
        )
    return list(dict.fromkeys(found))


def _files_under(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir():
            yield from _files_under(path)
        elif path.is_file():
            yield path


def _candidates(folder: Path) -> Iterator[Path]:
    for path in _files_under(folder):
        if path.suffix == ".py" and not path.name.startswith(("test_", "conftest")):
            if _imports_task(path):
                yield path
        elif may_be_task(path):
            yield path


def _imports_task(path: Path) -> bool:
    try:
        tree = ast.parse(read_task_text(path))
    except (SourceError, SyntaxError, ValueError, RecursionError):
        return False  # it may be anything; who means it as a task names it
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "engine" and any(name.name == "Task" for name in node.names)
        for node in tree.body
    )


def _sort_in(path: Path, found: Found) -> None:
    read = _read(path)
    if is_python(path) or read[0].error is not None or _looks_like_task(read[0].text, path):
        found.files += read
    else:
        found.skipped.append(path)


def _looks_like_task(text: str, path: Path) -> bool:
    from engine.core.spec.nodes import MapNode
    from engine.source.parse import parse_source

    try:
        root = parse_source(text, str(path))
    except SourceError:
        return True  # whatever it is, somebody must look at it; the API says what is wrong
    if not isinstance(root, MapNode):
        return False
    keys = root.keys()
    return "dialect" in keys or bool(difflib.get_close_matches("main", keys, n=1, cutoff=0.7))
