"""HTTP tools stay away from private addresses, however these are spelled."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from engine.control.guard import AddressGuard, is_public
from engine.core.errors import InvalidInput, ToolError
from engine.settings import HttpConfig
from tests.backends.loopback import raw_server, serving, simple_app
from tests.backends.test_http_tool import call, echo, failure


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:a00:1::",
        "2001:db8::1",
        "3fff::1",
        "fec0::1",
        "192.0.0.8",
        "192.88.99.1",
        # metadata services of clouds
        "192.0.0.192",
        "::ffff:192.0.0.192",
        "64:ff9b::c000:c0",
        "168.63.129.16",
        "100.100.100.200",
        "fd00:ec2::254",
    ],
)
def test_addresses_that_are_not_in_the_public_internet_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
    ],
)
async def test_every_spelling_of_a_private_address_is_refused_with_the_remedy(host: str) -> None:
    error = await failure({"method": "GET", "url": f"http://{host}:8080/x"}, http=HttpConfig())
    body = error.details[0]
    assert (error.type, body["retryable"]) == ("tool.address_refused", False)
    assert "[http] allow = [" in body["hint"]
    assert "everstep.toml" in body["hint"]


@pytest.mark.parametrize("host", ["0177.0.0.1", "0177.1", "017700000001"])
async def test_octal_spellings_are_seen_through(host: str) -> None:
    # httpx refuses some of these as addresses; the guard does not count on it
    with pytest.raises(ToolError) as caught:
        await AddressGuard(HttpConfig()).resolve(host, 80)
    assert caught.value.code == "tool.address_refused"


async def test_the_remedy_works() -> None:
    async with serving(simple_app(echo)) as url:
        error = await failure({"method": "GET", "url": url}, http=HttpConfig())
        entry = error.details[0]["hint"].split('"')[1]
        assert (await call({"method": "GET", "url": url}, http=HttpConfig(allow=[entry])))["status_code"] == 200


@pytest.mark.parametrize(
    ("allow", "host", "port", "passes"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.0.0.1", 81, False),
        ("127.0.0.1:*", "127.0.0.1", 81, True),
        ("LocalHost:80", "localhost", 80, True),
        ("localhost:80", "127.0.0.1", 80, False),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:*", "::1", 9, True),
        ("10.0.0.1:80", "127.0.0.1", 80, False),
    ],
)
async def test_only_what_the_operator_named_is_let_through(allow: str, host: str, port: int, passes: bool) -> None:
    guard = AddressGuard(HttpConfig(allow=[allow]))
    if passes:
        assert await guard.resolve(host, port)
    else:
        with pytest.raises(ToolError):
            await guard.resolve(host, port)


@pytest.mark.parametrize("entry", ["127.0.0.1", "http://localhost:80", "::1:80", "localhost:http", "", "*"])
def test_an_exception_of_another_form_is_refused_at_start_instead_of_never_matching(entry: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        AddressGuard(HttpConfig(allow=[entry]))
    assert caught.value.code == "config.invalid"


async def test_a_redirect_to_a_private_address_is_refused() -> None:
    async with serving(simple_app(echo)) as inner:
        port = int(inner.rsplit(":", 1)[1])
        location = f"http://localhost:{port}/x".encode()
        async with raw_server(
            b"HTTP/1.1 302 Found\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n"
        ) as outer:
            spec = {"method": "GET", "url": outer, "follow_redirects": True}
            error = await failure(spec, http=HttpConfig(allow=[outer.removeprefix("http://")]))
    assert error.type == "tool.address_refused"
    assert f"localhost:{port}" in error.message


def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Replace name resolution; each look-up takes the next answer. Returns the list of names looked up."""
    asked: list[str] = []
    left = list(answers)

    async def getaddrinfo(self: Any, host: str, port: int, **rest: Any) -> list[Any]:
        asked.append(host)
        addresses = left.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


async def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the second answer is what an attacker's name server would say to a second look-up
    asked = resolver(monkeypatch, ["192.0.2.1"], ["127.0.0.1"])
    guard = AddressGuard(HttpConfig())
    with pytest.raises(ToolError):
        await guard.resolve("rebind.example", 80)
    assert asked == ["rebind.example"]


async def test_of_several_addresses_only_the_public_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, ["10.0.0.1", "8.8.8.8", "127.0.0.1"])
    assert await AddressGuard(HttpConfig()).resolve("mixed.example", 80) == ["8.8.8.8"]


async def test_the_connection_goes_to_the_resolved_address_under_the_urls_host_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(simple_app(echo)) as url:
        port = int(url.rsplit(":", 1)[1])
        # a dead address first: the next one is tried
        asked = resolver(monkeypatch, ["127.0.0.2", "127.0.0.1"])
        http = HttpConfig(allow=[f"service.example:{port}"])
        seen = (await call({"method": "GET", "url": f"http://service.example:{port}/x"}, http=http))["json"]
    assert asked == ["service.example"]
    assert seen["headers"]["host"] == f"service.example:{port}"


async def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Any, *args: Any, **rest: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", fail)
    error = await failure({"method": "GET", "url": "http://nowhere.example/"}, http=HttpConfig())
    assert isinstance(error, ApplicationError)
    assert (error.type, error.details[0]["retryable"]) == ("tool.unreachable", True)


async def test_proxies_of_the_environment_do_not_lead_around_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(simple_app(echo)) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("ALL_PROXY", url)
        error = await failure({"method": "GET", "url": "http://127.0.0.1:9/"}, http=HttpConfig())
    assert error.type == "tool.address_refused"
