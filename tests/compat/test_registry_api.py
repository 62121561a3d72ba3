"""Backends, groups and models by API: what is declared where, who may see and change what, and never a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from engine.store.backend_states import BackendStateStore, CheckedBackend
from engine.store.database import open_database
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url

FILE = """
[routing]
policy = "cheapest"
[backends.filed]
base_url = "http://127.0.0.1:9/v1"
models = ["m-file"]
[groups.filed_group]
models = ["filed/m-file"]
"""
DESK = {"name": "desk", "kind": "ollama", "models": ["qwen3"], "limits": {"calls": 2}}
KEY = "sk-not-to-be-seen-1234567890"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    (tmp_path / "everstep.toml").write_text(FILE, encoding="utf-8")
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal="127.0.0.1:1") as server:
        server.http.headers["x-auth-key"] = "sesame"
        yield server


async def key_for(api: ApiServer, tenant: str, *scopes: str) -> dict[str, str]:
    made = await api.http.post("/keys", json={"name": "bot", "tenant": tenant, "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return {"authorization": f"Bearer {made.json()['key']}", "x-auth-key": ""}


async def names(api: ApiServer, path: str, **query: Any) -> list[str]:
    answer = await api.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


@pytest.mark.usefixtures("both_stores")
async def test_a_backend_is_declared_changed_and_removed(api: ApiServer) -> None:
    made = await api.http.post("/backends", json=DESK)
    assert made.status_code == 201, made.text
    view = made.json()
    assert (view["source"], view["base_url"], view["rev"]) == ("store", "http://127.0.0.1:11434", 1)
    assert await names(api, "/backends") == ["desk", "filed"]
    assert await names(api, "/backends", source="store") == ["desk"]
    assert await names(api, "/backends", kind="openai") == ["filed"]
    again = await api.http.post("/backends", json=DESK)
    assert (again.status_code, again.json()["code"]) == (409, "backend.exists")
    changed = await api.http.patch(
        "/backends/desk", json={"limits": None, "prices": {"qwen3": {"input": 0.1, "output": 1}}}
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["limits"] is None
    assert changed.json()["prices"] == {"qwen3": {"input": "0.1", "output": "1"}}
    assert (changed.json()["rev"], changed.json()["models"]) == (2, ["qwen3"])
    assert (await api.http.get("/backends/desk")).json() == changed.json()
    assert (await api.http.delete("/backends/desk")).status_code == 204
    gone = await api.http.get("/backends/desk")
    assert (gone.status_code, gone.json()["code"]) == (404, "backend.not_found")


async def test_the_address_follows_the_kind_unless_it_is_said(api: ApiServer) -> None:
    await api.http.post("/backends", json=DESK)
    changed = await api.http.patch("/backends/desk", json={"kind": "gemini"})
    assert changed.json()["base_url"] == "https://generativelanguage.googleapis.com/v1beta"
    await api.http.patch("/backends/desk", json={"base_url": "http://127.0.0.1:8/v1", "kind": "openai"})
    kept = await api.http.patch("/backends/desk", json={"kind": None})
    assert (kept.json()["kind"], kept.json()["base_url"]) == ("openai", "http://127.0.0.1:8/v1")


@pytest.mark.parametrize("method", ["patch", "delete", "post"])
@pytest.mark.parametrize(
    ("path", "name", "more"), [("backends", "filed", {"kind": "ollama"}), ("groups", "filed_group", {"models": ["x"]})]
)
async def test_what_the_file_declares_is_changed_there_alone(
    api: ApiServer, method: str, path: str, name: str, more: dict[str, Any]
) -> None:
    before = (await api.http.get(f"/{path}/{name}")).json()
    assert before["source"] == "file"
    options: dict[str, Any] = {} if method == "delete" else {"json": more}
    if method == "post":
        answer = await api.http.post(f"/{path}", json={"name": name, **more})
    else:
        answer = await api.http.request(method, f"/{path}/{name}", **options)
    assert (answer.status_code, answer.json()["code"]) == (409, f"{path[:-1]}.of_file")
    assert "everstep.toml" in answer.json()["detail"]
    assert answer.json()["hint"]
    assert (await api.http.get(f"/{path}/{name}")).json() == before


@pytest.mark.parametrize(
    "more",
    [
        {"api_key": KEY},
        {"API-Key": KEY},
        {"api_key_env": KEY},
        {"api_key_secret": "AIzaSyNotARealKeyButItLooksLikeOne12345"},
        {"base_url": f"http://user:{KEY}@127.0.0.1/v1"},
        {"base_url": f"http://127.0.0.1/v1?key={KEY}"},
    ],
)
async def test_a_key_is_refused_and_shown_to_nobody(
    api: ApiServer, more: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    await api.http.post("/backends", json=DESK)
    body = {"backends": {"desk": more}}
    answers = [
        await api.http.post("/backends", json={**DESK, "name": "other", **more}, headers={"idempotency-key": "k"}),
        await api.http.patch("/backends/desk", json=more),
        await api.http.post("/backends/apply", json=body),
    ]
    secret = next(iter(more.values()))
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert "api_key_secret" in answer.text
        assert secret not in answer.text
        assert KEY not in answer.text
    assert KEY not in caplog.text
    assert await names(api, "/backends") == ["desk", "filed"]


async def test_others_than_operators_read_names_and_change_nothing(api: ApiServer) -> None:
    await api.http.post("/backends", json={**DESK, "api_key_secret": "desk_key"})
    globex = await key_for(api, "globex", "admin")
    seen = (await api.http.get("/backends/desk", headers=globex)).json()
    assert (seen["name"], seen["models"]) == ("desk", ["qwen3"])
    assert [seen[part] for part in ("base_url", "api_key_env", "api_key_secret", "limits", "actor")] == [None] * 5
    listed = (await api.http.get("/backends", headers=globex)).text
    assert "desk_key" not in listed
    assert "127.0.0.1" not in listed
    for method, path, body in [
        ("POST", "/backends", DESK),
        ("POST", "/backends/apply", {}),
        ("PATCH", "/backends/desk", {"models": []}),
        ("DELETE", "/backends/desk", None),
        ("POST", "/backends/desk/check", None),
        ("POST", "/backends/desk/prune", {}),
        ("PUT", "/backends/desk/models/m", {}),
        ("DELETE", "/backends/desk/models/qwen3", None),
        ("POST", "/groups", {"name": "g", "models": ["m"]}),
        ("PATCH", "/groups/filed_group", {"models": ["m"]}),
        ("DELETE", "/groups/filed_group", None),
        ("GET", "/pulls", None),
        ("GET", "/pulls/x", None),
        ("POST", "/pulls", {"backend": "desk", "model": "m"}),
        ("POST", "/pulls/x/cancel", None),
    ]:
        answer = await api.http.request(method, path, json=body, headers=globex)
        assert (answer.status_code, answer.json()["code"]) == (403, "auth.tenant"), f"{method} {path}"
    reader = await key_for(api, "default", "define")
    for method, path in [("POST", "/backends"), ("DELETE", "/backends/desk"), ("POST", "/pulls")]:
        answer = await api.http.request(method, path, json=DESK, headers=reader)
        assert (answer.status_code, answer.json()["code"]) == (403, "auth.scope")
    assert (await api.http.get("/backends/desk")).json()["api_key_secret"] == "desk_key"


@pytest.mark.usefixtures("both_stores")
async def test_a_file_is_applied_whole_or_not_at_all(api: ApiServer) -> None:
    good = {
        "backends": {"a": {"kind": "ollama"}, "b": {"base_url": "http://127.0.0.1:7/v1", "models": ["m"]}},
        "groups": {"both": {"models": ["b/m", "a/q"], "policy": "order"}},
    }
    tried = await api.http.post("/backends/apply", json={**good, "dry_run": True})
    assert {item["change"] for item in tried.json()["changes"]} == {"created"}
    assert await names(api, "/backends") == ["filed"]
    assert (await api.http.post("/backends/apply", json=good)).status_code == 200
    assert await names(api, "/backends") == ["a", "b", "filed"]
    bad = {"backends": {"c": {"kind": "ollama"}, "d": {"models": ["m"]}}}
    refused = await api.http.post("/backends/apply", json=bad)
    assert (refused.status_code, refused.json()["code"]) == (422, "backend.invalid")
    assert "'d'" in refused.json()["detail"]
    over = await api.http.post(
        "/backends/apply", json={"backends": {"c": {"kind": "ollama"}, "filed": {"kind": "ollama"}}}
    )
    assert over.json()["code"] == "backend.of_file"
    assert await names(api, "/backends") == ["a", "b", "filed"]
    rest = {"backends": {"a": {"kind": "ollama"}, "b": {"kind": "gemini"}}, "prune": True}
    told = (await api.http.post("/backends/apply", json=rest)).json()["changes"]
    assert {item["name"]: item["change"] for item in told} == {"a": "unchanged", "b": "updated", "both": "removed"}
    assert await names(api, "/groups") == ["filed_group"]


@pytest.mark.usefixtures("both_stores")
async def test_models_are_declared_at_a_backend_with_price_and_capabilities(api: ApiServer) -> None:
    await api.http.post("/backends", json=DESK)
    path = "/backends/desk/models/org/big:70b"
    made = await api.http.put(path, json={"price": {"input": 1, "output": 2}, "capabilities": {"context": 4096}})
    assert made.status_code == 200, made.text
    assert made.json()["capabilities"] == {"context": 4096}
    changed = await api.http.put(path, json={"price": None})
    assert (changed.json()["price"], changed.json()["capabilities"]) == (None, {"context": 4096})
    listed = (await api.http.get("/models", params={"backend": "desk"})).json()["items"]
    assert [(item["model"], item["declared"], item["found"]) for item in listed] == [
        ("org/big:70b", True, False),
        ("qwen3", True, False),
    ]
    assert (await api.http.get(path)).json() == changed.json()
    assert (await api.http.delete(path)).status_code == 204
    assert (await api.http.get("/backends/desk")).json()["capabilities"] == {}
    last = await api.http.delete("/backends/desk/models/qwen3")
    assert (last.status_code, last.json()["code"]) == (409, "backend.last_model")
    filed = await api.http.put("/backends/filed/models/x", json={})
    assert (filed.status_code, filed.json()["code"]) == (409, "backend.of_file")


async def test_lists_go_on_where_a_page_ended(api: ApiServer) -> None:
    await api.http.post("/backends/apply", json={"backends": {f"b{n}": {"kind": "ollama"} for n in range(5)}})
    seen: list[str] = []
    cursor = None
    while True:
        page = (await api.http.get("/backends", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["b0", "b1", "b2", "b3", "b4", "filed"]


async def test_a_repeated_request_declares_once(api: ApiServer) -> None:
    headers = {"idempotency-key": "once"}
    first = await api.http.post("/backends", json=DESK, headers=headers)
    second = await api.http.post("/backends", json=DESK, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()


async def test_a_broken_file_leaves_the_last_good_one_in_force(api: ApiServer, tmp_path: Path) -> None:
    assert await names(api, "/backends") == ["filed"]
    (tmp_path / "everstep.toml").write_text("[backends.filed", encoding="utf-8")
    assert await names(api, "/backends") == ["filed"]
    (tmp_path / "everstep.toml").write_text(FILE.replace("backends.filed", "backends.renamed"), encoding="utf-8")
    assert await names(api, "/backends") == ["renamed"]


async def test_what_needs_temporal_says_that_it_is_away(api: ApiServer) -> None:
    await api.http.post("/backends", json=DESK)
    for path, body in (("/backends/desk/check", None), ("/pulls", {"backend": "desk", "model": "m"})):
        answer = await api.http.post(path, json=body, timeout=httpx.Timeout(PATIENCE_S))
        assert (answer.status_code, answer.json()["code"]) == (503, "unreachable")
    # it stands in the queue all the same
    pulls = (await api.http.get("/pulls")).json()["items"]
    assert [(item["model"], item["state"]) for item in pulls] == [("m", "queued")]
    cancelled = await api.http.post(f"/pulls/{pulls[0]['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    other = await api.http.post("/pulls", json={"backend": "filed", "model": "m"})
    assert (other.status_code, other.json()["code"]) == (409, "backend.not_pulling")


async def test_a_backend_that_only_workers_know_is_shown_and_belongs_to_them(api: ApiServer, tmp_path: Path) -> None:
    database = await open_database(store_url(tmp_path / "lab.db"))
    try:
        seen = CheckedBackend(
            backend="bundled",
            source="bundled",
            body={"base_url": "http://127.0.0.1:9/v1", "models": ["smollm2"]},
            state="up",
            models={"smollm2": {"capabilities": {"context": 8192}}},
        )
        await BackendStateStore(database).record([seen], now_us=1_800_000_000_000_000)
    finally:
        await database.close()
    view = (await api.http.get("/backends/bundled")).json()
    assert (view["source"], view["state"]["health"]) == ("bundled", "up")
    assert await names(api, "/backends") == ["bundled", "filed"]
    (model,) = (await api.http.get("/models", params={"backend": "bundled"})).json()["items"]
    assert (model["declared"], model["capabilities"]) == (True, {"context": 8192})
    refused = await api.http.post("/backends", json={"name": "bundled", "kind": "ollama"})
    assert (refused.status_code, refused.json()["code"]) == (409, "backend.of_file")
