"""Tasks as Julep's clients create, read and change them; none of it needs Temporal."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from julep._models import validate_type
from julep.types import Task

from tests.compat.apiserver import api_server, settings_for

pytestmark = pytest.mark.usefixtures("both_stores")

SDK = {"X-Stainless-Lang": "python"}
FERN = {"X-Fern-Language": "Python"}
YAML = {"content-type": "text/x-yaml"}
HELLO: dict[str, Any] = {"name": "hello", "main": [{"evaluate": {"text": "$ _.name"}}]}
EVERY_KIND = """
name: all of it
canonical_name: all_of_it
description: Every kind of step, also as the types of the SDK have no place for it.
input_schema: {type: object}
metadata: {team: {name: a}}
tools:
  - {name: look, type: function, function: {parameters: {type: object}}}
  - name: call
    type: api_call
    api_call:
      url: https://example.org
      headers: {A: b}
      params_schema: {type: object, properties: {q: {type: string}}}
  - {name: all_docs, type: system, system: {resource: doc, operation: list}}
  - {name: child, task: other}
main:
  - {evaluate: {a: $ 1, b: [x, 2]}, label: first}
  - {evaluate: "$ [1]"}
  - {tool: call, arguments: _}
  - tool_call: {tool: all_docs, arguments: {limit: 2}}
  - {prompt: "hi {_}", settings: {model: m, temperature: 0.1}, unwrap: true, tools: [look]}
  - {prompt: [{role: system, content: a}, {role: user, content: $ _}], tools: all, tool_choice: auto}
  - {set: {k: $ 1}}
  - {get: k}
  - {get: [k]}
  - {log: "now {_}"}
  - {workflow: other, arguments: {n: 3}}
  - {yield: other, arguments: {n: $ 3}}
  - {sleep: {seconds: 1}}
  - {sleep: 1s}
  - {wait_for_input: {info: {q: why}}}
  - {if: $ _, then: {evaluate: {x: $ 1}}, else: [{evaluate: {x: $ 2}}, {evaluate: {y: $ _.x}}]}
  - if: true
    then: {if: $ _, then: {error: no}}
  - switch:
      - {case: $ _.x, then: {evaluate: {x: $ 1}}}
      - {case: _, then: [{evaluate: {x: $ 1}}, {return: {v: $ 1}}]}
  - {foreach: {in: "$ [1]", do: [{wait_for_input: {info: {q: why}}}, {evaluate: {x: $ _}}]}}
  - {over: "$ [1]", map: {prompt: "{_}"}, parallelism: 2, reduce: "$ results + [_]", initial: []}
  - {map: {over: "$ [1]", evaluate: {a: $ _}}}
  - {over: [1, 2], map: {if: $ _, then: {evaluate: {x: $ 1}}}}
  - parallel: [{evaluate: {a: $ 1}}, {sleep: {seconds: 1}}]
  - {while: $ False, do: {evaluate: {x: $ 1}}}
  - {return: {done: $ True, n: 1}}
other:
  - {evaluate: {n: $ _.n}}
