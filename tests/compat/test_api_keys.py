"""API keys on a real server: made and shown once, what each permits, and when one ceases to open."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from engine.control.keys import CACHE_S, KeyService, MadeKey
from engine.core.errors import InvalidInput, NotAllowed
from engine.edge.cli.main import run_command
from engine.edge.http.scopes import route_needs
from engine.edge.server import create_app
from engine.settings import Settings
from engine.store.database import open_database
from engine.store.idempotency import KEPT_US, LAPSE_US
from engine.store.keys import KeyStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.servers import free_port

TASK = "name: t\nmain:\n  - evaluate: {x: 1}\n"
OF_OPERATORS = ("/api/backends", "/api/groups", "/api/pulls")
YAML = {"content-type": "application/yaml"}
ROOT = {"authorization": "Bearer sesame"}


def bearer(made: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {made['key']}"}


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API with a root key, without Temporal."""
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


@pytest.fixture
async def open_api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API on loopback that asks for no key."""
    async with api_server(settings_for(tmp_path), temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


async def make(http: httpx.AsyncClient, *scopes: str, **body: Any) -> dict[str, Any]:
    answer = await http.post("/keys", json={"name": "bot", "scopes": list(scopes), **body}, headers=ROOT)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def rows_of(settings: Settings, table: str) -> list[dict[str, Any]]:
    database = await open_database(settings.store_url)
    try:
        async with database.read() as connection:
            return [dict(row._mapping) for row in await connection.execute(text(f"SELECT * FROM {table}"))]
    finally:
        await database.close()


# --- made, shown once, hashed --------------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_stored_as_a_hash(locked: ApiServer, tmp_path: Path) -> None:
    made = await make(locked.http, "run")
    assert made["key"].startswith(f"es_{made['id']}_")
    assert len(made["key"].rpartition("_")[2]) == 43
    listed = (await locked.http.get("/keys", headers=ROOT)).json()
    assert listed == {
        "items": [{name: value for name, value in made.items() if name != "key"}],
        "next_cursor": None,
    }
    (row,) = await rows_of(settings_for(tmp_path), "api_keys")
    assert made["key"] not in json.dumps(row)
    assert made["key"].rpartition("_")[2] not in json.dumps(row)
    assert (row["created_by"], row["tenant"], row["scopes"]) == ("root", "default", "run")


@pytest.mark.parametrize("form", ["Bearer {}", "bearer  {}", "{}"])
async def test_a_key_opens_in_every_form_that_clients_send(locked: ApiServer, form: str) -> None:
    key = (await make(locked.http, "read"))["key"]
    assert (await locked.http.get("/tasks", headers={"authorization": form.format(key)})).status_code == 200
    assert (await locked.http.get("/tasks", headers={"x-auth-key": key})).status_code == 200


async def test_a_key_that_is_nearly_right_does_not_open(locked: ApiServer) -> None:
    made = await make(locked.http, "read")
    other = await make(locked.http, "read")
    head, _, secret = made["key"].rpartition("_")
    for wrong in (
        f"{head}_{secret[:-1]}{'a' if secret[-1] != 'a' else 'b'}",
        f"{head}_{other['key'].rpartition('_')[2]}",
        f"es_{'0' * 16}_{secret}",
        made["id"],
        f"es_{made['id']}_",
        "es_",
    ):
        answer = await locked.http.get("/tasks", headers={"authorization": f"Bearer x{wrong}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "auth.required")
        answer = await locked.http.get("/tasks", headers={"x-auth-key": wrong})
        assert (answer.status_code, answer.json()["code"]) == (401, "auth.required")
        assert "X-Auth-Key" in answer.json()["hint"]


@pytest.mark.parametrize("bad", ["es_bad", "Bearer es_bad", "Bearer wrong", "wrong"])
async def test_one_good_credential_among_those_that_were_sent_opens(locked: ApiServer, bad: str) -> None:
    good = (await make(locked.http, "read", name="old-client"))["key"]
    revoked = await make(locked.http, "read")
    await locked.http.delete(f"/keys/{revoked['id']}", headers=ROOT)
    for sent in (
        {"authorization": bad, "x-auth-key": good},
        {"authorization": good, "x-auth-key": bad.removeprefix("Bearer ")},
        {"authorization": bearer(revoked)["authorization"], "x-auth-key": good},
        {"authorization": bad, "x-auth-key": "sesame"},
    ):
        assert (await locked.http.get("/tasks", headers=sent)).status_code == 200, sent
    none = await locked.http.get("/tasks", headers={"authorization": bad, "x-auth-key": revoked["key"]})
    assert none.status_code == 401


# --- scopes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [
        ("read", [200, 403, 403, 403]),
        ("run", [200, 503, 403, 403]),
        ("define", [200, 503, 201, 403]),
        ("admin", [200, 503, 201, 200]),
    ],
)
async def test_each_scope_permits_what_it_says_and_all_before_it(
    locked: ApiServer, scope: str, statuses: list[int]
) -> None:
    task = await locked.http.post("/tasks", content=TASK, headers={**YAML, **ROOT})
    headers = bearer(await make(locked.http, scope))
    answers = [
        await locked.http.get("/tasks", headers=headers),
        # 503: Temporal is away, so the key was good for it
        await locked.http.post(f"/tasks/{task.json()['id']}/executions", json={}, headers=headers),
        await locked.http.post("/agents", json={"name": "Ada"}, headers=headers),
        await locked.http.get("/keys", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == statuses
    needed = ("read", "run", "define", "admin")
    for answer, need in zip(answers, needed, strict=True):
        if answer.status_code == 403:
            body = answer.json()
            assert (body["code"], body["details"]) == ("auth.scope", {"scope": need})
            assert f"'{need}'" in body["detail"]


async def test_every_route_says_which_scope_it_needs(tmp_path: Path) -> None:
    from engine.edge.http.services import open_services

    # behind a link, its token is the permission
    free = {"/api/openapi.json", "/api/healthz", "/api/readyz", "/healthz", "/readyz", "/api/link"}
    by_what_is_sent = {"/api/hooks/{hook_id}", "/api/executions"}
    only_reading = {"/api/tasks/validate", "/api/tasks/{task_id}/diff"}
    async with open_services(settings_for(tmp_path), contracts={}) as services:
        needs = route_needs(create_app(services))
    assert len(needs) > 25
    for need in needs:
        # what others send to a hook needs the hook's own key, an answer without one a task token
        if need.path in free or ("POST" in need.methods and need.path in by_what_is_sent):
            assert need.scope is None, need.path
            continue
        assert need.scope is not None, (
            f"{sorted(need.methods)} {need.path} needs a scope: see engine/edge/http/callers.py"
        )
        changes = not need.methods <= {"GET", "HEAD"}
        if changes and need.path not in only_reading:
            assert need.scope != "read", f"{sorted(need.methods)} {need.path} changes something: state its scope"
        # they give rights away, take what is recorded away, read what is encrypted, or say what others send
        of_admins = need.path.startswith(("/api/keys", "/api/purge", "/api/codec/"))
        of_admins = of_admins or (changes and need.path.startswith(("/api/secrets", *OF_OPERATORS)))
        assert (need.scope == "admin") == of_admins


# --- repeated requests ---------------------------------------------------------------------------------------------


async def test_a_repeated_request_replaces_only_a_key_that_nobody_can_have(tmp_path: Path) -> None:
    clock = [1_800_000_000_000_000]
    database = await open_database(settings_for(tmp_path).store_url)
    store = KeyStore(database)
    keys = KeyService(store, lambda: clock[0])

    async def ask(request_key: str, name: str) -> MadeKey:
        return await keys.create(tenant="acme", name=name, scopes=["admin"], actor="root", request_key=request_key)

    async def stays(made: MadeKey) -> None:
        again = await ask("k", "second")
        assert again.facts.id != made.facts.id
        assert (await keys.authenticate(again.text)).name == "second"
        kept = await store.find(made.facts.id)
        assert kept is not None
        assert (kept.hash, kept.name, kept.created_us) == (made.facts.hash, "first", made.facts.created_us)
        async with database.write() as connection:
            await connection.execute(text("DELETE FROM api_keys"))
        clock[0] += 1_000_000

    # the answer was lost a moment ago: there is one key, the latest
    lost = await ask("k", "first")
    clock[0] += LAPSE_US
    found = await ask("k", "first")
    assert found.facts.id == lost.facts.id
    with pytest.raises(NotAllowed):
        await keys.authenticate(lost.text)
    # used
    await keys.authenticate(found.text)
    await keys.close()
    await stays(found)
    # revoked
    revoked = await ask("k", "first")
    await keys.revoke(revoked.facts.id, tenant="acme")
    again = await ask("k", "second")
    assert again.facts.id != revoked.facts.id
    with pytest.raises(NotAllowed):
        await keys.authenticate(revoked.text)
    async with database.write() as connection:
        await connection.execute(text("DELETE FROM api_keys"))
    # a day old, and lies in somebody's drawer
    old = await ask("k", "first")
    clock[0] += KEPT_US
    await stays(old)
    await keys.close()
    await database.close()


# --- expiry and revocation -----------------------------------------------------------------------------------------


async def test_a_revoked_key_ceases_to_open_at_once_in_this_process(locked: ApiServer) -> None:
    made = await make(locked.http, "read")
    assert (await locked.http.get("/tasks", headers=bearer(made))).status_code == 200
    revoked = await locked.http.delete(f"/keys/{made['id']}", headers=ROOT)
    assert (revoked.status_code, revoked.json()["revoked_at"] is not None) == (200, True)
    answer = await locked.http.get("/tasks", headers=bearer(made))
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.key_revoked")
    # a second time changes nothing
    again = await locked.http.delete(f"/keys/{made['id']}", headers=ROOT)
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]
    nobody = await locked.http.delete("/keys/none", headers=ROOT)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "key.not_found")


async def test_a_key_revoked_by_another_process_ceases_to_open_within_five_seconds(tmp_path: Path) -> None:
    clock = [1_800_000_000_000_000]
    database = await open_database(settings_for(tmp_path).store_url)
    here, there = (KeyService(KeyStore(database), lambda: clock[0]) for _ in range(2))
    made = await here.create(tenant="acme", name="bot", scopes=["read"])
    assert (await here.authenticate(made.text)).id == made.facts.id
    await there.revoke(made.facts.id, tenant="acme")
    clock[0] += int(CACHE_S * 1e6) - 1
    assert (await here.authenticate(made.text)).id == made.facts.id
    clock[0] += 1
    with pytest.raises(NotAllowed) as caught:
        await here.authenticate(made.text)
    assert caught.value.code == "auth.key_revoked"
    assert CACHE_S == 5
    await here.close()
    await database.close()


async def test_an_expired_key_ceases_to_open_though_it_was_just_used(tmp_path: Path) -> None:
    clock = [1_800_000_000_000_000]
    database = await open_database(settings_for(tmp_path).store_url)
    keys = KeyService(KeyStore(database), lambda: clock[0])
    made = await keys.create(tenant="acme", name="bot", scopes=["read"], expires_us=clock[0] + 1_000_000)
    clock[0] += 999_999
    await keys.authenticate(made.text)
    clock[0] += 1
    with pytest.raises(NotAllowed) as caught:
        await keys.authenticate(made.text)
    assert caught.value.code == "auth.key_expired"
    with pytest.raises(InvalidInput) as refused:
        await keys.create(tenant="acme", name="bot", scopes=["read"], expires_us=clock[0])
    assert refused.value.code == "key.expired"
    await keys.close()
    await database.close()


async def test_the_last_use_of_a_key_is_written_once_a_minute(tmp_path: Path) -> None:
    clock = [1_800_000_000_000_000]
    database = await open_database(settings_for(tmp_path).store_url)
    store = KeyStore(database)
    keys = KeyService(store, lambda: clock[0])
    made = await keys.create(tenant="acme", name="bot", scopes=["read"])
    seen: list[int | None] = []
    for step_s in (0, 30, 30, 5):
        clock[0] += step_s * 1_000_000
        await keys.authenticate(made.text)
        await keys.close()
        facts = await store.find(made.facts.id)
        assert facts is not None
        seen.append(None if facts.last_used_us is None else (facts.last_used_us - made.facts.created_us) // 1_000_000)
    assert seen == [0, 0, 0, 65]
    await database.close()


# --- who may make keys, and of which tenant ------------------------------------------------------------------------


async def test_the_root_key_makes_keys_of_any_tenant_and_an_admin_of_its_own(locked: ApiServer) -> None:
    acme = await make(locked.http, "admin", tenant="acme")
    assert acme["tenant"] == "acme"
    headers = bearer(acme)
    own = await locked.http.post("/keys", json={"name": "second"}, headers=headers)
    assert (own.status_code, own.json()["tenant"], own.json()["scopes"]) == (201, "acme", ["read"])
    assert own.json()["created_by"] == "bot"
    for answer in (
        await locked.http.post("/keys", json={"name": "x", "tenant": "globex"}, headers=headers),
        await locked.http.get("/keys?tenant=globex", headers=headers),
        await locked.http.delete(f"/keys/{acme['id']}?tenant=globex", headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "auth.tenant")
    listed = await locked.http.get("/keys?tenant=acme", headers=ROOT)
    assert [key["name"] for key in listed.json()["items"]] == ["bot", "second"]
    assert (await locked.http.get("/keys", headers=ROOT)).json()["items"] == []


@pytest.mark.parametrize("tenant", ["", "Acme", "-a", "a b", "a/b", "a" * 64, "ä", "a\n"])
async def test_a_tenant_has_a_plain_name(locked: ApiServer, tenant: str) -> None:
    answer = await locked.http.post("/keys", json={"name": "x", "tenant": tenant}, headers=ROOT)
    assert (answer.status_code, answer.json()["code"]) == (400, "tenant.bad_name")


async def test_a_key_needs_a_name_and_scopes_that_there_are(locked: ApiServer) -> None:
    for body in (
        {},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "expires_at": "2030-01-01T00:00:00"},
        {"name": "x", "expires_at": "9999-01-01T00:00:00Z"},
        {"name": "x", "scope": "read"},
    ):
        answer = await locked.http.post("/keys", json=body, headers=ROOT)
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid"), body
    late = await locked.http.post("/keys", json={"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, headers=ROOT)
    assert (late.status_code, late.json()["code"]) == (400, "key.expired")


async def test_keys_are_listed_page_by_page(locked: ApiServer) -> None:
    made = [(await make(locked.http, "read", name=f"k{number}"))["id"] for number in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await locked.http.get("/keys", params=params, headers=ROOT)).json()
        seen += [key["id"] for key in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (made, None)
    bad = await locked.http.get("/keys?cursor=nonsense", headers=ROOT)
    assert (bad.status_code, bad.json()["code"]) == (400, "request.bad_cursor")


# --- without a key -------------------------------------------------------------------------------------------------


async def test_an_open_server_takes_any_text_but_not_a_wrong_key_of_ours(open_api: ApiServer) -> None:
    http = open_api.http
    for headers in ({}, {"authorization": "Bearer of-another-system"}, {"x-auth-key": "x"}, {"authorization": "a.b.c"}):
        assert (await http.get("/keys", headers=headers)).status_code == 200
    wrong = await http.get("/tasks", headers={"authorization": f"es_{'a' * 16}_{'b' * 43}"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "auth.required")
    made = (await http.post("/keys", json={"name": "bot", "tenant": "acme"})).json()
    assert (await http.post("/agents", json={"name": "Ada"})).status_code == 201
    assert (await http.get("/agents", headers=bearer(made))).json()["items"] == []
    refused = await http.post("/agents", json={"name": "Ada"}, headers=bearer(made))
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.scope")


async def test_a_server_can_ask_for_keys_on_loopback_too(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, auth="required")
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        refused = await server.http.get("/tasks")
        assert (refused.status_code, refused.json()["code"]) == (401, "auth.required")


async def test_log_lines_say_who_asked_and_never_with_what(
    locked: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    key = (await make(locked.http, "read", name="reporter", tenant="acme"))["key"]
    wrong = f"es_{'a' * 16}_{'b' * 43}"
    capfd.readouterr()
    for text_sent in (key, wrong):
        await locked.http.get("/tasks", headers={"x-auth-key": text_sent})
    told = capfd.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if "path=/api/tasks" in line]
    assert ["actor=reporter" in line and "tenant=acme" in line for line in lines] == [True, False]
    assert all(secret not in told.out + told.err for secret in (key, wrong, "sesame"))


async def test_an_empty_root_key_is_none(tmp_path: Path) -> None:
    for empty in ("", "  "):
        assert settings_for(tmp_path, api_key=SecretStr(empty)).api_key is None


def test_the_first_key_is_made_without_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path)
    monkeypatch.setenv("EVERSTEP_DATABASE_URL", settings.store_url)
    monkeypatch.setenv("EVERSTEP_DATA_DIR", str(tmp_path))
    words = ["keys", "create", "ops", "--scope", "admin", "--tenant", "acme", "--expires", "90d", "--local"]
    assert run_command([*words, "-o", "json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["tenant"], made["scopes"], made["created_by"]) == ("acme", ["admin"], "local")
    assert made["key"].startswith("es_")
    assert run_command(["keys", "create", "x", "--scope", "root", "--local"]) == 2
    assert "scopes" in capsys.readouterr().err
    assert run_command(["keys", "create", "x", "--expires", "soon", "--local"]) == 2
    assert "'soon' is no time" in capsys.readouterr().err


async def test_keys_are_made_listed_and_revoked_on_the_command_line(
    locked: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    monkeypatch.setenv("EVERSTEP_ADDRESS", locked.url)
    monkeypatch.setenv("EVERSTEP_API_KEY", "sesame")

    async def command(*words: str) -> str:
        assert await asyncio.to_thread(run_command, words) == 0
        return capsys.readouterr().out

    key = (await command("keys", "create", "bot", "-s", "run", "--tenant", "acme")).strip()
    assert key.startswith("es_")
    assert (await locked.http.get("/tasks", headers={"x-auth-key": key})).status_code == 200
    listed = (await command("keys", "ls", "--tenant", "acme")).splitlines()
    key_id = key.split("_")[1]
    assert listed[1].split()[:4] == [key_id, "bot", "run", "good"]
    assert key not in "".join(listed)
    assert await command("keys", "revoke", key_id, "--tenant", "acme") == f"revoked bot ({key_id})\n"
    assert (await locked.http.get("/tasks", headers={"x-auth-key": key})).status_code == 401
