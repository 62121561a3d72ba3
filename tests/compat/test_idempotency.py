"""Idempotency-Key: the same POST with the same key is done once, whatever happens between effect and answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from engine.control.agents import AgentService
from engine.control.definitions import now_us
from engine.edge.http import idempotency
from engine.edge.http.idempotency import MAX_STORED_BYTES
from engine.edge.http.scopes import route_needs
from engine.edge.http.services import open_services
from engine.edge.server import create_app
from engine.store.database import Database, open_database
from engine.store.idempotency import KEPT_US, LAPSE_US, IdempotencyStore, Standing
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import free_port

TASK = "name: t\nmain:\n  - evaluate: {x: 1}\n"
YAML = {"content-type": "application/yaml"}
REPLAYED = "idempotency-replayed"


def keyed(key: str, **more: str) -> dict[str, str]:
    return {"idempotency-key": key, **more}


@pytest.fixture
async def api(both_stores: str, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API on either store whose Temporal server does not exist."""
    async with api_server(settings_for(tmp_path), temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


@pytest.fixture
async def database(both_stores: str, tmp_path: Path) -> AsyncIterator[Database]:
    """The store of the same test."""
    opened = await open_database(settings_for(tmp_path).store_url)
    yield opened
    await opened.close()


async def names(http: httpx.AsyncClient, path: str) -> list[str]:
    return [str(item["name"]) for item in (await http.get(path)).json()["items"]]


# --- the same answer again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/agents", {"name": "Ada"}),
        ("/tasks", {"name": "t", "main": [{"evaluate": {"x": 1}}]}),
        ("/tasks/validate", {"name": "t", "main": [{"evaluate": {"x": 1}}]}),
        ("/tasks/apply", {"tasks": [{"file": "t.yaml", "source": TASK}]}),
    ],
)
async def test_the_same_request_gets_the_same_answer_again(api: ApiServer, path: str, body: dict[str, Any]) -> None:
    first = await api.http.post(path, json=body, headers=keyed("k"))
    second = await api.http.post(path, json=body, headers=keyed("k"))
    assert first.is_success
    assert REPLAYED not in first.headers
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert (second.headers[REPLAYED], second.headers["content-type"]) == ("true", "application/json")
    assert len(await names(api.http, "/agents")) + len(await names(api.http, "/tasks")) <= 1


