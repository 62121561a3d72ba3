"""Python task files: what is found in them, what is said about broken ones, and the commands that take them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.core.diagnostics import Diagnostic, Position
from engine.core.errors import DefinitionError, InvalidInput, SourceError
from engine.core.spec.nodes import node_to_json
from engine.edge.cli.main import run_command
from engine.edge.cli.reload import task_files
from engine.edge.cli.tasks import looks_like_file, upload_task
from engine.source.python_paths import is_python, split_name
from engine.source.python_reader import PythonTask, read_python, read_python_task

ONE = """from engine import Task, evaluate, expr

greet = Task(
    description="Greet.",
    main=evaluate({"text": expr("'hello ' + _.name")}, label="make"),
)
"""
TWO = """from engine import Task, evaluate

first = Task(main=evaluate(1))
second = alias = Task(name="the-second", main=[evaluate(2), evaluate(3)])
_hidden = Task(main=evaluate(4))
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def written(text: str, name: str = "task.py") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(text: str) -> tuple[str, int, str]:
    """Return code, line and message of the one finding that a file is refused with."""
    with pytest.raises(SourceError) as caught:
        read_python(written(text))
    (found,) = caught.value.diagnostics
    assert caught.value.file == "task.py"
    assert caught.value.source == text
    return found.code, found.position.line, found.message


def test_a_task_is_called_after_its_variable_unless_it_has_a_name() -> None:
    tasks = read_python(written(TWO))
    assert [(task.name, task.variable) for task in tasks] == [("first", "first"), ("the-second", "second")]
    assert node_to_json(tasks[0].root) == {"name": "first", "main": {"evaluate": 1}}


def test_one_of_several_tasks_is_chosen_by_its_name_or_its_variable() -> None:
    written(TWO)
    assert read_python_task(Path("task.py:first")).name == "first"
    assert read_python_task(Path("task.py:the-second")).name == "the-second"
    assert read_python_task(Path("task.py:second")).name == "the-second"


def test_several_tasks_without_a_choice_are_refused_with_their_names() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_python_task(written(TWO))
    assert caught.value.code == "task.ambiguous"
    assert caught.value.hint == "name one: task.py:first, task.py:the-second"


def test_a_name_that_no_task_has_is_refused_with_the_nearest_one() -> None:
    written(TWO)
    with pytest.raises(InvalidInput) as caught:
        read_python_task(Path("task.py:frist"))
    assert caught.value.hint == "did you mean 'first'?"


def test_two_tasks_of_one_name_are_refused() -> None:
    code, line, message = refusal(TWO.replace("the-second", "first"))
    assert (code, line) == ("E509", 4)
    assert message == "two tasks are called 'first': first and second"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("task.py", ("task.py", "")),
        ("task.py:a", ("task.py", "a")),
        ("dir/task.py:a.b", ("dir/task.py", "a.b")),
        ("task.yaml", ("task.yaml", "")),
        ("my.pyx", ("my.pyx", "")),
    ],
)
def test_a_path_is_split_into_the_file_and_the_name_of_a_task(path: str, parts: tuple[str, str]) -> None:
    assert split_name(Path(path)) == (Path(parts[0]), parts[1])
    assert is_python(Path(path)) is parts[0].endswith(".py")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = (", ("E102", 1, "this is not Python: '(' was never closed")),
        ("x = 1\n", ("E209", 1, "the file holds no task")),
        (
            "def f():\n    return 1 / 0\n\nf()\n",
            ("E209", 2, "the file fails when it is run: ZeroDivisionError: division by zero"),
        ),
        ("import sys\nsys.exit(3)\n", ("E209", 2, "the file fails when it is run: SystemExit: 3")),
        (
            "from engine import evaluate\n\nevaluate(\n    object(),\n)\n",
            ("E203", 3, "'evaluate' holds a value of type object, which a task cannot hold"),
        ),
        (
            "from engine import nothing\n",
            ("E209", 1, "the file fails when it is run: ImportError: cannot import name 'nothing' from 'engine'"),
        ),
    ],
)
def test_a_broken_file_is_refused_with_the_line(text: str, expected: tuple[str, int, str]) -> None:
    code, line, message = refusal(text)
    assert (code, line) == expected[:2]
    assert message.startswith(expected[2])


def test_a_mistake_in_an_imported_file_points_at_the_import_and_names_the_other_file() -> None:
    written("from engine import evaluate\nstep = evaluate(object())\n", "part_one.py")
    code, line, message = refusal("\nimport part_one\n")
    assert (code, line) == ("E203", 2)
    assert "part_one.py, line 2)" in message


def test_a_file_that_is_not_text_is_refused() -> None:
    Path("task.py").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="not UTF-8"):
        read_python(Path("task.py"))


