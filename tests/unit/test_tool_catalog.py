"""Reading the operator's tool modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.control.tools import load_catalog
from engine.core.errors import InvalidInput
from engine.settings import Project, ToolsConfig
from engine.tooling import ToolCatalog

TOOL = "from engine.tooling import tool\n\n@tool\ndef {name}(a: int) -> int:\n    return a\n"


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(folder: Path, *modules: str) -> ToolCatalog:
    return load_catalog(Project(folder=folder, tools=ToolsConfig(modules=list(modules))))


def failure(folder: Path, *modules: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load(folder, *modules)
    return caught.value


def test_an_empty_project_has_no_tools_and_leaves_the_import_path_alone(tmp_path: Path) -> None:
    before = list(sys.path)
    assert dict(load(tmp_path).tools) == {}
    assert sys.path == before


def test_tools_are_collected_from_files_and_from_importable_modules(tmp_path: Path) -> None:
    (tmp_path / "first_tools.py").write_text(TOOL.format(name="one"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "second.py").write_text(TOOL.format(name="two"))
    (tmp_path / "third_tools.py").write_text(TOOL.format(name="three"))
    catalog = load(tmp_path, "first_tools.py", "sub/second.py", "third_tools")
    assert set(catalog.tools) == {"one", "two", "three"}


def test_the_projects_folder_goes_to_the_end_of_the_import_path(tmp_path: Path) -> None:
    (tmp_path / "end_tools.py").write_text(TOOL.format(name="one"))
    load(tmp_path, "end_tools.py")
    assert sys.path[-1] == str(tmp_path)


def test_a_tool_that_another_tool_file_imports_is_one_tool(tmp_path: Path) -> None:
    (tmp_path / "base_tools.py").write_text(TOOL.format(name="one"))
    (tmp_path / "more_tools.py").write_text("from base_tools import one\n" + TOOL.format(name="two"))
    assert set(load(tmp_path, "more_tools.py", "base_tools.py").tools) == {"one", "two"}


@pytest.mark.parametrize("name", ["activities.py", "json.py", "my-tools.py"])
def test_a_file_may_bear_the_name_of_a_module_of_ours_or_none_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TOOL.format(name="mine"))
    assert set(load(tmp_path, name).tools) == {"mine"}


def test_a_file_outside_the_folder_may_be_named_and_dataclasses_in_it_work(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from engine.tooling import tool\n\n@dataclass\nclass Point:\n    x: int\n    kind: ClassVar[str] = 'p'\n\n"
        "@tool\ndef far(at: Point) -> int:\n    return at.x\n"
    )
    (tmp_path / "outside.py").write_text(source)
    (tmp_path / "project").mkdir()
    catalog = load(tmp_path / "project", "../outside.py")
    assert "x" in str(catalog.contracts()["far"].parameters)


def test_two_tools_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "left_tools.py").write_text(TOOL.format(name="same"))
    (tmp_path / "right_tools.py").write_text(TOOL.format(name="same"))
    error = failure(tmp_path, "left_tools.py", "right_tools.py")
    assert error.code == "config.duplicate_tool"
    assert all(part in error.message for part in ("'same'", "left_tools.py", "right_tools.py"))


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
        ("\n1 / 0\n", "line 2"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
)
def test_a_module_that_fails_is_named_with_its_error(tmp_path: Path, source: str, part: str) -> None:
    (tmp_path / "bad_tools.py").write_text(source)
    error = failure(tmp_path, "bad_tools.py")
    assert error.code == "config.tool_module"
    assert "bad_tools.py" in error.message
    assert part in error.message
    assert "everstep.toml" in error.hint


@pytest.mark.parametrize("entry", ["missing.py", "sub/missing.py", "missing_module"])
def test_a_missing_module_is_named(tmp_path: Path, entry: str) -> None:
    error = failure(tmp_path, entry)
    assert error.code == "config.tool_module"
    assert entry in error.message


def test_a_tool_without_schema_is_refused_when_the_catalog_is_read(tmp_path: Path) -> None:
    (tmp_path / "odd_tools.py").write_text(
        "from engine.tooling import tool\n\nclass X: ...\n\n@tool\ndef odd(a: X) -> None: ...\n"
    )
    assert failure(tmp_path, "odd_tools.py").code == "config.bad_tool"
