"""Agents and users by system tools: listed, shown, created, changed, deleted, in the tenant of the task."""

from __future__ import annotations

import pytest

from engine.control.agents import AgentService
from engine.control.users import UserService
from engine.store.users import UserStore
from tests.support.lab import TENANT, Lab, plan_of
from tests.workflow.test_system_tools import permit, using


@pytest.mark.parametrize("resource", ["agent", "user"])
async def test_what_tasks_do_to_agents_and_users_is_what_a_later_read_shows(lab: Lab, resource: str) -> None:
    permit(lab, f"{resource}.*")

    def tool(operation: str, arguments: str) -> str:
        return using(f"{{resource: {resource}, operation: {operation}}}", arguments)

    async with lab.worker():
        made = (await lab.run(plan_of(tool("create", "{name: Ann, metadata: {a: 1}}")))).output
        text = tool("update", "{id: $ _, about: tall, metadata: {b: 2}}")
        changed = (await lab.run(plan_of(text), made["id"])).output
        assert (changed["name"], changed["about"], changed["metadata"]) == ("Ann", "tall", {"a": 1, "b": 2})
        assert (await lab.run(plan_of(tool("get", "{id: $ _}")), made["id"])).output == changed
        for wanted, found in (("{b: 2}", [changed]), ("{b: 3}", [])):
            listed = await lab.run(plan_of(tool("list", f"{{metadata_filter: {wanted}}}")))
            assert listed.output == found
        gone = (await lab.run(plan_of(tool("delete", "{id: $ _}")), made["id"])).output
        assert gone["id"] == made["id"]
        missing = await lab.run(plan_of(tool("get", "{id: $ _}")), made["id"])
    assert missing.error is not None
    assert missing.error["code"] == f"{resource}.not_found"


async def test_agents_and_users_of_another_tenant_are_not_there(lab: Lab) -> None:
    permit(lab, "*")
    agents = AgentService(lab.definitions.definitions.agents)
    users = UserService(UserStore(lab.store.database))
    theirs = {
        "agent": (await agents.create({"name": "Eve", "canonical_name": "eve"}, tenant="another")).id,
        "user": (await users.create({"name": "Eve"}, tenant="another")).id,
    }
    async with lab.worker():
        for resource, its_id in theirs.items():
            for operation, arguments in (
                ("get", "{id: $ _}"),
                ("update", "{id: $ _, name: x}"),
                ("delete", "{id: $ _}"),
            ):
                text = using(f"{{resource: {resource}, operation: {operation}}}", arguments)
                ended = await lab.run(plan_of(text), its_id)
                assert ended.error is not None
                assert ended.error["code"] == f"{resource}.not_found"
    assert (await users.store.get(theirs["user"], tenant="another")).name == "Eve"


@pytest.mark.parametrize("resource", ["agent", "user"])
async def test_a_bounded_task_reads_agents_and_users_and_changes_none(lab: Lab, resource: str) -> None:
    permit(lab, f"{resource}.*")
    agents = AgentService(lab.definitions.definitions.agents)
    users = UserService(UserStore(lab.store.database))
    kept = {
        "agent": (await agents.create({"name": "Ann"}, tenant=TENANT)).id,
        "user": (await users.create({"name": "Ann"}, tenant=TENANT)).id,
    }[resource]
    async with lab.worker():
        for operation, arguments in (
            ("create", "{name: x}"),
            ("update", "{id: $ _, name: x}"),
            ("delete", "{id: $ _}"),
        ):
            text = using(f"{{resource: {resource}, operation: {operation}}}", arguments, "allow: {tools: [x]}")
            ended = await lab.run(plan_of(text), kept)
            assert ended.error is not None
            assert ended.error["code"] == "authority.denied"
        text = using(f"{{resource: {resource}, operation: list}}", "{}", "allow: {tools: [x]}")
        assert [item["name"] for item in (await lab.run(plan_of(text))).output] == ["Ann"]
