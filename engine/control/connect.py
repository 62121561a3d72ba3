"""Connects to Temporal by the TEMPORAL_* settings, once or lazily, and says in one voice when it cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from engine.control.payloads import converter_of
from engine.core.contracts.execution import SEARCH_ATTRIBUTES
from engine.core.errors import Unavailable
from engine.settings import Settings, temporal_address
from engine.store.blobs import BlobStore

CONNECT_TIMEOUT_S = 3.0
RPC_TIMEOUT = timedelta(seconds=4)
"""Longest time of one call to Temporal; with the connect it keeps `unreachable` within 5 seconds of a refusal."""

RETRY_PAUSE_S = 1.0
"""How long a failed connect answers for those that ask next, so that reads do not queue up behind a dead server."""

_RETRY = RetryConfig(max_elapsed_time_millis=2_000, max_interval_millis=500)
_FAILING = frozenset({RPCStatusCode.UNKNOWN, RPCStatusCode.INTERNAL, RPCStatusCode.DATA_LOSS})
"""What a server says whose own database fails, above all when its disk is full."""
_UNREACHABLE = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


def unreachable(address: str, reason: str) -> Unavailable:
    """Return the error that says that Temporal does not answer, and how to start one."""
    return Unavailable(
        f"Temporal does not answer at {address}: {reason}",
        code="unreachable",
        hint="start one with `everstep dev`, or set TEMPORAL_ADDRESS",
        retryable=True,
    )


def failing(address: str, reason: str) -> Unavailable:
    """Return the error that says that Temporal answers, but cannot do what it is asked for."""
    return Unavailable(
        f"Temporal at {address} fails: {reason}",
        code="temporal.failing",
        hint="look at its log, and at the space and the health of its database; repeating is safe",
        retryable=True,
    )


def forward_native_logs() -> None:
    """Let the lines of the SDK's native part come by Python's logging; it writes them to standard output otherwise.

    To be called before anything connects; standard output belongs to programs.
    """
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    telemetry = TelemetryConfig(logging=LoggingConfig(filter=levels, forwarding=forwarding))
    Runtime.set_default(Runtime(telemetry=telemetry), error_if_already_set=False)


@contextmanager
def temporal_errors(address: str) -> Iterator[None]:
    """Turn the errors of a dead or silent Temporal into Unavailable; others pass.

    Raises:
        Unavailable: `unreachable`; `temporal.failing` if it answers and cannot do it.
    """
    try:
        yield
    except RPCError as error:
        if error.status in _UNREACHABLE:
            raise unreachable(address, error.message) from error
        if error.status in _FAILING:
            raise failing(address, error.message) from error
        raise
    except TimeoutError as error:
        raise unreachable(address, "no answer in time") from error


def connect_options(settings: Settings, address: str | None = None, holders: BlobStore | None = None) -> dict[str, Any]:
    """Return the arguments of `Client.connect`: TEMPORAL_* variables and profiles, our address, our data converter.

    Args:
        settings: Settings of the process.
        address: The server's host:port, instead of what the variables and profiles say.
        holders: Where references to large payloads are counted; None for a process that writes none.

    Raises:
        InvalidInput: `config.invalid`, see `converter_of`.
    """
    options: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    if address is not None:
        options["target_host"] = address
    options.setdefault("target_host", temporal_address())
    options["data_converter"] = converter_of(settings, holders)
    return options


async def connect(
    settings: Settings, *, address: str | None = None, holders: BlobStore | None = None, **more: Any
) -> Client:
    """Connect to Temporal.

    Args:
        settings: Settings of the process.
        address: The server's host:port, instead of what TEMPORAL_ADDRESS and profiles say.
        holders: Where references to large payloads are counted; None for a process that writes none.
        more: Further arguments of `Client.connect`, e.g. plugins or interceptors.

    Returns:
        A connected client; it reconnects by itself after the server went away and came back.

    Raises:
        Unavailable: `unreachable`, within five seconds.
        InvalidInput: `config.invalid`, see `converter_of`.
    """
    options = {**connect_options(settings, address, holders), **more}
    address = str(options["target_host"])
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await Client.connect(**options)
    except TimeoutError as error:
        raise unreachable(address, f"no answer within {CONNECT_TIMEOUT_S:g} s") from error
    except RuntimeError as error:
        # the SDK's native part tells every failed connect this way
        raise unreachable(address, str(error)) from error


async def ensure_search_attributes(client: Client) -> None:
    """Create those search attributes of ours that the namespace lacks.

    Raises:
        Unavailable: `temporal.search_attributes` if the server does not let us.
        RPCError: If it does not answer.
    """
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), timeout=RPC_TIMEOUT
        )
        missing = [name for name in SEARCH_ATTRIBUTES if name not in listed.custom_attributes]
        if not missing:
            return
        types: dict[str, IndexedValueType.ValueType] = {
            "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
            "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
        }
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace,
                search_attributes={name: types[SEARCH_ATTRIBUTES[name]] for name in missing},
            ),
            timeout=RPC_TIMEOUT,
        )
    except RPCError as error:
        if error.status in _UNREACHABLE:
            raise
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return
        raise Unavailable(
            f"the search attributes of namespace {client.namespace!r} cannot be set up: {error.message}",
            code="temporal.search_attributes",
            hint="create them once with `temporal operator search-attribute create`: "
            + ", ".join(f"{name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()),
        ) from error


class TemporalConnection:
    """A client that is connected when it is first needed, so that a process can start and read while Temporal is down.

    Args:
        settings: Settings of the process.
        client: A client that is connected already (tests).
        address: The server's host:port, instead of what TEMPORAL_ADDRESS and profiles say.
        holders: Where references to large payloads are counted; None for a process that writes none.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client | None = None,
        *,
        address: str | None = None,
        holders: BlobStore | None = None,
    ) -> None:
        self._settings = settings
        self._holders = holders
        self._address = address
        self._client = client
        self._lock = asyncio.Lock()
        self._failed: Unavailable | None = None
        self._failed_at = 0.0

    @property
    def address(self) -> str:
        """The server's address."""
        return str(connect_options(self._settings, self._address)["target_host"])

    async def client(self) -> Client:
        """Return the connected client.

        Raises:
            Unavailable: `unreachable`, or `temporal.search_attributes`.
        """
        return self._client or await self._connect()

    async def _connect(self) -> Client:
        async with self._lock:
            if self._client is not None:
                return self._client
            if self.is_down:
                raise unreachable(self.address, "it did not answer a moment ago") from self._failed
            with self.errors():
                client = await connect(
                    self._settings, address=self._address, holders=self._holders, retry_config=_RETRY
                )
                await ensure_search_attributes(client)
            self._client = client
            return client

    @property
    def is_down(self) -> bool:
        """Whether Temporal did not answer a moment ago, so that a read need not find out again."""
        return self._failed is not None and time.monotonic() - self._failed_at < RETRY_PAUSE_S

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of a dead Temporal into Unavailable, and remember them for `is_down`.

        Raises:
            Unavailable: `unreachable`.
        """
        try:
            with temporal_errors(self.address):
                yield
        except Unavailable as error:
            self._failed, self._failed_at = error, time.monotonic()
            raise

    async def check(self) -> None:
        """Ask the server whether it is well.

        Raises:
            Unavailable: `unreachable`.
        """
        client = await self.client()
        with self.errors():
            healthy = await client.service_client.check_health(timeout=timedelta(seconds=2))
        if not healthy:
            raise unreachable(self.address, "its health check fails")
