"""Julep's SDK as tests speak to it: sync or async in the same words, and every method that was called is known."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

from julep import AsyncJulep, DefaultAsyncHttpxClient, DefaultHttpxClient, Julep
from julep._resource import AsyncAPIResource, SyncAPIResource

from tests.support.patience import PATIENCE_S

Kind = Literal["sync", "async"]
Scenario = Callable[..., Awaitable[None]]
ENDED = ("succeeded", "failed", "cancelled")
RAW = "with_raw_response."


class Sdk:
    """A client, or a resource of it, whose methods are all awaited, whether they are coroutines or not.

    Args:
        client: A `Julep` or an `AsyncJulep`, or a resource of one.
        path: How the resource is reached, with a dot at its end.
        called: Gets the name of each method that is called.
    """

    def __init__(self, client: Any, path: str = "", called: set[str] | None = None) -> None:
        self.client = client
        self.called: set[str] = set() if called is None else called
        self._path = path

    def __getattr__(self, name: str) -> Any:
        """Return a resource to go on from, or a method to await."""
        found, path = getattr(self.client, name), self._path + name
        if callable(found):
            return functools.partial(self._call, path.replace(RAW, ""), found)
        return Sdk(found, f"{path}.", self.called)

    async def _call(self, path: str, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.called.add(path)
        made = method(*given, **named)
        return await made if inspect.isawaitable(made) else made


@contextlib.asynccontextmanager
async def connected(kind: Kind, url: str, key: str) -> AsyncIterator[Sdk]:
    """Have a client that refuses answers which are not exactly as its types say, and repeats nothing by itself."""
    options: dict[str, Any] = {
        "base_url": url,
        "api_key": key,
        "max_retries": 0,
        "timeout": PATIENCE_S,
        "_strict_response_validation": True,
    }
    if kind == "sync":
        with Julep(http_client=DefaultHttpxClient(trust_env=False), **options) as client:
            yield Sdk(client)
    else:
        async with AsyncJulep(http_client=DefaultAsyncHttpxClient(trust_env=False), **options) as client:
            yield Sdk(client)


async def everything(page: Any) -> list[Any]:
    """Return the items of a page and all that follow it, or the events of a stream to its end, as the SDK iterates."""
    if hasattr(page, "__aiter__"):
        return [item async for item in page]
    return list(page)


async def text_of(response: Any) -> str:
    """Return the body of a raw response."""
    made = response.text()
    return str(await made if inspect.isawaitable(made) else made)


async def ended(julep: Sdk, execution_id: str) -> Any:
    """Ask for an execution again and again, as Julep's documentation does, until it has ended."""
    return await until(julep, execution_id, *ENDED)


async def until(julep: Sdk, execution_id: str, *statuses: str) -> Any:
    """Ask for an execution until it has one of some statuses."""

    async def look() -> Any:
        execution = await julep.executions.get(execution_id)
        assert execution.status in statuses or execution.status not in ENDED, execution
        return execution if execution.status in statuses else None

    return await eventually(look)


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    """Look until there is something, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := await look()):
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.05)
    return found


def about(*methods: str) -> Callable[[Scenario], Scenario]:
    """Say which methods of the SDK a test shows the behaviour of; it fails if it did not call them."""

    def mark(test: Scenario) -> Scenario:
        @functools.wraps(test)
        async def run(julep: Sdk, **more: Any) -> None:
            await test(julep=julep, **more)
            assert set(methods) <= julep.called

        run.methods = frozenset(methods)  # type: ignore[attr-defined]
        return run

    return mark


def public_methods(resource: Any, path: str = "") -> set[str]:
    """Return the names of all public methods of a client's resources, such as `agents.docs.search`."""
    found: set[str] = set()
    for name, inner in _members(resource):
        if isinstance(inner, SyncAPIResource | AsyncAPIResource):
            found |= public_methods(inner, f"{path}{name}.")
        elif path and callable(inner):
            found.add(path + name)
    return found


def _members(resource: Any) -> list[tuple[str, Any]]:
    of_every_resource = set(dir(SyncAPIResource))
    names = [name for name in dir(type(resource)) if not name.startswith(("_", "with_"))]
    return [(name, getattr(resource, name)) for name in names if name not in of_every_resource]