def test_a_file_may_import_its_neighbours_and_they_are_read_again_each_time() -> None:
    text = "from engine import Task, evaluate\nimport part_two\n\ntask = Task(main=evaluate(part_two.VALUE))\n"
    path = written(text)
    for value in (1, 2):
        written(f"VALUE = {value}\n", "part_two.py")
        # a compiled copy would tell the two apart by the second only
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            (task,) = read_python(path)
        finally:
            sys.dont_write_bytecode = before
        assert node_to_json(task.root)["main"] == {"evaluate": value}


def test_the_folder_of_a_file_cannot_hide_a_module_of_the_engine(tmp_path: Path) -> None:
    written("raise SystemExit\n", "workflows.py")
    read_python(written("import workflows\n" + ONE))
    assert sys.path[-1] == str(tmp_path.resolve())


def test_a_task_that_another_module_made_belongs_to_the_file_that_holds_it() -> None:
    written("from engine import Task, evaluate\n\ndef make():\n    return Task(main=evaluate(1))\n", "part_three.py")
    (task,) = read_python(written("from part_three import make\n\nmade = make()\n"))
    assert (task.name, task.root.position) == ("made", Position(1, 1))


def test_what_a_file_prints_stays_out_of_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    read_python(written("print('hello')\n" + ONE))
    assert capsys.readouterr() == ("", "hello\n")


# --- commands ------------------------------------------------------------------------------------------------------


def test_validate_checks_every_task_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    written(TWO)
    assert run_command(["validate", "task.py"]) == 0
    assert capsys.readouterr().out == (
        "task.py: task 'first' is valid (1 step)\ntask.py: task 'the-second' is valid (2 steps)\n"
    )


def test_validate_points_at_the_line_of_the_python_file(capsys: pytest.CaptureFixture[str]) -> None:
    written(ONE.replace("_.name", "_.name +"))
    assert run_command(["validate", "-o", "json", "task.py"]) == 2
    (found,) = json.loads(capsys.readouterr().out)["diagnostics"]
    assert (found["code"], found["file"], found["line"], found["column"]) == ("E301", "task.py", 5, 10)
    assert run_command(["validate", "task.py"]) == 2
    assert '    5 |     main=evaluate({"text"' in capsys.readouterr().out


def test_dry_run_takes_a_python_file(capsys: pytest.CaptureFixture[str]) -> None:
    written(ONE)
    assert run_command(["dry-run", "task.py", "--input", '{"name": "Ada"}', "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == {"text": "hello Ada"}


def test_folders_are_not_searched_for_python_files_since_that_would_run_them() -> None:
    written(ONE)
    written("main: {evaluate: 1}", "other.yaml")
    assert task_files([Path()]) == [Path("other.yaml")]


def test_an_argument_that_names_a_task_of_a_python_file_is_a_file() -> None:
    assert looks_like_file("task.py:first")


class Uploads:
    """An API that keeps what is sent to it."""

    def __init__(self, error: DefinitionError | None = None) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.error = error

    def post_text(self, path: str, text: str, *, content_type: str, params: dict[str, Any]) -> dict[str, Any]:
        del path
        self.sent.append((text, content_type, params))
        if self.error is not None:
            raise self.error
        return {"id": "1"}


def test_a_python_task_is_sent_as_yaml() -> None:
    api: Any = Uploads()
    upload_task(api, written(ONE))
    ((text, content_type, _),) = api.sent
    assert content_type == "application/yaml"
    assert text == (
        "name: greet\ndescription: Greet.\nmain:\n  label: make\n  evaluate:\n    text: $ 'hello ' + _.name\n"
    )


def test_what_the_server_finds_points_at_the_line_of_the_python_file() -> None:
    found = Diagnostic("E401", "unknown", Position(6, 11), path="main.evaluate.text")
    api: Any = Uploads(DefinitionError("wrong", diagnostics=[found]))
    with pytest.raises(DefinitionError) as caught:
        upload_task(api, written(ONE))
    assert caught.value.diagnostics[0].position == Position(5, 10)
    assert "task.py:5:10: error[E401]: unknown" in caught.value.render()


def test_the_place_of_a_path_is_that_of_the_nearest_part_that_exists() -> None:
    text = "from engine import *\nt = Task(main=[\n    evaluate(1),\n    if_('_', then=[\n        evaluate(2)])])\n"
    task: PythonTask = read_python_task(written(text))
    places = {
        "main[0].evaluate": Position(3, 5),
        "main[1].then[0]": Position(5, 9),
        "main[1].then[7]": Position(4, 5),
        "main[1].if": Position(4, 5),
        "": Position(2, 5),
        "nothing": Position(2, 5),
    }
    assert {path: task.place_of(path) for path in places} == places
