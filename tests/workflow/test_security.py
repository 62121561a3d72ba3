"""What no task can make a worker do: reach private addresses, call others' tools, fill its memory with an answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpcore
import pytest

from engine import tool
from engine.control.compiling import compile_text
from engine.control.tools import load_catalog
from engine.core.errors import CompileError, InvalidInput
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.settings import HttpConfig, IntegrationConfig, McpConfig, OpenApiConfig, Project, ToolsConfig
from tests.support.lab import Ended, Lab, plan_of
from tests.support.servers import serve_app

PUBLIC = "93.184.216.34"
MEGABYTE = 2**20


class Witness:
    """A service on loopback that nobody should reach; it says where else to go if it is told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.location = ""
        self.endless = False
        self.packed = False
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        self.seen.append(scope["path"])
        headers = [(b"content-type", b"text/plain")]
        if self.location:
            headers.append((b"location", self.location.encode()))
            await send({"type": "http.response.start", "status": 302, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        piece = b"x" * MEGABYTE
        if self.packed:
            headers.append((b"content-encoding", b"gzip"))
            piece = gzip.compress(b"x" * (64 * MEGABYTE))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while self.endless and self.sent < 2_000 * MEGABYTE:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sent += len(piece)
            message = asyncio.ensure_future(receive())
            done, _ = await asyncio.wait({message}, timeout=0)
            if done and message.result()["type"] == "http.disconnect":
                return
            message.cancel()
        await send({"type": "http.response.body", "body": b"reached"})


@pytest.fixture
async def witness() -> AsyncIterator[tuple[Witness, int]]:
    """The service and its port."""
    service = Witness()
    async with serve_app(service) as url:
        yield service, int(url.rpartition(":")[2])


def document(folder: Path, base_url: str) -> str:
    """Write the document of a service with one operation and return its path."""
    path = folder / "service.json"
    operation = {"operationId": "look", "responses": {"200": {"description": "it"}}}
    body = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/looked": {"get": operation}}}
    path.write_text(json.dumps({**body, "servers": [{"url": base_url}]}))
    return str(path)


KINDS = ["api_call", "openapi", "web"]


async def call_of(lab: Lab, kind: str, base: str, *, redirects: bool = True) -> Ended:
    """Let a task call an address by a tool of some kind, under the rules of the laboratory's `http`."""
    config = ToolsConfig()
    if kind == "openapi":
        service = OpenApiConfig(document=document(lab.folder, base), base_url=base)
        config = ToolsConfig(openapi={"service": service})
        step = "{tool: service_look, arguments: {}}"
    elif kind == "web":
        config = ToolsConfig(integrations={"web": IntegrationConfig(provider="web")})
        step = f'{{tool: web, arguments: {{url: "{base}/looked"}}}}'
    else:
        step = f"{{tool: look, arguments: {{follow_redirects: {str(redirects).lower()}}}}}"
    lab.project = Project(http=lab.http, tools=config)
    lab.others = (await asyncio.to_thread(load_catalog, lab.project, lab.folder)).contracts()
    tools = f'tools: [{{name: look, effect: read, api_call: {{method: GET, url: "{base}/looked"}}}}]\n'
    text = f"name: t\n{tools if kind == 'api_call' else ''}main:\n  - {step}\n"
    plan = compile_text(text, contracts=lab.others).plan
    async with lab.worker():
        return await lab.run(plan)


# --- addresses -----------------------------------------------------------------------------------------------------

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "localhost",
    "LOCALHOST.",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
    "example.com:80@127.0.0.1",
    "[fe80::1%25lo]",
    "10.0.0.1",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "100.64.0.1",
    "①②⑦.⓪.⓪.①",
]


@pytest.mark.parametrize("kind", ["api_call", "web"])
async def test_a_private_address_is_reached_by_no_spelling(lab: Lab, witness: tuple[Witness, int], kind: str) -> None:
    service, port = witness
    lab.http = HttpConfig()
    lab.project = Project(tools=ToolsConfig(integrations={"web": IntegrationConfig(provider="web")}))
    lab.others = load_catalog(lab.project, lab.folder).contracts()
    name = "web" if kind == "web" else "look"
    own = '[{name: look, effect: read, api_call: {method: GET, url: "http://a.example/"}}]'
    text = f"""
name: t
tools: {"[]" if kind == "web" else own}
main:
  - foreach:
      in: $ _
      do:
        - tool: {name}
          arguments: {{url: $ _}}
          on_error: {{evaluate: $ error.code}}
"""
    text = text.replace("tools: []\n", "")
    urls = [f"http://{host}:{port}/looked" for host in SPELLINGS] + [
        f"//127.0.0.1:{port}/",
        f"file:///etc/passwd?{port}",
    ]
    async with lab.worker():
        ended = await lab.run(compile_text(text, contracts=lab.others).plan, urls)
    assert service.seen == []
    assert ended.error is None
    codes = dict(zip(urls, ended.output, strict=True))
    allowed = {"tool.address_refused", "tool.unreachable", "tool.bad_arguments", "tool.bad_reply"}
    assert {url: code for url, code in codes.items() if code not in allowed} == {}
    # by far most are seen through, and not only out of reach
    assert list(codes.values()).count("tool.address_refused") >= len(SPELLINGS) - 6


@pytest.mark.parametrize("host", ["127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"])
async def test_a_registered_service_is_under_the_same_rules(lab: Lab, witness: tuple[Witness, int], host: str) -> None:
    service, port = witness
    lab.http = HttpConfig()
    ended = await call_of(lab, "openapi", f"http://{host}:{port}")
    assert ended.error is not None
    assert ended.error["code"] == "tool.address_refused"
    assert service.seen == []


class Rebinding:
    """A name whose address changes with every look-up: public for whoever checks, private for whoever connects."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
        self.asked = 0
        self.connected: list[str] = []
        lookup = asyncio.base_events.BaseEventLoop.getaddrinfo
        connect = httpcore.AnyIOBackend.connect_tcp

        async def lying(loop: Any, host: Any, *args: Any, **options: Any) -> Any:
            if host != "rebind.example":
                return await lookup(loop, host, *args, **options)
            self.asked += 1
            address = PUBLIC if self.asked % 2 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        async def watched(network: Any, host: str, to: int, *args: Any, **options: Any) -> Any:
            if to == port:
                self.connected.append(host)
            if host == PUBLIC:
                raise httpcore.ConnectError("the test has no internet")
            return await connect(network, host, to, *args, **options)

        monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", lying)
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", watched)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_that_changes_between_check_and_connection_reaches_nothing(
    lab: Lab, witness: tuple[Witness, int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    service, port = witness
    lab.http = HttpConfig()
    rebinding = Rebinding(monkeypatch, port)
    ended = await call_of(lab, kind, f"http://rebind.example:{port}")
    assert ended.error is not None
    # what was checked is what is connected to; the next attempt sees the private answer, and refuses it
    assert ended.error["code"] == "tool.address_refused"
    assert (rebinding.asked, rebinding.connected, service.seen) == (2, [PUBLIC], [])


async def test_an_mcp_server_whose_name_changes_is_not_reached(
    lab: Lab, witness: tuple[Witness, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, port = witness
    rebinding = Rebinding(monkeypatch, port)
    project = Project(tools=ToolsConfig(mcp={"exam": McpConfig(url=f"http://rebind.example:{port}/mcp")}))
    found: list[Any] = []
    for _ in range(2):
        with contextlib.suppress(InvalidInput):
            found += (await asyncio.to_thread(load_catalog, project, lab.folder)).contracts()
    assert found == []
    assert rebinding.asked >= 2
    assert set(rebinding.connected) == {PUBLIC}
    assert service.seen == []


@pytest.mark.parametrize("kind", ["api_call", "web"])
@pytest.mark.parametrize(
    "location",
    ["http://localhost:{port}/inside", "http://[::ffff:127.0.0.1]:{port}/inside", "http://2130706433:{port}/inside"],
)
async def test_a_redirect_does_not_lead_inside(
    lab: Lab, witness: tuple[Witness, int], kind: str, location: str
) -> None:
    service, port = witness
    # the operator allowed this one name, and nothing else on the machine
    lab.http = HttpConfig(allow=[f"127.0.0.1:{port}"])
    service.location = location.format(port=port)
    ended = await call_of(lab, kind, f"http://127.0.0.1:{port}")
    assert service.seen == ["/looked"]
    assert ended.error is not None
    assert ended.error["code"] == "tool.address_refused"


async def test_a_redirect_of_a_registered_service_is_not_followed_at_all(
    lab: Lab, witness: tuple[Witness, int]
) -> None:
    service, port = witness
    lab.http = HttpConfig(allow=["127.0.0.1:*"])
    service.location = f"http://127.0.0.1:{port}/inside"
    ended = await call_of(lab, "openapi", f"http://127.0.0.1:{port}")
    assert service.seen == ["/looked"]
    assert ended.error is not None
    assert ended.error["code"] == "tool.http_status"


# --- names of tools ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ['"{{ _.name }}"', "$ _.name", "$ 'sp' + 'y'"])
def test_the_name_of_a_tool_is_never_computed(name: str) -> None:
    with pytest.raises(CompileError) as raised:
        plan_of(f"name: t\nmain:\n  - {{tool: {name}, arguments: {{}}}}\n")
    assert {found.code for found in raised.value.diagnostics} == {"E508"}


async def test_a_plan_that_names_what_its_tenant_is_not_offered_calls_nothing(lab: Lab) -> None:
    called: list[str] = []

    @tool(effect="read")
    def spy() -> str:
        """Look around."""
        called.append("spy")
        return "seen"

    lab.tools = [spy]
    lab.project = Project(tools=ToolsConfig(tenants={"spy": ["globex"]}))
    forged = plan_of("name: t\nmain:\n  - {tool: spy, arguments: {}}\n", [spy])
    async with lab.worker():
        ended = await lab.run(forged)
    assert ended.error is not None
    assert ended.error["code"] == "authority.denied"
    assert called == []


async def test_a_plan_that_brings_a_contract_of_its_own_calls_nothing_that_is_not_registered(lab: Lab) -> None:
    """Whoever writes into Temporal what no compiler made still reaches only what the worker's operator registered."""
    plan = plan_of(
        'name: t\ntools: [{name: look, api_call: {method: GET, url: "http://a.example/"}}]\n'
        "main:\n  - {tool: look, arguments: {}}\n"
    )
    body = plan_to_json(plan)
    codes = []
    specs: list[dict[str, Any]] = [
        {"type": "python", "spec": {}},
        {"type": "integration", "spec": {"provider": "email"}},
        {
            "type": "openapi",
            "spec": {"service": "shop", "base_url": "http://127.0.0.1:1", "path": "/", "method": "GET"},
        },
        {"type": "mcp", "spec": {"server": "exam", "tool": "look"}},
    ]
    async with lab.worker():
        for spec in specs:
            forged = plan_from_json({**body, "tools": {"look": {"name": "look", **spec}}})
            ended = await lab.run(forged)
            assert ended.error is not None
            codes.append(ended.error["code"])
    assert codes == ["tool.unknown"] * 4


# --- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_without_end_is_cut_off_early(
    lab: Lab, witness: tuple[Witness, int], kind: str, packed: bool
) -> None:
    service, port = witness
    service.endless, service.packed = True, packed
    lab.http = HttpConfig(allow=["127.0.0.1:*"])
    ended = await call_of(lab, kind, f"http://127.0.0.1:{port}")
    assert ended.error is not None
    assert ended.error["code"] == "tool.too_large"
    assert len(json.dumps(ended.error)) < 2_000
    # what stands between is what a machine's sockets hold
    assert service.sent < 40 * MEGABYTE