"""


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield server.http


@pytest.fixture
async def agent(http: httpx.AsyncClient) -> str:
    answer = await http.post("/agents", json={"name": "a", "model": "m", "canonical_name": "helper"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def told(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def create(http: httpx.AsyncClient, agent: str, body: dict[str, Any], headers: dict[str, str] = SDK) -> Any:
    return told(await http.post(f"/agents/{agent}/tasks", json=body, headers=headers), 201)


def as_julep_reads(body: Any) -> Task:
    task: Task = validate_type(type_=Task, value=body)
    return task


# --- reading and writing --------------------------------------------------------------------------------------------


async def test_every_step_is_told_as_the_sdk_reads_it_and_can_be_sent_back(http: httpx.AsyncClient, agent: str) -> None:
    path = f"/agents/{agent}/tasks"
    made = told(await http.post(path, content=EVERY_KIND, headers={**SDK, **YAML}), 201)
    task = as_julep_reads(made)
    assert (task.name, task.canonical_name, task.inherit_tools) == ("all of it", "all_of_it", False)
    assert task.metadata == {"team": {"name": "a"}}
    assert [step.kind for step in task.main[:1]] == ["evaluate"]
    assert task.other[0]["evaluate"] == {"n": "$ _.n"}  # type: ignore[index]
    assert [tool.type for tool in task.tools or []] == ["function", "api_call", "system", "function"]

    got = told(await http.get(f"/tasks/{made['id']}", headers=SDK))
    as_julep_reads(got)
    sent = {name: got[name] for name in ("name", "main", "other", "tools", "input_schema", "metadata", "description")}
    back = told(await http.put(f"/tasks/{made['id']}", json=sent, headers=SDK))
    assert back["plan_hash"] == made["plan_hash"]
    assert as_julep_reads(back).id == made["id"]


async def test_steps_of_the_older_client_carry_their_kind(http: httpx.AsyncClient, agent: str) -> None:
    body = {
        "name": "old",
        "description": "d",
        "main": [
            {"kind_": "wait_for_input", "info": {"q": "'why'"}},
            {"kind_": "if_else", "if": "_ == 1", "then": {"kind_": "yield", "workflow": "sub", "arguments": "_"}},
            {"tool": "f"},
        ],
        "sub": [{"kind_": "evaluate", "evaluate": {"x": "1"}}],
        "tools": [{"name": "f", "type": "function", "function": {"parameters": {"type": "object"}}}],
        "inherit_tools": False,
    }
    made = await create(http, agent, body, FERN)
    assert made["jobs"] == []
    assert [step["kind_"] for step in made["main"]] == ["wait_for_input", "if_else", "tool_call"]
    assert made["main"][0]["info"] == {"q": "'why'"}
    assert made["main"][2]["arguments"] == "_"
    assert made["sub"][0]["kind_"] == "evaluate"
    listed = told(await http.get(f"/agents/{agent}/tasks", headers=FERN))
    assert [task["id"] for task in listed["results"]] == [made["id"]]


async def test_our_own_clients_get_what_the_author_wrote(http: httpx.AsyncClient, agent: str) -> None:
    made = told(await http.post(f"/agents/{agent}/tasks", json=HELLO), 201)
    assert (made["main"], made["jobs"]) == (HELLO["main"], [])
    assert "tools" not in made


async def test_a_task_is_found_by_its_canonical_name_below_its_agents(http: httpx.AsyncClient, agent: str) -> None:
    made = await create(http, "helper", {**HELLO, "canonical_name": "says_hello"})
    assert made["agent_id"] == agent
    for path in ("/tasks/says_hello", "/agents/helper/tasks/says_hello", f"/agents/{agent}/tasks/{made['id']}"):
        assert told(await http.get(path))["id"] == made["id"]
    other = told(await http.post("/agents", json={"name": "b", "model": "m"}), 201)
    missing = await http.get(f"/agents/{other['id']}/tasks/{made['id']}")
    assert (missing.status_code, missing.json()["code"]) == (404, "task.not_found")


async def test_tasks_are_listed_in_pages_in_order_and_by_nested_metadata(http: httpx.AsyncClient, agent: str) -> None:
    made = [await create(http, agent, {**HELLO, "metadata": {"of": {"n": number}}}) for number in range(5)]
    ids = [task["id"] for task in made]
    path = f"/agents/{agent}/tasks"
    pages = [told(await http.get(path, params={"limit": 2, "offset": at}, headers=SDK))["items"] for at in (0, 2, 4, 5)]
    assert [[task["id"] for task in page] for page in pages] == [ids[:2], ids[2:4], ids[4:], []]
    newest = told(await http.get(path, params={"direction": "desc", "limit": 1}))["items"]
    assert [task["id"] for task in newest] == ids[-1:]
    third = told(await http.get(path, params={"metadata_filter.of.n": "2"}))["items"]
    assert [task["id"] for task in third] == [ids[2]]


# --- versions -------------------------------------------------------------------------------------------------------


async def test_create_or_update_takes_the_id_and_then_makes_versions(http: httpx.AsyncClient, agent: str) -> None:
    chosen = str(uuid.uuid4())
    path = f"/agents/{agent}/tasks/{chosen}"
    first = told(await http.post(path, json=HELLO, headers=SDK), 201)
    assert (first["id"], first["version"]) == (chosen, 1)
    second = told(await http.post(path, json={**HELLO, "main": [{"evaluate": {"text": "$ 1"}}]}, headers=SDK), 201)
    assert (second["id"], second["version"]) == (chosen, 2)
    assert told(await http.get(f"/tasks/{chosen}"))["version"] == 2
    assert told(await http.get(f"/tasks/{chosen}?version=1"))["main"] == HELLO["main"]


async def test_an_id_that_cannot_be_taken_is_refused(http: httpx.AsyncClient, agent: str) -> None:
    word = await http.post(f"/agents/{agent}/tasks/no-uuid", json=HELLO, headers=SDK)
    assert (word.status_code, word.json()["code"]) == (400, "request.bad_id")
    made = await create(http, agent, HELLO)
    other = told(await http.post("/agents", json={"name": "b", "model": "m"}), 201)
    taken = await http.post(f"/agents/{other['id']}/tasks/{made['id']}", json=HELLO, headers=SDK)
    assert (taken.status_code, taken.json()["code"]) == (409, "task.id_taken")
    assert taken.headers["x-should-retry"] == "false"
    assert (await http.delete(f"/tasks/{made['id']}")).status_code == 202
    gone = await http.post(f"/agents/{agent}/tasks/{made['id']}", json=HELLO, headers=SDK)
    assert gone.json()["code"] == "task.id_taken"


async def test_put_replaces_the_whole_and_keeps_a_name_that_is_left_out(http: httpx.AsyncClient, agent: str) -> None:
    made = await create(http, agent, {**HELLO, "description": "old", "metadata": {"a": 1}})
    body = {"description": "new", "main": [{"evaluate": {"text": "'x'"}}], "tools": [], "inherit_tools": False}
    path = f"/agents/{agent}/tasks/{made['id']}"
    changed = told(await http.put(path, json=body, headers=FERN))
    assert (changed["name"], changed["version"], changed["description"]) == ("hello", 2, "new")
    assert changed["metadata"] == {}
    assert changed["jobs"] == []


async def test_patch_replaces_what_is_given_and_reads_it_as_the_task_was_written(
    http: httpx.AsyncClient, agent: str
) -> None:
    made = await create(http, agent, {**HELLO, "description": "old", "metadata": {"a": 1}})
    path = f"/tasks/{made['id']}"
    changed = told(await http.patch(path, json={"description": None, "metadata": {"b": 2}}, headers=FERN))
    assert (changed["description"], changed["metadata"]) == ("", {"a": 1, "b": 2})
    assert changed["dialect"] == "julep-2025"
    text = 'main:\n  - evaluate: {said: "{_.name}!"}\n'
    changed = told(await http.patch(path, content=text, headers={"content-type": "application/yaml"}))
    assert changed["version"] == 3
    plan = told(await http.get(f"{path}/versions/3"))["plan"]
    assert "f'" in json.dumps(plan) or "!" in json.dumps(plan["blocks"])
    assert told(await http.get(f"{path}?version=1"))["description"] == "old"


async def test_a_patch_that_says_nothing_new_makes_no_version(http: httpx.AsyncClient, agent: str) -> None:
    made = await create(http, agent, {**HELLO, "description": "same"})
    again = told(await http.patch(f"/agents/{agent}/tasks/{made['id']}", json={"description": "same"}))
    assert again["version"] == 1
    refused = await http.patch(f"/tasks/{made['id']}", json=["no"])
    assert refused.status_code == 422


async def test_a_removed_task_is_gone_from_its_agent(http: httpx.AsyncClient, agent: str) -> None:
    made = await create(http, agent, HELLO)
    path = f"/agents/{agent}/tasks/{made['id']}"
    removed = told(await http.delete(path), 202)
    assert (removed["id"], removed["jobs"]) == (made["id"], [])
    assert removed["deleted_at"].endswith("Z")
    assert (await http.get(path)).status_code == 404
    assert (await http.delete(path)).status_code == 404


# --- refusals -------------------------------------------------------------------------------------------------------


async def test_all_that_is_wrong_is_told_as_issues_beside_our_diagnostics(http: httpx.AsyncClient, agent: str) -> None:
    body = {"name": "bad", "main": [{"evaluate": {"x": "$ 1 +"}}, {"tool": "nope"}, {"frobnicate": 1}]}
    refused = await http.post(f"/agents/{agent}/tasks", json=body, headers=SDK)
    assert refused.status_code == 400
    issues = refused.json()["issues"]
    assert {"location", "message", "severity", "type"} == set(issues[0])
    assert [(issue["location"], issue["type"]) for issue in issues] == [
        ("main[0].evaluate.x", "python_expression"),
        ("main[1].tool", "schema"),
        ("main[2]", "schema"),
    ]
    assert len(issues) == len(refused.json()["diagnostics"])


async def test_how_a_text_was_read_is_told_when_the_task_is_created(http: httpx.AsyncClient, agent: str) -> None:
    made = await create(http, agent, {"name": "t", "main": [{"evaluate": {"x": "_.y"}}]})
    assert made["dialect"] == "julep-2025"
    assert [(item["code"], item["path"]) for item in made["warnings"]] == [("W611", "main[0].evaluate.x")]


async def test_a_name_that_tasks_of_several_agents_have_is_refused_wherever_it_is_taken(
    http: httpx.AsyncClient, agent: str
) -> None:
    other = told(await http.post("/agents", json={"name": "Bob", "model": "m"}), 201)["id"]
    owned = {of: (await create(http, of, HELLO))["id"] for of in (agent, other)}
    free = told(await http.post("/tasks", json=HELLO), 201)["id"]
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/tasks/hello", None),
        ("GET", "/tasks/hello@1", None),
        ("PUT", "/tasks/hello", HELLO),
        ("PATCH", "/tasks/hello", {"description": "d"}),
        ("DELETE", "/tasks/hello", None),
        ("GET", "/tasks/hello/versions", None),
        ("GET", "/tasks/hello/versions/1", None),
        ("GET", "/tasks/hello/diff", None),
        ("PUT", "/tasks/hello/aliases/prod", {"version": 1}),
        ("GET", "/tasks/hello/executions", None),
        ("POST", "/tasks/hello/executions", {"input": {}}),
        ("POST", "/schedules", {"name": "s", "task": "hello", "cron": ["0 0 1 1 *"]}),
        ("POST", "/bulk", {"action": "cancel", "filter": {"task": "hello"}, "dry_run": True}),
    ]
    for method, path, body in requests:
        refused = told(await http.request(method, path, json=body), 409)
        assert refused["code"] == "task.ambiguous", path
        assert {item["id"]: item["agent_id"] for item in refused["details"]["tasks"]} == {
            free: None,
            **{task: of for of, task in owned.items()},
        }
        named = {free: "no agent", owned[agent]: "a", owned[other]: "Bob"}
        assert all(f"{task} (of {name})" in refused["detail"] for task, name in named.items())
        assert "the id" in refused["hint"]
        assert "/agents/AGENT/tasks/hello" in refused["hint"]
    for of, task in owned.items():
        assert told(await http.get(f"/agents/{of}/tasks/hello"))["id"] == task
        assert told(await http.get(f"/tasks/{task}"))["agent_id"] == of


async def test_an_agents_route_knows_its_own_tasks_only_whoever_else_has_the_name(
    http: httpx.AsyncClient, agent: str
) -> None:
    other, third = [told(await http.post("/agents", json={"name": name}), 201)["id"] for name in ("Bob", "Cyd")]
    await create(http, agent, HELLO)
    kept = await create(http, other, HELLO)
    assert told(await http.get(f"/agents/{third}/tasks/hello"), 404)["code"] == "task.not_found"
    told(await http.delete(f"/agents/{agent}/tasks/hello"), 202)
    # the other one is the newer, and the only one that is left
    assert told(await http.get("/tasks/hello"))["id"] == kept["id"]