async def test_a_refusal_is_told_again_too(api: ApiServer) -> None:
    answers = [await api.http.post("/agents", json={"name": ""}, headers=keyed("k")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["content-type"] == "application/problem+json"
    assert answers[1].headers[REPLAYED] == "true"


async def test_another_request_with_a_key_that_was_used_is_refused(api: ApiServer) -> None:
    assert (await api.http.post("/agents", json={"name": "Ada"}, headers=keyed("k"))).status_code == 201
    for path, body in (("/agents", {"name": "Bob"}), ("/tasks", {"name": "Ada"}), ("/agents?x=1", {"name": "Ada"})):
        answer = await api.http.post(path, json=body, headers=keyed("k"))
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency.key_reused")
        assert answer.headers["x-should-retry"] == "false"
    assert await names(api.http, "/agents") == ["Ada"]


async def test_answers_that_may_change_are_not_kept(api: ApiServer) -> None:
    body = {"name": "t", "main": [{"evaluate": {"x": 1}}]}
    task_id = (await api.http.post("/tasks", json=body)).json()["id"]
    # 503: Temporal is away
    for _ in range(2):
        answer = await api.http.post(f"/tasks/{task_id}/executions", json={}, headers=keyed("k"))
        assert (answer.status_code, REPLAYED in answer.headers) == (503, False)
    named = {"name": "Ada", "canonical_name": "ada"}
    assert (await api.http.post("/agents", json=named)).status_code == 201
    for _ in range(2):
        answer = await api.http.post("/agents", json=named, headers=keyed("k2"))
        assert (answer.status_code, answer.json()["code"], REPLAYED in answer.headers) == (409, "agent.exists", False)


async def test_a_key_has_a_length(api: ApiServer) -> None:
    for key in ("x" * 256, ""):
        answer = await api.http.post("/agents", json={"name": "Ada"}, headers=[(b"idempotency-key", key.encode())])
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency.bad_key")
    assert (await api.http.post("/agents", json={"name": "Ada"}, headers=keyed("x" * 255))).status_code == 201


async def test_a_large_answer_is_not_kept_and_the_task_is_still_made_once(api: ApiServer) -> None:
    # two bytes a letter: the text of a task has a limit of letters
    body = {"name": "t", "main": [{"evaluate": {"x": "ü" * (MAX_STORED_BYTES // 2)}}]}
    first, second = [await api.http.post("/tasks", json=body, headers=keyed("k")) for _ in range(2)]
    assert len(first.content) > MAX_STORED_BYTES
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert REPLAYED not in second.headers
    assert await names(api.http, "/tasks") == ["t"]


# --- at the same time, and after a crash ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/agents", "/tasks"])
async def test_twenty_at_once_create_one(api: ApiServer, path: str) -> None:
    body = {"name": "one", "main": [{"evaluate": {"x": 1}}]} if path == "/tasks" else {"name": "one"}
    async with httpx.AsyncClient(base_url=f"{api.url}/api", timeout=PATIENCE_S, trust_env=False) as http:
        answers = await asyncio.gather(*(http.post(path, json=body, headers=keyed("k")) for _ in range(20)))
    assert await names(api.http, path) == ["one"]
    good = [answer for answer in answers if answer.status_code == 201]
    under_way = [answer for answer in answers if answer.status_code == 409]
    assert len(good) + len(under_way) == 20
    assert len({answer.json()["id"] for answer in good}) == 1
    assert sum(REPLAYED not in answer.headers for answer in good) == 1
    for answer in under_way:
        assert answer.json()["code"] == "idempotency.in_progress"
        assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("3", "true")


async def test_twenty_starts_at_once_start_one_execution(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address) as server:
        task_id = (await server.http.post("/tasks", content=TASK, headers=YAML)).json()["id"]
        path = f"/tasks/{task_id}/executions"
        answers = await asyncio.gather(
            *(server.http.post(path, json={"input": {"n": 1}}, headers=keyed("k")) for _ in range(20))
        )
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert [answer.status_code for answer in answers].count(201) == 1
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert all((answer.status_code == 200) == (answer.headers.get(REPLAYED) == "true") for answer in answers)
        assert len((await server.http.get("/executions")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/agents", {"name": "Ada"}, {"name": "Bob"}),
        (
            "/tasks",
            {"name": "t", "main": [{"evaluate": {"x": 1}}]},
            {"name": "t", "main": [{"evaluate": {"x": 2}}]},
        ),
    ],
)
async def test_a_crash_between_effect_and_answer_does_not_create_a_second_one(
    api: ApiServer, database: Database, path: str, body: dict[str, Any], other: dict[str, Any]
) -> None:
    first = await api.http.post(path, json=body, headers=keyed("k"))
    # what a process leaves that dies before it stores the answer
    async with database.write() as connection:
        await connection.execute(text("UPDATE idempotency SET status = NULL, body = NULL"))
    held = await api.http.post(path, json=body, headers=keyed("k"))
    assert (held.status_code, held.json()["code"]) == (409, "idempotency.in_progress")
    async with database.write() as connection:
        await connection.execute(text(f"UPDATE idempotency SET created_us = {now_us() - LAPSE_US}"))
    again = await api.http.post(path, json=body, headers=keyed("k"))
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert len(await names(api.http, path)) == 1
    # after a day the key is forgotten, but what it made is not
    async with database.write() as connection:
        await connection.execute(text(f"UPDATE idempotency SET created_us = {now_us() - KEPT_US}"))
    assert (await api.http.post(path, json=body, headers=keyed("k"))).json()["id"] == first.json()["id"]
    async with database.write() as connection:
        await connection.execute(text(f"UPDATE idempotency SET created_us = {now_us() - KEPT_US}"))
    refused = await api.http.post(path, json=other, headers=keyed("k"))
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency.key_reused")
    assert len(await names(api.http, path)) == 1


async def test_a_reservation_lapses_and_the_late_answer_of_the_first_is_not_kept(database: Database) -> None:
    store, now = IdempotencyStore(database), 1_800_000_000_000_000
    first = await store.reserve("a", "k", "f", now_us=now)
    assert first.standing is Standing.FIRST
    assert (await store.reserve("a", "k", "f", now_us=now + LAPSE_US - 1)).standing is Standing.UNDER_WAY
    second = await store.reserve("a", "k", "f", now_us=now + LAPSE_US)
    assert second.standing is Standing.FIRST
    await store.answer("a", "k", first.reserved_us, status=201, body="first")
    await store.release("a", "k", first.reserved_us)
    assert (await store.reserve("a", "k", "f", now_us=now + LAPSE_US + 1)).standing is Standing.UNDER_WAY
    await store.answer("a", "k", second.reserved_us, status=201, body="second")
    told = await store.reserve("a", "k", "f", now_us=now + LAPSE_US + 2)
    assert (told.standing, told.status, told.body) == (Standing.ANSWERED, 201, "second")
    assert (await store.reserve("a", "k", "g", now_us=now + LAPSE_US + 2)).standing is Standing.ANOTHER
    assert (await store.reserve("b", "k", "g", now_us=now)).standing is Standing.FIRST


async def test_a_reservation_that_is_renewed_holds_on_and_one_that_lapsed_cannot_be_renewed(database: Database) -> None:
    store, now = IdempotencyStore(database), 1_800_000_000_000_000
    first = await store.reserve("a", "k", "f", now_us=now)
    renewed_us = await store.renew("a", "k", first.reserved_us, now_us=now + LAPSE_US - 1)
    assert (await store.reserve("a", "k", "f", now_us=now + LAPSE_US + 1)).standing is Standing.UNDER_WAY
    second = await store.reserve("a", "k", "f", now_us=now + 2 * LAPSE_US)
    assert second.standing is Standing.FIRST
    assert await store.renew("a", "k", renewed_us, now_us=now + 2 * LAPSE_US + 1) == renewed_us
    await store.answer("a", "k", second.reserved_us, status=201, body="second")
    assert await store.renew("a", "k", second.reserved_us, now_us=now + 2 * LAPSE_US + 2) == second.reserved_us
    told = await store.reserve("a", "k", "f", now_us=now + 2 * LAPSE_US + 3)
    assert (told.standing, told.body) == (Standing.ANSWERED, "second")


async def test_a_request_that_takes_long_says_so_and_its_answer_is_kept(
    api: ApiServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, create = asyncio.Event(), AgentService.create

    async def slow(self: AgentService, *args: Any, **more: Any) -> Any:
        await goes_on.wait()
        return await create(self, *args, **more)

    async def reserved_us() -> int | None:
        async with database.read() as connection:
            found = await connection.execute(text("SELECT created_us FROM idempotency"))
            return found.scalar_one_or_none()

    monkeypatch.setattr(AgentService, "create", slow)
    monkeypatch.setattr(idempotency, "RENEW_S", 0.05)
    asked = asyncio.create_task(api.http.post("/agents", json={"name": "Ada"}, headers=keyed("k")))
    async with asyncio.timeout(PATIENCE_S):
        marks: set[int | None] = {None}
        while len(marks) < 4:
            marks.add(await reserved_us())
            await asyncio.sleep(0.01)
    goes_on.set()
    first = await asked
    assert (first.status_code, REPLAYED in first.headers) == (201, False)
    again = await api.http.post("/agents", json={"name": "Ada"}, headers=keyed("k"))
    assert (again.json(), again.headers[REPLAYED]) == (first.json(), "true")


async def test_keys_are_forgotten_after_a_day(database: Database) -> None:
    store, now = IdempotencyStore(database), 1_800_000_000_000_000
    for number in range(3):
        held = await store.reserve("a", f"k{number}", "f", now_us=now + number)
        await store.answer("a", f"k{number}", held.reserved_us, status=200, body="{}")
    assert (await store.reserve("a", "k0", "g", now_us=now + KEPT_US)).standing is Standing.FIRST
    await store.reserve("a", "new", "f", now_us=now + KEPT_US + 600_000_000)
    async with database.read() as connection:
        left = [row.key for row in await connection.execute(text("SELECT key FROM idempotency ORDER BY key"))]
    assert left == ["k0", "new"]


# --- what must not be told again -----------------------------------------------------------------------------------


async def test_keys_of_requests_belong_to_a_tenant_and_answers_to_those_who_may_ask(tmp_path: Path) -> None:
    root = {"authorization": "sesame"}
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        http = server.http
        made: dict[str, dict[str, str]] = {}
        for name, tenant, scope in (("a", "acme", "define"), ("b", "globex", "define"), ("c", "acme", "read")):
            body = {"name": name, "tenant": tenant, "scopes": [scope]}
            made[name] = {"authorization": (await http.post("/keys", json=body, headers=root)).json()["key"]}
        answers = [await http.post("/agents", json={"name": "Ada"}, headers=keyed("k", **made[who])) for who in "abac"]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 403]
        assert [REPLAYED in answer.headers for answer in answers] == [False, False, True, False]
        assert answers[0].json()["id"] == answers[2].json()["id"] != answers[1].json()["id"]
        assert answers[3].json()["code"] == "auth.scope"


async def test_a_secret_is_neither_kept_nor_told_again(tmp_path: Path) -> None:
    root = {"authorization": "sesame"}
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        first, second = [
            await server.http.post("/keys", json={"name": "bot"}, headers=keyed("k", **root)) for _ in range(2)
        ]
        assert (first.status_code, second.status_code, second.headers[REPLAYED]) == (201, 201, "true")
        assert second.json() == {**first.json(), "key": None}
        assert len((await server.http.get("/keys", headers=root)).json()["items"]) == 1
        database = await open_database(settings.store_url)
        async with database.write() as connection:
            (row,) = await connection.execute(text("SELECT body FROM idempotency"))
            assert first.json()["key"] not in row.body
            # the first answer was never seen: the key of the next one opens, and there is still one
            await connection.execute(text("DELETE FROM idempotency"))
        await database.close()
        third = await server.http.post("/keys", json={"name": "bot"}, headers=keyed("k", **root))
        assert third.json()["id"] == first.json()["id"]
        opened = [
            (await server.http.get("/tasks", headers={"x-auth-key": answer.json()["key"]})).status_code
            for answer in (first, third)
        ]
        assert opened == [401, 200]


async def test_every_post_takes_a_key(tmp_path: Path) -> None:
    """Those that keep keys themselves are written down; all others pass the middleware."""
    from engine.edge.http.idempotency import OWN

    async with open_services(settings_for(tmp_path), contracts={}) as services:
        posts = {need.path for need in route_needs(create_app(services)) if "POST" in need.methods}
    assert posts >= OWN
    assert {path for path in posts if not path.startswith("/api/")} == set()
