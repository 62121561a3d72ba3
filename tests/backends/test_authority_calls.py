"""Calls that carry a bound: the activity compares what only it can know, such as redirects and the default model."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.llm import ChatActivities
from activities.tools.runner import ToolActivities
from engine.core.contracts.activities import ToolParams
from engine.core.contracts.failures import run_error_of
from engine.core.errors import AuthorityError
from engine.core.plan.grant import DEFAULT_MODEL, Grant
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, chat_params, serving, simple_app
from tests.backends.test_chat_activity import Recording


class Service:
    """Answers every path, and sends `/to` on to another address."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.location = ""

    async def answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.seen.append(scope["path"])
        if scope["path"] == "/to":
            return 307, {"location": self.location}, b""
        return 200, {"content-type": "application/json"}, b'{"ok": true}'


@pytest.fixture
async def service() -> AsyncIterator[tuple[str, Service]]:
    found = Service()
    async with serving(simple_app(found.answer)) as url:
        yield url, found


async def call(url: str, *hosts: str) -> Any:
    tool = ToolContract("service", "api_call", spec={"method": "GET", "url": url, "follow_redirects": True})
    context = dataclasses.replace(CONTEXT, allow=Grant(hosts=hosts))
    activities = ToolActivities(ToolCatalog(), HttpConfig(allow=["127.0.0.1:*", "localhost:*"]))
    try:
        params = ToolParams(context=context, tool=tool, arguments={}, timeout_s=10)
        return (await ActivityEnvironment().run(activities.call, params)).output
    finally:
        await activities.aclose()


async def refused(url: str, *hosts: str) -> AuthorityError:
    with pytest.raises(ApplicationError) as caught:
        await call(url, *hosts)
    error = run_error_of(caught.value.details[0])
    assert isinstance(error, AuthorityError)
    assert (caught.value.type, caught.value.non_retryable) == ("authority.denied", True)
    return error


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


async def test_a_host_within_the_bound_is_called(service: tuple[str, Service]) -> None:
    url, seen = service
    for entry in (f"127.0.0.1:{port_of(url)}", "127.0.0.1:*"):
        assert (await call(f"{url}/x", entry))["json"] == {"ok": True}
    assert seen.seen == ["/x", "/x"]


async def test_a_host_beyond_the_bound_is_never_connected_to(service: tuple[str, Service]) -> None:
    url, seen = service
    for entry in ("localhost:*", "127.0.0.1", f"127.0.0.1:{int(port_of(url)) + 1}", "*.0.0.1:1"):
        error = await refused(f"{url}/x", entry)
        assert error.details["name"] == f"127.0.0.1:{port_of(url)}"
    assert (await refused(f"{url}/x")).message == f"the task may not call the host '127.0.0.1:{port_of(url)}'"
    assert seen.seen == []


async def test_another_spelling_of_an_address_is_another_host(service: tuple[str, Service]) -> None:
    url, seen = service
    for spelling in ("2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]"):
        await refused(f"http://{spelling}:{port_of(url)}/x", "127.0.0.1:*")
    assert seen.seen == []


async def test_a_redirect_to_another_host_is_not_followed(service: tuple[str, Service]) -> None:
    url, seen = service
    seen.location = f"http://localhost:{port_of(url)}/secret"
    error = await refused(f"{url}/to", "127.0.0.1:*")
    assert error.details == {"kind": "hosts", "name": f"localhost:{port_of(url)}"}
    assert seen.seen == ["/to"]


async def test_a_redirect_within_the_bound_is_followed(service: tuple[str, Service]) -> None:
    url, seen = service
    seen.location = f"http://localhost:{port_of(url)}/y"
    assert (await call(f"{url}/to", "127.0.0.1:*", "localhost:*"))["status_code"] == 200
    seen.location = "/z"
    assert (await call(f"{url}/to", "127.0.0.1:*"))["status_code"] == 200
    assert seen.seen == ["/to", "/y", "/to", "/z"]


async def test_one_executions_bound_is_none_of_anothers(service: tuple[str, Service]) -> None:
    url, _ = service
    activities = ToolActivities(ToolCatalog(), HttpConfig(allow=["127.0.0.1:*"]))
    tool = ToolContract("service", "api_call", spec={"method": "GET", "url": f"{url}/x"})
    try:
        for allow, wanted in ((Grant(hosts=("127.0.0.1:*",)), True), (Grant(hosts=()), False), (None, True)):
            context = dataclasses.replace(CONTEXT, allow=allow)
            params = ToolParams(context=context, tool=tool, arguments={}, timeout_s=10)
            if wanted:
                assert (await ActivityEnvironment().run(activities.call, params)).output["status_code"] == 200
            else:
                with pytest.raises(ApplicationError, match="may not call the host"):
                    await ActivityEnvironment().run(activities.call, params)
    finally:
        await activities.aclose()


# --- models --------------------------------------------------------------------------------------------------------


async def ask(backend: Recording, model: str, *models: str) -> None:
    context = dataclasses.replace(CONTEXT, allow=Grant(models=models))
    await ActivityEnvironment().run(ChatActivities([backend]).chat, chat_params(context=context, model=model))


async def test_the_operators_default_model_is_compared_once_it_is_known() -> None:
    backend = Recording("b", default="big")
    await ask(backend, "", "big")
    await ask(backend, "", DEFAULT_MODEL)
    assert backend.asked == ["big", "big"]
    with pytest.raises(ApplicationError) as caught:
        await ask(backend, "", "small")
    assert (caught.value.type, caught.value.non_retryable) == ("authority.denied", True)
    assert backend.asked == ["big", "big"]


async def test_a_default_model_that_the_backend_lists_is_compared_too() -> None:
    backend = Recording("b", listed=("listed",))
    await ask(backend, "", "listed")
    with pytest.raises(ApplicationError, match="may not ask the model 'listed'"):
        await ask(backend, "", "other")


async def test_a_model_that_is_named_needs_its_own_name_in_the_bound() -> None:
    backend = Recording("b", default="big")
    with pytest.raises(ApplicationError, match="may not ask the model 'big'"):
        await ask(backend, "big", DEFAULT_MODEL)
    assert backend.asked == []
