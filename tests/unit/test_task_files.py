"""Which files of a folder are tasks, which are tests of tasks, and which are neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.core.errors import InvalidInput
from engine.edge.cli.reload import task_files
from engine.edge.cli.taskfiles import find_tasks, find_tests

TASK = "main:\n  - evaluate: 1\n"
FILES = {
    "a.yaml": TASK,
    "b.json": '{"main": [{"evaluate": 1}]}',
    "chain.yaml": "dialect: contenox\ntasks: []\n",
    "broken.yaml": "x: [",
    "misspelt.yaml": "mian: []\n",
    "settings.yaml": "a: 1\n",
    "list.json": "[1]",
    "a.test.yaml": "cases: []\n",
    "a.cassette.json": "{}",
    "everstep.toml": "",
    "tools.py": "raise SystemExit('not to be run')\n",
    "broken.py": "def :\n",
    "test_tasks.py": "from engine import Task\nraise SystemExit('not to be run')\n",
    "two.py": "from engine import Task, evaluate\n\none = Task(main=[evaluate(1)])\ntwo = Task(main=[evaluate(2)])\n",
    ".hidden/c.yaml": TASK,
    "__pycache__/d.yaml": TASK,
    "deep/e.yml": TASK,
    "deep/e.test.yml": "cases: []\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_folder_gives_its_tasks_and_whatever_somebody_should_look_at(folder: Path) -> None:
    found = find_tasks([folder])
    names = [str(item.path.relative_to(folder)) for item in found.files]
    assert names == [
        "a.yaml",
        "b.json",
        "broken.yaml",
        "chain.yaml",
        "deep/e.yml",
        "misspelt.yaml",
        "two.py:one",
        "two.py:two",
    ]
    assert [path.name for path in found.skipped] == ["list.json", "settings.yaml"]
    assert found.folders == [folder]


def test_a_file_that_is_named_counts_whatever_it_holds_and_once(folder: Path) -> None:
    found = find_tasks([folder / "settings.yaml", folder / "deep", folder / "deep" / "e.yml"])
    assert [item.path.name for item in found.files] == ["settings.yaml", "e.yml"]


def test_a_folder_gives_its_tests(folder: Path) -> None:
    assert [path.name for path in find_tests([folder])] == ["a.test.yaml", "e.test.yml"]


def test_a_folder_without_tasks_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    for find, code in ((find_tasks, "apply.nothing"), (find_tests, "test.nothing")):
        with pytest.raises(InvalidInput) as caught:
            find([tmp_path])
        assert (caught.value.code, caught.value.hint != "") == (code, True)


def test_the_watch_of_dev_loads_neither_tests_nor_recordings(folder: Path) -> None:
    names = {path.name for path in task_files([folder])}
    assert {"a.yaml", "b.json"} <= names
    assert not names & {"a.test.yaml", "a.cassette.json"}


def test_a_test_file_that_is_named_is_told_from_a_task(folder: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        find_tasks([folder / "a.test.yaml"])
    assert caught.value.code == "file.is_test"
    assert "everstep test" in caught.value.hint