@pytest.mark.parametrize("wide", [True, False])
async def test_a_function_that_returns_too_much_fails_clearly_and_alone(lab: Lab, wide: bool) -> None:
    @tool(effect="read")
    def giant() -> Any:
        """Return too much."""
        return ["x" * MEGABYTE] * 60 if wide else "x" * (60 * MEGABYTE)

    @tool(effect="read")
    def small() -> str:
        """Return little."""
        return "fine"

    lab.tools = [giant, small]
    text = """
name: t
main:
  - {tool: giant, arguments: {}, on_error: {evaluate: $ error}}
  - {tool: small, arguments: {}}
  - evaluate: {first: "$ outputs[0]", then: $ _}
"""
    async with lab.worker():
        ended = await lab.run(text)
    assert ended.output["then"] == "fine"
    assert ended.output["first"]["code"] == "tool.bad_result"
    assert "larger than" in ended.output["first"]["message"]
    assert len(json.dumps(ended.output)) < 2_000


async def test_an_error_that_tells_too_much_is_cut(lab: Lab) -> None:
    @tool(effect="read")
    def loud() -> None:
        """Fail loudly."""
        raise ValueError("y" * MEGABYTE)

    lab.tools = [loud]
    async with lab.worker():
        ended = await lab.run("name: t\nmain:\n  - {tool: loud, arguments: {}}\n")
    assert ended.error is not None
    assert len(json.dumps(ended.error)) < 10_000
