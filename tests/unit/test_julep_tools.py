"""Tools as Julep's clients define them: what becomes of them, which an agent's task takes over, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.control.compiling import Compiled, compile_text
from engine.control.integrations import PROVIDERS as SHIPPED
from engine.control.toolrules import present_tools
from engine.control.tools import load_catalog
from engine.core.errors import CompileError
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.ir import ToolContract
from engine.core.plan.ops import AgentOp, PromptOp
from engine.core.plan.system_tools import OPERATIONS, plain_arguments
from engine.core.spec.vocabulary import PROVIDERS
from engine.settings import load_project

Tool = dict[str, Any]
DOCS = {"type": "system", "system": {"resource": "agent", "subresource": "doc", "operation": "search"}}
CALL = {"name": "call", "type": "api_call", "api_call": {"method": "GET", "url": "https://a.example"}}


@pytest.fixture
def switched_on(tmp_path: Path) -> dict[str, ToolContract]:
    file = tmp_path / "everstep.toml"
    file.write_text(
        '[backends.none]\nbase_url = "http://127.0.0.1:1/v1"\n[tools.integrations.wikipedia]\n'
        '[tools.integrations.look]\nprovider = "brave"\napi_key_env = "KEY"\n[tools.approve]\n"look" = true\n'
    )
    return dict(load_catalog(load_project(file), tmp_path).contracts())


def compiled(
    tools: Sequence[Tool] = (),
    main: Sequence[dict[str, Any]] = ({"evaluate": {"x": "$ 1"}},),
    *,
    contracts: dict[str, ToolContract] | None = None,
    agents: Sequence[Tool] = (),
    dialect: Any = "julep-2025",
    **more: Any,
) -> Compiled:
    text = json.dumps({"name": "t", "tools": list(tools), "main": list(main), **more})
    return compile_text(text, file="t.json", contracts=contracts or {}, inherited=agents, dialect=dialect)


def contract_of(tool: Tool, **more: Any) -> ToolContract:
    return compiled([tool], [{"tool": tool["name"], "arguments": "$ _"}], **more).plan.tools[tool["name"]]


def messages_of(tools: Sequence[Tool], **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(CompileError) as caught:
        compiled(tools, **more)
    return [(item.code, f"{item.message}; {item.hint}") for item in caught.value.diagnostics]


# --- definitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    ["$ 'Bearer ' + secrets.key", "$ f'Bearer {secrets.key}'", "Bearer {secrets.key}", "Bearer {{ secrets['key'] }}"],
)
def test_secrets_are_named_by_their_alias_however_they_are_written(written: str) -> None:
    call = {**CALL["api_call"], "headers": {"A": written}, "secrets": {"key": {"name": "their_key"}}}  # type: ignore[dict-item]
    contract = contract_of({**CALL, "api_call": call})
    assert contract.secrets == ({"at": ["headers", "A"], "parts": ["Bearer ", {"secret": "their_key"}]},)


def test_members_without_a_value_are_none() -> None:
    nothing = dict.fromkeys(("function", "integration", "system", "computer_20241022", "description"))
    call = {**CALL["api_call"], "headers": None, "params": None, "timeout": 5, "secrets": None}  # type: ignore[dict-item]
    contract = contract_of({**CALL, **nothing, "api_call": call})
    assert (contract.type, contract.timeout_s, "headers" in contract.spec) == ("api_call", 5.0, False)


def test_what_a_server_told_of_a_tool_may_be_sent_back() -> None:
    told = {"id": "4", "created_at": "now", "updated_at": "now", "inherited": False}
    assert contract_of({**CALL, **told}) == contract_of(CALL)


@pytest.mark.parametrize("kind", ["computer_20241022", "bash_20241022", "text_editor_20241022"])
def test_what_only_a_model_knows_is_offered_to_it_and_run_by_the_client(kind: str) -> None:
    tool = {"name": "it", "type": kind, kind: {"display_width_px": 800} if "computer" in kind else {}}
    assert contract_of(tool).type == "function"
    op = compiled([tool], [{"prompt": "hi", "tools": "all"}]).plan.blocks[0].ops[0]
    assert isinstance(op, PromptOp)
    assert op.tools[0]["function"]["parameters"]["required"] in (["action"], ["command"])


def test_system_tools_are_called_with_julep_s_names() -> None:
    contract = contract_of({"name": "find", **DOCS})
    assert contract.spec == {"operation": "agent.doc.search", "names": {"agent_id": "agent"}}
    assert contract.parameters["required"][0] == "agent_id"
    create = {"resource": "user", "subresource": "doc", "operation": "create", "resource_id": "ada"}
    contract = contract_of({"name": "add", "type": "system", "system": create})
    assert (contract.spec["arguments"], contract.parameters["required"]) == ({"user": "ada"}, [])
    given = {"agent_id": "a", "doc_id": "d", "data": {"title": "t", "content": "c"}}
    assert plain_arguments(given, {"agent_id": "agent", "doc_id": "id"}) == {
        "agent": "a",
        "id": "d",
        "title": "t",
        "content": "c",
    }


def test_every_operation_can_be_called_by_both_names() -> None:
    for name, operation in OPERATIONS.items():
        *place, last = name.split(".")
        system = dict(zip(("resource", "subresource"), place, strict=False)) | {"operation": last}
        contract = contract_of({"name": "it", "type": "system", "system": system})
        assert set(contract.spec["names"].values()) <= set(operation.properties)


def test_a_prompt_may_define_its_tools_itself() -> None:
    main = [{"prompt": "hi", "tools": [CALL, {"ref": {"name": "find"}}], "auto_run_tools": True}]
    plan = compiled([{"name": "find", **DOCS}], main).plan
    op = plan.blocks[0].ops[0]
    assert isinstance(op, AgentOp)
    assert (op.tools, plan.tools["call"].type) == (("call", "find"), "api_call")


# --- integrations ---------------------------------------------------------------------------------------------------


def test_the_language_knows_the_providers_that_are_shipped() -> None:
    assert set(PROVIDERS) == {*SHIPPED, "dummy"}


def test_an_integration_uses_what_the_operator_switched_on(switched_on: dict[str, ToolContract]) -> None:
    setup = {"brave_api_key": "$ secrets.brave"}
    tool = {"name": "web_search", "type": "integration", "integration": {"provider": "brave", "setup": setup}}
    contract = contract_of(tool, contracts=switched_on)
    assert (contract.name, contract.type, contract.spec["integration"]) == ("web_search", "provider", "look")
    assert contract.approve
    assert contract.secrets == ({"at": ["setup", "brave_api_key"], "parts": [{"secret": "brave"}]},)
    plan = compiled([tool], [{"tool": "web_search"}], contracts=switched_on).plan
    assert plan_from_json(plan_to_json(plan)) == plan


def test_what_a_definition_says_need_not_be_said_by_a_call(switched_on: dict[str, ToolContract]) -> None:
    wiki = {"provider": "wikipedia", "method": "search", "arguments": {"query": "tea"}}
    contract = contract_of({"name": "wiki", "type": "integration", "integration": wiki}, contracts=switched_on)
    assert (contract.parameters["required"], contract.spec["arguments"]) == ([], {"query": "tea"})


def test_the_operator_s_word_on_an_integration_counts_as_it_is_now(switched_on: dict[str, ToolContract]) -> None:
    tool = {"name": "web_search", "type": "integration", "integration": {"provider": "brave"}}
    plan = compiled([tool], [{"tool": "web_search"}], contracts=switched_on).plan
    freely = {**switched_on, "look": replace(switched_on["look"], approve=())}
    assert present_tools(plan, freely, "a").tools["web_search"].approve == ()
    others = {**switched_on, "look": replace(switched_on["look"], tenants=("b",))}
    with pytest.raises(CompileError) as caught:
        present_tools(plan, others, "a")
    assert caught.value.code == "task.not_runnable"


def test_providers_that_are_not_here_are_refused_with_those_that_are() -> None:
    spider = {"name": "crawl", "type": "integration", "integration": {"provider": "spider", "method": "crawl"}}
    [(code, message)] = messages_of([spider])
    assert code == "E207"
    assert "arxiv, brave, dummy, email, weather, web, wikipedia" in message
    email = {"name": "mail", "type": "integration", "integration": {"provider": "email"}}
    [(code, message)] = messages_of([email])
    assert code == "E402"
    assert "[tools.integrations.email]" in message


# --- tools of the agent ---------------------------------------------------------------------------------------------


def test_a_task_takes_over_its_agent_s_tools_and_its_own_win() -> None:
    agents = [{"id": "7", **CALL}, {"id": "8", "name": "find", **DOCS}]
    own = {**CALL, "api_call": {"method": "GET", "url": "https://own.example"}}
    main: list[dict[str, Any]] = [{"prompt": "hi", "tools": "all", "auto_run_tools": True}, {"tool": "call"}]
    plan = compiled([own], main, agents=agents, inherit_tools=True).plan
    assert plan.tools["call"].spec["url"] == "https://own.example"
    op = plan.blocks[0].ops[0]
    assert isinstance(op, AgentOp)
    assert op.tools == ("call", "find")
    with pytest.raises(CompileError, match="no tool 'find'"):
        compiled([], [{"tool": "find"}], agents=agents)


def test_tasks_of_the_older_client_take_over_the_tools_unless_they_refuse() -> None:
    assert "call" in compiled([], [{"tool": "call"}], agents=[CALL], dialect="julep-2024").plan.tools
    with pytest.raises(CompileError):
        compiled([], [{"tool": "call"}], agents=[CALL], dialect="julep-2024", inherit_tools=False)


def test_a_prompt_may_name_an_agent_s_tool_by_its_id() -> None:
    main = [{"prompt": "hi", "tools": [{"ref": {"id": "7"}}]}]
    op = compiled([], main, agents=[{"id": "7", **CALL}], inherit_tools=True).plan.blocks[0].ops[0]
    assert isinstance(op, PromptOp)
    assert [tool["function"]["name"] for tool in op.tools] == ["call"]


def test_an_agent_s_tool_that_cannot_be_used_is_left_out_with_a_warning() -> None:
    spider = {"name": "crawl", "type": "integration", "integration": {"provider": "spider"}}
    mail = {"name": "mail", "type": "integration", "integration": {"provider": "email"}}
    made = compiled([], [{"prompt": "hi", "tools": "all"}], agents=[spider, mail, CALL], inherit_tools=True)
    assert [(item.code, item.path) for item in made.warnings] == [
        ("W612", "agent.tools.crawl"),
        ("W612", "agent.tools.mail"),
    ]
    op = made.plan.blocks[0].ops[0]
    assert isinstance(op, PromptOp)
    assert [tool["function"]["name"] for tool in op.tools] == ["call"]
