"""That all methods of Julep's SDK are shown by the tests of this folder, and how its own exceptions are raised."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from julep import (
    AsyncJulep,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DefaultHttpxClient,
    Julep,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)

from tests.julep import (
    test_sdk_chat,
    test_sdk_docs,
    test_sdk_executions,
    test_sdk_resources,
    test_sdk_tasks,
)
from tests.julep.installation import Installation, Key
from tests.julep.sdk import Kind, Sdk, connected, public_methods

SCENARIOS = (test_sdk_chat, test_sdk_docs, test_sdk_executions, test_sdk_resources, test_sdk_tasks)
UNKNOWN = str(uuid.uuid4())
UNKNOWN_IDS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("agents.get", (UNKNOWN,), {}),
    ("agents.update", (UNKNOWN,), {"name": "Ada"}),
    ("agents.reset", (UNKNOWN,), {"name": "Ada"}),
    ("agents.delete", (UNKNOWN,), {}),
    ("agents.docs.create", (UNKNOWN,), {"title": "t", "content": "c"}),
    ("agents.docs.list", (UNKNOWN,), {}),
    ("agents.docs.search", (UNKNOWN,), {"text": "c"}),
    ("agents.docs.bulk_delete", (UNKNOWN,), {"delete_all": True}),
    ("agents.tools.create", (UNKNOWN,), {"name": "f", "type": "function", "function": {"parameters": {}}}),
    ("agents.tools.list", (UNKNOWN,), {}),
    ("users.get", (UNKNOWN,), {}),
    ("users.update", (UNKNOWN,), {"name": "Ada"}),
    ("users.reset", (UNKNOWN,), {"name": "Ada"}),
    ("users.delete", (UNKNOWN,), {}),
    ("users.docs.create", (UNKNOWN,), {"title": "t", "content": "c"}),
    ("users.docs.list", (UNKNOWN,), {}),
    ("users.docs.search", (UNKNOWN,), {"text": "c"}),
    ("users.docs.bulk_delete", (UNKNOWN,), {"delete_all": True}),
    ("docs.get", (UNKNOWN,), {}),
    ("files.get", (UNKNOWN,), {}),
    ("files.delete", (UNKNOWN,), {}),
    ("secrets.update", (UNKNOWN,), {"name": "n", "value": "v"}),
    ("secrets.delete", (UNKNOWN,), {}),
    ("jobs.get", (UNKNOWN,), {}),
    ("tasks.get", (UNKNOWN,), {}),
    ("tasks.create", (UNKNOWN,), {"name": "t", "main": [{"evaluate": {"x": "$ 1"}}]}),
    ("tasks.list", (UNKNOWN,), {}),
    ("executions.create", (UNKNOWN,), {"input": {}}),
    ("executions.list", (UNKNOWN,), {}),
    ("executions.get", (UNKNOWN,), {}),
    ("executions.status.get", (UNKNOWN,), {}),
    ("executions.status.stream", (UNKNOWN,), {}),
    ("executions.change_status", (UNKNOWN,), {"status": "cancelled"}),
    ("executions.transitions.list", (UNKNOWN,), {}),
    ("executions.transitions.stream", (UNKNOWN,), {}),
    ("sessions.get", (UNKNOWN,), {}),
    ("sessions.update", (UNKNOWN,), {"situation": "s"}),
    ("sessions.reset", (UNKNOWN,), {"situation": "s"}),
    ("sessions.delete", (UNKNOWN,), {}),
    ("sessions.history", (UNKNOWN,), {}),
    ("sessions.render", (UNKNOWN,), {"messages": [{"role": "user", "content": "hello"}]}),
    ("sessions.chat", (UNKNOWN,), {"messages": [{"role": "user", "content": "hello"}]}),
]
BAD_BODIES: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("agents.create", (), {"name": ""}),
    ("agents.create", (), {"name": "Ada", "canonical_name": "not a name"}),
    ("users.create", (), {"name": 7}),
    ("projects.create", (), {"name": ""}),
    ("files.create", (), {"name": "a.txt", "content": "*no base64*"}),
    ("secrets.create", (), {"name": "", "value": "v"}),
    ("docs.embed", (), {"text": []}),
    ("sessions.create", (), {"agent": UNKNOWN, "token_budget": "many"}),
]


async def ask(julep: Sdk, method: str, given: tuple[str, ...], named: dict[str, Any]) -> Any:
    """Call a method by its name."""
    found: Any = julep
    for name in method.split("."):
        found = getattr(found, name)
    return await found(*given, **named)


@pytest.mark.parametrize("client", [Julep, AsyncJulep])
def test_every_method_of_the_sdk_is_shown_by_a_scenario(client: type[Julep] | type[AsyncJulep]) -> None:
    shown: set[str] = set()
    for module in SCENARIOS:
        for item in vars(module).values():
            shown |= getattr(item, "methods", frozenset())
    methods = public_methods(client(api_key="none", base_url="http://127.0.0.1:1"))
    assert len(methods) == 67
    assert methods == shown


async def test_an_unknown_id_is_not_found(julep: Sdk) -> None:
    for method, given, named in UNKNOWN_IDS:
        with pytest.raises(NotFoundError) as raised:
            await ask(julep, method, given, named)
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["code"] != "http.404", f"there is no route for {method}"


async def test_a_wrong_body_is_refused_with_what_is_wrong(julep: Sdk) -> None:
    for method, given, named in BAD_BODIES:
        with pytest.raises((BadRequestError, UnprocessableEntityError)) as raised:
            await ask(julep, method, given, named)
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["detail"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_wrong_key_is_refused_everywhere_but_at_the_health_check(installed: Installation, kind: Kind) -> None:
    async with connected(kind, installed.url, "es_wrong") as stranger:
        for method, given, named in UNKNOWN_IDS:
            with pytest.raises(AuthenticationError):
                await ask(stranger, method, given, named)
        assert await stranger.healthz.check()


async def test_what_belongs_to_another_tenant_does_not_exist(installed: Installation, julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    session = await julep.sessions.create(agent=agent.id)
    file = await julep.files.create(name="a.txt", content="aGVsbG8=")
    async with connected("sync", installed.url, installed.new_key().text) as stranger:
        for method, id_ in [("agents.get", agent.id), ("sessions.get", session.id), ("files.get", file.id)]:
            with pytest.raises(NotFoundError) as theirs:
                await ask(stranger, method, (id_,), {})
            with pytest.raises(NotFoundError) as nobodys:
                await ask(stranger, method, (UNKNOWN,), {})
            assert str(theirs.value).replace(id_, UNKNOWN) == str(nobodys.value)
        assert list((await stranger.agents.list()).items) == []


async def test_a_key_that_may_only_read_is_denied_what_changes_things(
    installed: Installation, key: Key, julep: Sdk
) -> None:
    agent = await julep.agents.create(name="Ada")
    reading = installed.new_key(tenant=key.tenant, scope="read").text
    async with connected("sync", installed.url, reading) as reader:
        assert [found.id for found in (await reader.agents.list()).items] == [agent.id]
        with pytest.raises(PermissionDeniedError):
            await reader.agents.delete(agent.id)


async def test_a_taken_name_is_a_conflict_that_is_not_worth_a_retry(julep: Sdk) -> None:
    await julep.agents.create(name="Ada", canonical_name="ada")
    with pytest.raises(ConflictError) as raised:
        await julep.agents.create(name="Another", canonical_name="ada")
    assert raised.value.response.headers["x-should-retry"] == "false"
    await julep.secrets.create(name="token", value="first")
    with pytest.raises(ConflictError) as raised:
        await julep.secrets.create(name="token", value="second")
    assert raised.value.response.headers["x-should-retry"] == "false"


async def test_what_a_retry_cannot_mend_is_asked_once_though_the_sdk_repeats_by_itself(
    installed: Installation, key: Key, julep: Sdk
) -> None:
    asked: list[str] = []
    hooks = {"request": [lambda request: asked.append(request.url.path)]}
    await julep.agents.create(name="Ada", canonical_name="ada")
    http = DefaultHttpxClient(trust_env=False, event_hooks=hooks)
    client = Julep(base_url=installed.url, api_key=key.text, http_client=http, max_retries=5)
    with client, pytest.raises(ConflictError):
        client.agents.create(name="Another", canonical_name="ada")
    assert asked == ["/api/agents"]
