"""Outgoing HTTP that all adapters share: sharded connection pools, what an httpx exception means, and Retry-After."""

from __future__ import annotations

import datetime as dt
import email.utils
import importlib
import ssl
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import assert_never

import httpx

try:
    importlib.import_module("sniffio")
except ImportError:
    # httpcore tries to import this optional package about ten times per request; a failed import searches all of
    # sys.path each time (a third of the CPU of a call), while a None here fails at once in the same way
    sys.modules["sniffio"] = None  # type: ignore[assignment]

CONNECTIONS_PER_CLIENT = 4
"""An httpx pool looks at all its connections on each call: with 200 calls at once 20 each cost 2.1 ms, 4 each 0.9."""
MAX_PORT = 65_535
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 4.0
"""Below the five seconds after which common servers drop an idle connection, so that we let go first."""


class NetFault(StrEnum):
    """What went wrong between us and a server, as far as a caller must tell cases apart."""

    NOT_SENT = "not_sent"
    """No connection was made: the server has seen nothing."""
    TIMED_OUT = "timed_out"
    """The server was too slow; it may have done the work."""
    BROKEN = "broken"
    """The connection broke; the server may have done the work."""
    BAD_REPLY = "bad_reply"
    """The answer is not HTTP or cannot be decoded."""
    BAD_REQUEST = "bad_request"
    """Our own request cannot be sent: its address, protocol or headers are wrong."""


_FAULTS: dict[type[Exception], NetFault] = {
    httpx.ConnectError: NetFault.NOT_SENT,
    httpx.ConnectTimeout: NetFault.NOT_SENT,
    httpx.PoolTimeout: NetFault.NOT_SENT,
    httpx.ProxyError: NetFault.NOT_SENT,
    httpx.TimeoutException: NetFault.TIMED_OUT,
    httpx.RemoteProtocolError: NetFault.BROKEN,
    httpx.NetworkError: NetFault.BROKEN,
    httpx.DecodingError: NetFault.BAD_REPLY,
    httpx.TooManyRedirects: NetFault.BAD_REPLY,
    httpx.UnsupportedProtocol: NetFault.BAD_REQUEST,
    httpx.ProtocolError: NetFault.BAD_REQUEST,
    httpx.InvalidURL: NetFault.BAD_REQUEST,
    httpx.CookieConflict: NetFault.BAD_REQUEST,
    httpx.StreamError: NetFault.BROKEN,
    httpx.TransportError: NetFault.BROKEN,
    httpx.HTTPError: NetFault.BROKEN,
    UnicodeError: NetFault.BAD_REQUEST,
}
"""The nearest class in the exception's ancestry decides."""

HTTP_EXCEPTIONS = (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError, UnicodeError)
"""The roots of all exceptions of httpx, which lets through those of a host that is no name, such as `xn--a`."""


def fault_of(error: Exception) -> NetFault:
    """Say what one of `HTTP_EXCEPTIONS` means."""
    return next(_FAULTS[kind] for kind in type(error).__mro__ if kind in _FAULTS)


def describe_fault(error: Exception, *, where: str) -> str:
    """Return a sentence about one of `HTTP_EXCEPTIONS`.

    Args:
        error: The exception.
        where: The server, such as `http://127.0.0.1:8080/v1`.
    """
    fault = fault_of(error)
    reason = str(error) or type(error).__name__
    if "header value" in reason:
        reason = "illegal header value"  # the library's text repeats the value, which may be a key
    match fault:
        case NetFault.NOT_SENT:
            return f"cannot connect to {where}: {reason}"
        case NetFault.TIMED_OUT:
            return f"{where} did not answer in time: {reason}"
        case NetFault.BROKEN:
            return f"the connection to {where} broke: {reason}"
        case NetFault.BAD_REPLY:
            return f"{where} sent something that cannot be read: {reason}"
        case NetFault.BAD_REQUEST:
            return f"the request to {where} cannot be sent: {reason}"
        case _:
            assert_never(fault)


class ShardedPool:
    """Up to `max_connections` connections spread over httpx clients of a few each, made when they are needed."""

    def __init__(self, make: Callable[[httpx.Limits], httpx.AsyncClient], max_connections: int) -> None:
        """Start with no client.

        Args:
            make: Makes one client with the given limits.
            max_connections: Most calls at one time, at least 1, rounded up to full clients; further ones wait.
        """
        self._make = make
        self._max_clients = -(-max_connections // CONNECTIONS_PER_CLIENT)
        self._per_client = -(-max_connections // self._max_clients)
        self._limits = httpx.Limits(
            max_connections=self._per_client,
            max_keepalive_connections=self._per_client,
            keepalive_expiry=KEEPALIVE_S,
        )
        self._clients: list[httpx.AsyncClient] = []
        self._in_flight: list[int] = []

    @property
    def clients(self) -> int:
        """How many clients there are now."""
        return len(self._clients)

    @contextmanager
    def client(self) -> Iterator[httpx.AsyncClient]:
        """Lend a client for one call: the first with a free connection, else a new one, else the least busy."""
        index = self._choose()
        self._in_flight[index] += 1
        try:
            yield self._clients[index]
        finally:
            self._in_flight[index] -= 1

    def _choose(self) -> int:
        # filling the first clients before the later ones keeps few connections warm instead of many cold
        for index, count in enumerate(self._in_flight):
            if count < self._per_client:
                return index
        if len(self._clients) < self._max_clients:
            self._clients.append(self._make(self._limits))
            self._in_flight.append(0)
            return len(self._clients) - 1
        return min(range(len(self._clients)), key=self._in_flight.__getitem__)

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()
        self._clients.clear()
        self._in_flight.clear()


def make_ssl_context() -> ssl.SSLContext:
    """Return the TLS settings that all clients of an adapter share; making them takes some 20 ms each time."""
    return httpx.create_ssl_context()


def header_text(text: str) -> str:
    """Return text that may stand in a header: characters beyond printable ASCII are percent-encoded."""
    return text if text.isascii() and text.isprintable() else urllib.parse.quote(text, safe=" !#$&'()*+,/:;=?@[]~")


def retry_after_s(headers: httpx.Headers, *, now: dt.datetime | None = None) -> float | None:
    """Read Retry-After, which is a number of seconds or an HTTP date.

    Args:
        headers: Of the response.
        now: The present time, for dates; default: the clock's.

    Returns:
        Seconds from now, at least 0; None if the header is absent or unreadable.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=dt.UTC)
    return max(0.0, (date - (now or dt.datetime.now(dt.UTC))).total_seconds())
