"""The operator's project as `everstep dev` watches it: which files count, and when a change is complete."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.core.errors import EngineError
from engine.edge.supervisor.child import Guard
from engine.edge.supervisor.project import ProjectWatch, read_contracts

PROJECT = '[tools]\nmodules = ["tools.py", "more.things"]\n'
TOOL = """
from engine.tooling import tool

@tool(effect="read", idempotent=True)
def look(place: str, depth: int = 1) -> str:
    '''Look.'''
    print("this must not get into the contracts")
    return place

print("nor this")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "things.py").write_text("")
    (tmp_path / "tools.py").write_text(TOOL)
    (tmp_path / "neighbour.py").write_text("")
    file = tmp_path / "everstep.toml"
    file.write_text(PROJECT)
    return file


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    keeper = Guard()
    await keeper.start()
    yield keeper
    await keeper.close()


@pytest.mark.parametrize("name", ["everstep.toml", "tools.py", "more/things.py"])
def test_the_project_file_and_the_modules_it_names_are_watched(project: Path, name: str) -> None:
    watch = ProjectWatch(project)
    assert watch.changed() == []
    file = project.parent / name
    file.write_text(f"{file.read_text()}\n# more\n")
    assert watch.changed() == [file.name]
    assert watch.changed() == []


def test_other_files_are_not(project: Path) -> None:
    watch = ProjectWatch(project)
    (project.parent / "neighbour.py").write_text("x = 1\n")
    (project.parent / "new.py").write_text("x = 1\n")
    assert watch.changed() == []


def test_a_document_of_a_service_that_is_saved_has_changed(project: Path) -> None:
    services = '[tools.openapi.a]\ndocument = "a.yaml"\n[tools.openapi.b]\ndocument = "https://b.example/a.yaml"\n'
    project.write_text(f"{project.read_text()}\n{services}")
    watch = ProjectWatch(project)
    (project.parent / "a.yaml").write_text("openapi: 3.1.0\n")
    assert watch.changed() == ["a.yaml"]


def test_a_file_that_is_removed_and_one_that_is_made_have_changed(project: Path) -> None:
    watch = ProjectWatch(project)
    (project.parent / "tools.py").unlink()
    assert watch.changed() == ["tools.py"]
    (project.parent / "tools.py").write_text(TOOL)
    assert watch.changed() == ["tools.py"]


def test_a_project_that_comes_later_is_found_with_its_modules(tmp_path: Path) -> None:
    watch = ProjectWatch(tmp_path / "everstep.toml")
    (tmp_path / "a.py").write_text("")
    assert watch.changed() == []
    (tmp_path / "everstep.toml").write_text('[tools]\nmodules = ["a.py"]\n')
    assert watch.changed() == ["everstep.toml", "a.py"]


def test_a_project_file_that_is_broken_for_a_moment_names_what_it_named_before(project: Path) -> None:
    watch = ProjectWatch(project)
    project.write_text("[tools\n")
    assert watch.changed() == ["everstep.toml"]
    (project.parent / "tools.py").write_text("x = 1\n")
    assert watch.changed() == ["tools.py"]


def test_files_that_are_saved_together_are_told_together(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.edge.supervisor.project.LOOK_S", 0.01)
    watch = ProjectWatch(project)
    for file in (project, project.parent / "tools.py"):
        file.write_text(f"{file.read_text()}\n")
    assert sorted(asyncio.run(watch.next_change(asyncio.Event()))) == ["everstep.toml", "tools.py"]


async def test_a_stop_ends_the_wait_with_nothing(project: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    assert await ProjectWatch(project).next_change(stop) == []


async def test_contracts_are_read_by_a_process_of_its_own(project: Path, guard: Guard) -> None:
    contracts = await read_contracts({**os.environ, "EVERSTEP_PROJECT_FILE": str(project)}, guard)
    assert list(contracts) == ["look"]
    look = contracts["look"]
    assert (look.type, look.effect.value, look.idempotent) == ("python", "read", True)
    assert look.parameters is not None
    assert set(look.parameters["properties"]) == {"place", "depth"}


async def test_contracts_of_services_are_read_with_the_others(project: Path, guard: Guard) -> None:
    (project.parent / "a.yaml").write_text("openapi: 3.1.0\npaths: {/x: {get: {operationId: op}}}\n")
    text = '[tools.openapi.a]\ndocument = "a.yaml"\nbase_url = "https://a.example"\nauth = {bearer_env = "A_KEY"}\n'
    with project.open("a") as file:
        file.write(f"\n{text}")
    environment = {**os.environ, "EVERSTEP_PROJECT_FILE": str(project), "A_KEY": "sk-secret"}
    contracts = await read_contracts(environment, guard)
    assert set(contracts) == {"look", "a_op"}
    assert (contracts["a_op"].type, contracts["a_op"].spec["base_url"]) == ("openapi", "https://a.example")
    assert "sk-secret" not in str(contracts)
    (project.parent / "everstep.toml").write_text(text.replace("https://", "ftp://"))
    with pytest.raises(EngineError, match=r"tools\.openapi\.a\.base_url"):
        await read_contracts(environment, guard)


async def test_a_module_that_cannot_be_imported_is_told_with_its_reason(project: Path, guard: Guard) -> None:
    (project.parent / "tools.py").write_text("from engine.tooling import tul\n")
    with pytest.raises(EngineError, match=r"config\.tool_module.*'tools\.py' cannot be imported: ImportError"):
        await read_contracts({**os.environ, "EVERSTEP_PROJECT_FILE": str(project)}, guard)
