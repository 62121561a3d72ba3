"""Tools that the operator offers to some tenants: to all others they do not exist, in tasks, at starts and in calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.runner import ToolActivities
from engine.control.applying import TaskFile, apply_tasks
from engine.control.compiling import compile_text
from engine.control.definitions import DefinitionService
from engine.control.tools import load_catalog
from engine.core.contracts.activities import ToolParams
from engine.core.errors import CompileError, InvalidInput
from engine.core.plan.codec import plan_from_json
from engine.settings import HttpConfig, Project, ToolsConfig, load_project
from engine.store.database import open_database
from engine.store.definitions import Definitions
from tests.backends.loopback import CONTEXT
from tests.support.postgres import store_url

MODULE = '''
from engine import tool

@tool
def pay(sum: int) -> str:
    """Pay."""
    return "paid"

@tool(effect="read")
def look() -> str:
    """Look."""
    return "seen"
'''
TOML = """
[tools]
modules = ["tools.py"]
[tools.integrations.wikipedia]
[tools.tenants]
"p*" = ["acme"]
"pay" = ["bank"]
"wikipedia" = ["bank"]
"""
PAYS = "name: t\nmain:\n  - {tool: pay, arguments: {sum: 1}}\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "tools.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "everstep.toml").write_text(TOML, encoding="utf-8")
    return load_project(tmp_path / "everstep.toml")


@pytest.fixture
async def definitions(tmp_path: Path) -> AsyncIterator[Definitions]:
    database = await open_database(store_url(tmp_path / "s.db"))
    yield Definitions(database)
    await database.close()


def service_of(project: Project, definitions: Definitions) -> DefinitionService:
    return DefinitionService(definitions, load_catalog(project).contracts())


async def test_a_tenant_names_tools_that_it_is_offered_by_any_glob(project: Project, definitions: Definitions) -> None:
    service = service_of(project, definitions)
    for tenant in ("acme", "bank"):
        made = await service.create_task(PAYS, tenant=tenant)
        # who else may is nobody's business
        assert "tenants" not in str(made.task.plan)
        assert plan_from_json(await service.plan_for_start(made.task)) == plan_from_json(made.task.plan)


async def test_to_others_a_tool_does_not_exist(project: Project, definitions: Definitions) -> None:
    service = service_of(project, definitions)
    with pytest.raises(CompileError) as caught:
        await service.create_task(PAYS, tenant="other")
    with pytest.raises(CompileError) as unknown:
        await service.create_task(PAYS.replace("pay", "poy"), tenant="other")
    said, like = caught.value.diagnostics[0], unknown.value.diagnostics[0]
    assert (said.code, said.message) == (like.code, like.message.replace("poy", "pay"))
    # nor is it what somebody may have meant
    assert "pay" not in f"{like.message}{like.hint}"
    assert not (await service.check_task(PAYS, tenant="other")).ok
    await service.create_task("name: t\nmain:\n  - {tool: look, arguments: {}}\n", tenant="other")


async def test_files_that_are_applied_are_held_to_it_too(project: Project, definitions: Definitions) -> None:
    service = service_of(project, definitions)
    with pytest.raises(InvalidInput) as caught:
        await apply_tasks(service, [TaskFile("t.yaml", PAYS)], tenant="other", applied_set="")
    assert caught.value.code == "apply.invalid"
    await apply_tasks(service, [TaskFile("t.yaml", PAYS)], tenant="bank", applied_set="")


async def test_a_task_whose_tool_was_taken_from_its_tenant_is_not_started(
    project: Project, definitions: Definitions
) -> None:
    made = await service_of(project, definitions).create_task(PAYS, tenant="acme")
    narrower = project.model_copy(update={"tools": project.tools.model_copy(update={"tenants": {"pay": ["bank"]}})})
    with pytest.raises(CompileError) as caught:
        await service_of(narrower, definitions).plan_for_start(made.task)
    assert caught.value.code == "task.not_runnable"
    assert "there is no tool 'pay'" in caught.value.message
    assert "bank" not in caught.value.message + caught.value.hint


async def test_a_worker_calls_it_for_nobody_else_whatever_a_plan_holds(project: Project) -> None:
    catalog = load_catalog(project)
    activities = ToolActivities(catalog, HttpConfig(), config=project.tools)
    contract = replace(catalog.contracts()["pay"], tenants=())

    async def call(tenant: str) -> object:
        context = replace(CONTEXT, tenant=tenant)
        params = ToolParams(context=context, tool=contract, arguments={"sum": 1}, timeout_s=5)
        return (await ActivityEnvironment().run(activities.call, params)).output

    try:
        assert await call("acme") == "paid"
        with pytest.raises(ApplicationError) as caught:
            await call("other")
    finally:
        await activities.aclose()
    assert caught.value.type == "authority.denied"


def test_whoever_has_the_file_may_name_all_tools(project: Project) -> None:
    plan = compile_text(PAYS, contracts=load_catalog(project).contracts()).plan
    assert plan.tools["pay"].tenants == ()


def test_a_glob_for_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 item"):
        ToolsConfig.model_validate({"tenants": {"*": []}})
