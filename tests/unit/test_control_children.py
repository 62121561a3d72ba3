"""What an execution is told when it asks for another task: which one is meant, whether it may be run, its plan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.children import ChildActivities, Children
from engine.control.agents import AgentService
from engine.control.children import ChildService
from engine.control.definitions import DefinitionService
from engine.core.contracts.activities import CallContext
from engine.core.contracts.children import PlanParams, ResolvedTask, ResolveParams
from engine.core.errors import AuthorityError, Conflict, EngineError, InvalidInput, NotFound, Unavailable
from engine.core.plan.codec import plan_from_json
from engine.core.plan.grant import OPEN, Grant
from engine.core.values import Json
from engine.store.database import Database, open_database
from engine.store.definitions import Definitions
from tests.support.postgres import store_url

TENANT = "acme"

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "store.db"))
    yield opened
    await opened.close()


@pytest.fixture
def tasks(database: Database) -> DefinitionService:
    return DefinitionService(Definitions(database), {})


def asked(task: str, given: Json = None, *, tenant: str = TENANT, agent_id: str = "", grant: Grant = OPEN) -> Any:
    """Return a question for a task."""
    context = CallContext(tenant=tenant, execution_id="e", path="main.0", key="e:main.0")
    return ResolveParams(context=context, task=task, input=given, agent_id=agent_id, grant=grant)


async def test_a_task_is_found_by_name_id_version_and_alias_in_its_tenant(tasks: DefinitionService) -> None:
    first = await tasks.create_task("name: t\nmain: {evaluate: 1}", tenant=TENANT)
    await tasks.create_task("name: t\nmain: {evaluate: 2}", tenant=TENANT, by_name=True)
    await tasks.versions.set_alias("t", "prod", tenant=TENANT, version=1)
    children = ChildService(tasks)
    found = {name: await children.resolve(asked(name)) for name in ("t", "t@1", "t@prod", first.task.id, "t@latest")}
    assert {name: item.version for name, item in found.items()} == {
        "t": 2,
        "t@1": 1,
        "t@prod": 1,
        "t@latest": 2,
        first.task.id: 2,
    }
    assert {(item.id, item.name) for item in found.values()} == {(first.task.id, "t")}
    with pytest.raises(NotFound) as caught:
        await children.resolve(asked("t", tenant="others"))
    assert caught.value.code == "task.not_found"


async def test_the_tasks_of_the_parents_agent_come_before_others_of_the_name(tasks: DefinitionService) -> None:
    agent = await AgentService(tasks.definitions.agents).create({"name": "Ada"}, tenant=TENANT)
    own = await tasks.create_task("name: t\nmain: {evaluate: 1}", tenant=TENANT, agent_id=agent.id)
    other = await tasks.create_task("name: t\nmain: {evaluate: 2}", tenant=TENANT)
    children = ChildService(tasks)
    assert (await children.resolve(asked("t", agent_id=agent.id))).id == own.task.id
    assert (await children.resolve(asked("t"))).id == other.task.id


async def test_of_the_tasks_of_other_agents_none_is_taken_without_a_word(tasks: DefinitionService) -> None:
    agents = [await AgentService(tasks.definitions.agents).create({"name": name}, tenant=TENANT) for name in "abc"]
    for agent in agents[:2]:
        await tasks.create_task("name: t\nmain: {evaluate: 1}", tenant=TENANT, agent_id=agent.id)
    children = ChildService(tasks)
    for agent_id in (agents[2].id, ""):
        with pytest.raises(Conflict) as caught:
            await children.resolve(asked("t", agent_id=agent_id))
        assert caught.value.code == "task.ambiguous"
    free = await tasks.create_task("name: t\nmain: {evaluate: 2}", tenant=TENANT)
    newest = await tasks.create_task("name: t\nmain: {evaluate: 3}", tenant=TENANT, agent_id=agents[0].id)
    assert (await children.resolve(asked("t"))).id == free.task.id
    assert (await children.resolve(asked("t", agent_id=agents[0].id))).id == newest.task.id


@pytest.mark.parametrize(("given", "code"), [({"n": "x"}, "input.invalid"), ({"n": 0}, "input.requirement")])
async def test_an_input_that_starts_no_execution_starts_no_child(
    tasks: DefinitionService, given: Json, code: str
) -> None:
    schema = "input_schema: {properties: {n: {type: integer}}}"
    await tasks.create_task(f"name: t\n{schema}\nrequire: [{{if: _.n > 0}}]\nmain: {{evaluate: 1}}", tenant=TENANT)
    with pytest.raises(InvalidInput) as caught:
        await ChildService(tasks).resolve(asked("t", given))
    assert caught.value.code == code


async def test_a_plan_that_was_asked_for_late_is_that_of_the_version_that_was_meant(tasks: DefinitionService) -> None:
    created = await tasks.create_task("name: t\nmain: {evaluate: 1}", tenant=TENANT)
    await tasks.create_task("name: t\nmain: {evaluate: 2}", tenant=TENANT, by_name=True)
    await tasks.versions.remove("t", tenant=TENANT)
    body = await ChildService(tasks).plan(PlanParams(tenant=TENANT, task_id=created.task.id, version=1))
    assert plan_from_json(body).blocks[0].ops[0].value.value == 1  # type: ignore[union-attr]


async def test_a_child_is_bound_by_its_own_bound_and_by_that_of_its_parent(tasks: DefinitionService) -> None:
    text_of = "name: t\nallow: {models: [a, b]}\nmain: [{prompt: hi, model: a}, {task: deeper}]"
    created = await tasks.create_task(text_of, tenant=TENANT)
    children = ChildService(tasks)
    outer = Grant(models=("a", "c"), tasks=("deeper",))
    assert (await children.resolve(asked("t", grant=outer))).id == created.task.id
    body = await children.plan(PlanParams(tenant=TENANT, task_id=created.task.id, version=1, grant=outer))
    assert plan_from_json(body).allow == Grant(models=("a",), tasks=("deeper",))


@pytest.mark.parametrize("grant", [Grant(models=("b",)), Grant(tasks=()), Grant(models=(), tasks=("deeper",))])
async def test_a_child_that_may_touch_more_than_its_parent_is_refused(tasks: DefinitionService, grant: Grant) -> None:
    created = await tasks.create_task("name: t\nmain: [{prompt: hi, model: a}, {task: deeper}]", tenant=TENANT)
    children = ChildService(tasks)
    with pytest.raises(AuthorityError, match="'t' may touch more"):
        await children.resolve(asked("t", grant=grant))
    with pytest.raises(AuthorityError):
        await children.plan(PlanParams(tenant=TENANT, task_id=created.task.id, version=1, grant=grant))


async def test_a_store_that_does_not_answer_is_no_answer(database: Database, tasks: DefinitionService) -> None:
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE tasks RENAME TO away"))
    with pytest.raises(Unavailable) as caught:
        await ChildService(tasks).resolve(asked("t"))
    assert (caught.value.code, caught.value.retryable) == ("store.unreachable", True)


# --- the activities ------------------------------------------------------------------------------------------------


class Failing:
    """Knows no task, and says why."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def resolve(self, params: ResolveParams) -> ResolvedTask:
        del params
        raise self._error

    async def plan(self, params: PlanParams) -> dict[str, Any]:
        del params
        raise self._error


async def failure_of(error: Exception) -> BaseException:
    """Return what the activity raises when a look-up does."""
    failing: Children = Failing(error)
    with pytest.raises(Exception) as caught:  # noqa: PT011 which one it is, is the question
        await ActivityEnvironment().run(ChildActivities(lambda: failing).resolve, asked("t"))
    return caught.value


async def test_a_store_that_is_away_is_asked_again_and_an_error_of_the_author_is_final() -> None:
    away = await failure_of(Unavailable("away", code="store.unreachable", retryable=True))
    assert isinstance(away, EngineError)  # Temporal repeats what it does not know to be final
    final = await failure_of(NotFound("no task", code="task.not_found"))
    assert isinstance(final, ApplicationError)
    assert (final.type, final.non_retryable) == ("task.not_found", True)
    ours = await failure_of(KeyError("x"))
    assert isinstance(ours, ApplicationError)
    assert (ours.type, ours.non_retryable) == ("bug", True)
