"""Versions, aliases, removal and apply over HTTP; none of it needs Temporal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compat.apiserver import api_server, settings_for

pytestmark = pytest.mark.usefixtures("both_stores")

HELLO = """\
name: hello
main:
  - evaluate: {text: hello}
"""
ASKS = """\
name: asks
main:
  - prompt: hello
"""


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield server.http


async def put(http: httpx.AsyncClient, text: str) -> dict[str, Any]:
    headers = {"content-type": "application/yaml"}
    answer = await http.post("/tasks?by_name=true", content=text, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


async def three_versions(http: httpx.AsyncClient) -> str:
    made = [await put(http, HELLO.replace("text: hello", f"text: {word}")) for word in ("hello", "hi", "hey")]
    return str(made[-1]["id"])


def file(text: str, name: str = "") -> dict[str, str]:
    return {"file": name or f"{text.split()[1]}.yaml", "source": text}


async def apply(http: httpx.AsyncClient, *texts: str, **more: Any) -> list[tuple[str, str, int]]:
    answer = await http.post("/tasks/apply", json={"tasks": [file(text) for text in texts], "set": "s", **more})
    assert answer.status_code == 200, answer.text
    return [(item["change"], item["name"], item["version"]) for item in answer.json()["changes"]]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["code"])


# --- references ----------------------------------------------------------------------------------------------------


async def test_a_task_is_named_by_id_name_version_latest_and_alias(http: httpx.AsyncClient) -> None:
    task_id = await three_versions(http)
    assert (await http.put("/tasks/hello/aliases/prod", json={"version": 2})).json()["version"] == 2
    wanted = {"hello": 3, "hello@1": 1, "hello@latest": 3, "hello@prod": 2, task_id: 3, f"{task_id}@prod": 2}
    found = {name: (await http.get(f"/tasks/{name}")).json()["version"] for name in wanted}
    assert found == wanted


async def test_a_wrong_reference_is_refused_with_its_code(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    await http.put("/tasks/hello/aliases/prod", json={"version": 1})
    wanted = {
        "/tasks/nobody": (404, "task.not_found"),
        "/tasks/nobody@prod": (404, "task.not_found"),
        "/tasks/hello@4": (404, "task.version_not_found"),
        "/tasks/hello@0": (404, "task.version_not_found"),
        "/tasks/hello@99999999999999999999": (404, "task.version_not_found"),
        "/tasks/hello?version=4": (404, "task.version_not_found"),
        "/tasks/hello@pord": (404, "alias.not_found"),
        "/tasks/hello@1?version=2": (422, "task.two_versions"),
        "/tasks/hello/versions/pord": (404, "alias.not_found"),
        "/tasks/nobody/aliases": (404, "task.not_found"),
    }
    assert {path: refusal(await http.get(path)) for path in wanted} == wanted


async def test_an_unknown_alias_names_the_one_that_was_meant(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    await http.put("/tasks/hello/aliases/prod", json={})
    body = (await http.get("/tasks/hello@pord")).json()
    assert body["hint"] == "did you mean 'prod'?; its aliases: prod"


async def test_a_task_whose_whole_name_has_an_at_sign_is_found(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    await put(http, HELLO.replace("name: hello", "name: hello@1"))
    assert (await http.get("/tasks/hello@1")).json()["name"] == "hello@1"


# --- versions ------------------------------------------------------------------------------------------------------


async def test_versions_are_listed_with_their_aliases_the_newest_first(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    await http.put("/tasks/hello/aliases/prod", json={"version": 2})
    items = (await http.get("/tasks/hello/versions")).json()["items"]
    assert [(item["version"], item["latest"], item["aliases"]) for item in items] == [
        (3, True, []),
        (2, False, ["prod"]),
        (1, False, []),
    ]
    assert len((await http.get("/tasks/hello/versions?limit=1&offset=1")).json()["items"]) == 1


async def test_a_version_is_read_whole(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    body = (await http.get("/tasks/hello/versions/1")).json()
    assert (body["task"]["version"], body["source"]) == (1, HELLO)
    assert body["plan"]["task"] == "hello"


async def test_comments_and_order_make_no_version_but_are_kept(http: httpx.AsyncClient) -> None:
    await put(http, HELLO)
    again = await put(http, f"# greets\n{HELLO}")
    assert again["version"] == 1
    assert (await http.get("/tasks/hello/versions/1")).json()["source"].startswith("# greets")


@pytest.mark.parametrize("more", ["description: x\n", "metadata: {team: a}\n", "canonical_name: hello_1\n"])
async def test_what_stands_beside_the_plan_makes_a_version(http: httpx.AsyncClient, more: str) -> None:
    await put(http, HELLO)
    assert (await put(http, HELLO + more))["version"] == 2


# --- aliases -------------------------------------------------------------------------------------------------------


async def test_an_alias_is_moved_listed_and_deleted(http: httpx.AsyncClient) -> None:
    task_id = await three_versions(http)
    await http.put("/tasks/hello/aliases/staging", json={"version": 2, "expect": 0})
    moved = await http.put("/tasks/hello/aliases/prod", json={"version": "staging"})
    assert (moved.status_code, moved.json()["version"]) == (200, 2)
    for path in ("/tasks/hello/aliases", "/aliases"):
        items = (await http.get(path)).json()["items"]
        assert [(item["task_id"], item["alias"], item["version"]) for item in items] == [
            (task_id, "prod", 2),
            (task_id, "staging", 2),
        ]
    assert (await http.delete("/tasks/hello/aliases/prod")).status_code == 204
    assert refusal(await http.get("/tasks/hello@prod")) == (404, "alias.not_found")


async def test_a_wrong_alias_is_refused_with_its_code(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    wanted: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
        ("latest", {}, (422, "alias.bad_name")),
        ("1", {}, (422, "alias.bad_name")),
        ("a b", {}, (422, "alias.bad_name")),
        ("x" * 65, {}, (422, "alias.bad_name")),
        ("prod", {"version": 9}, (404, "task.version_not_found")),
        ("prod", {"version": "none"}, (404, "alias.not_found")),
        ("prod", {"version": 1, "expect": 2}, (409, "alias.moved")),
        ("prod", {"version": []}, (422, "request.invalid")),
    ]
    for alias, body, refused in wanted:
        assert refusal(await http.put(f"/tasks/hello/aliases/{alias}", json=body)) == refused, alias
    assert (await http.get("/aliases")).json() == {"items": []}


# --- removal -------------------------------------------------------------------------------------------------------


async def test_a_removed_task_is_gone_and_its_name_starts_anew(http: httpx.AsyncClient) -> None:
    task_id = await three_versions(http)
    gone = (await http.delete("/tasks/hello")).json()
    assert (gone["id"], gone["name"]) == (task_id, "hello")
    assert refusal(await http.get(f"/tasks/{task_id}")) == (404, "task.not_found")
    assert refusal(await http.delete("/tasks/hello")) == (404, "task.not_found")
    again = await put(http, HELLO)
    assert (again["version"], again["id"] == task_id) == (1, False)


async def test_one_version_cannot_be_removed(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    assert refusal(await http.delete("/tasks/hello@1")) == (422, "task.one_version")


# --- comparing -----------------------------------------------------------------------------------------------------


async def test_a_version_is_compared_with_the_one_before_or_another(http: httpx.AsyncClient) -> None:
    await three_versions(http)
    told = (await http.get("/tasks/hello/diff")).json()
    assert (told["from"], told["to"], told["changes"]) == (2, 3, ["main.0: evaluate text: the value changed"])
    told = (await http.get("/tasks/hello@2/diff?from=1")).json()
    assert (told["from"], told["to"], told["before"]) == (1, 2, HELLO)
    told = (await http.get("/tasks/hello@1/diff")).json()
    assert (told["from"], told["to"], told["before"]) == (None, 1, "")


async def test_a_text_that_is_not_stored_is_compared_with_the_latest(http: httpx.AsyncClient) -> None:
    await put(http, HELLO)
    headers = {"content-type": "application/yaml"}
    text = f"{HELLO}  - prompt: hi\n"
    told = (await http.post("/tasks/hello/diff", content=text, headers=headers)).json()
    assert (told["from"], told["to"], told["after"]) == (1, None, text)
    assert told["gains"] == ["ask the default model"]
    wrong = await http.post("/tasks/hello/diff?file=a.yaml", content="main: 1", headers=headers)
    assert (wrong.status_code, wrong.json()["diagnostics"][0]["file"]) == (400, "a.yaml")
    assert (await http.get("/tasks/hello")).json()["version"] == 1


# --- apply ---------------------------------------------------------------------------------------------------------


async def test_apply_creates_updates_and_leaves_alone(http: httpx.AsyncClient) -> None:
    assert await apply(http, HELLO, ASKS) == [("created", "hello", 1), ("created", "asks", 1)]
    assert await apply(http, HELLO, f"{ASKS}  - evaluate: 1\n") == [("unchanged", "hello", 1), ("updated", "asks", 2)]


async def test_a_dry_run_of_apply_changes_nothing(http: httpx.AsyncClient) -> None:
    assert await apply(http, HELLO, dry_run=True, alias="prod") == [("created", "hello", 1)]
    assert (await http.get("/tasks")).json() == {"items": []}
    assert (await http.get("/aliases")).json() == {"items": []}


async def test_one_wrong_file_stops_all_and_every_file_is_reported(http: httpx.AsyncClient) -> None:
    files = [file(HELLO), file("main: 1", "a.yaml"), file("x: [", "b.yaml"), file(HELLO, "again.yaml")]
    answer = await http.post("/tasks/apply", json={"tasks": files})
    assert refusal(answer) == (400, "apply.invalid")
    wrong = answer.json()["details"]["files"]
    assert [item["file"] for item in wrong] == ["a.yaml", "b.yaml", "again.yaml"]
    assert wrong[2]["diagnostics"][0]["message"] == "the task 'hello' stands in hello.yaml already"
    assert (await http.get("/tasks")).json() == {"items": []}


async def test_prune_removes_what_was_applied_from_the_set_and_nothing_else(http: httpx.AsyncClient) -> None:
    await put(http, HELLO.replace("hello", "by-hand"))
    await apply(http, HELLO.replace("hello", "elsewhere"), set="other")
    await apply(http, HELLO, ASKS)
    assert await apply(http, ASKS) == [("unchanged", "asks", 1)]
    assert await apply(http, ASKS, prune=True) == [("unchanged", "asks", 1), ("removed", "hello", 1)]
    names = {item["name"] for item in (await http.get("/tasks")).json()["items"]}
    assert names == {"by-hand", "elsewhere", "asks"}


async def test_apply_takes_a_task_that_was_made_by_hand_into_its_set(http: httpx.AsyncClient) -> None:
    await put(http, HELLO)
    assert await apply(http, HELLO, ASKS) == [("unchanged", "hello", 1), ("created", "asks", 1)]
    assert await apply(http, ASKS, prune=True) == [("unchanged", "asks", 1), ("removed", "hello", 1)]


async def test_prune_needs_the_name_of_the_set(http: httpx.AsyncClient) -> None:
    answer = await http.post("/tasks/apply", json={"tasks": [file(HELLO)], "prune": True})
    assert refusal(answer) == (400, "apply.no_set")


async def test_apply_sets_an_alias_on_changed_and_unchanged_tasks(http: httpx.AsyncClient) -> None:
    await apply(http, HELLO)
    await apply(http, HELLO, f"{ASKS}  - evaluate: 1\n", alias="prod")
    found = [(await http.get(f"/tasks/{name}@prod")).json()["version"] for name in ("hello", "asks")]
    assert found == [1, 1]
    answer = await http.post("/tasks/apply", json={"tasks": [file(HELLO)], "alias": "latest"})
    assert refusal(answer) == (422, "alias.bad_name")
