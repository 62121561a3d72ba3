"""Answers a call with what was kept from an equal one, and keeps what comes back, if its step says so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import structlog

from engine.core.contracts.activities import CallContext, ChatParams, ChatResult, Keep, ToolParams, ToolResult, Usage
from engine.core.errors import Unavailable
from engine.core.kinds import ToolEffect
from engine.core.run.calls import parse_reply
from engine.core.schemas import value_problems
from engine.core.values import Json
from engine.store.kept import KeptStore

SWEEP_EVERY_S = 60.0
_NOT_ASKED = ("context", "timeout_s", "conversation", "limits", "keep")
"""Members of a call that say nothing of what is asked."""
_OF_A_REPLY = ("id", "model", "backend", "created", "message", "finish_reason")

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Call(Protocol):
    """A call whose outcome may be a kept one."""

    @property
    def context(self) -> CallContext:
        """Who calls."""

    @property
    def keep(self) -> Keep | None:
        """Whether it may."""


class Kept:
    """What a worker's calls keep for each other.

    Args:
        store: Where all workers keep it; None = nothing is kept.
        now_us: Unix microseconds.
    """

    def __init__(self, store: KeptStore | None, now_us: Callable[[], int] = lambda: time.time_ns() // 1_000) -> None:
        self._store = store
        self._now_us = now_us
        self._under_way: dict[str, tuple[asyncio.Lock, int]] = {}
        self._sweep_at = 0.0

    async def reply(
        self, params: ChatParams, ways: Callable[[], Json], make: Callable[[], Awaitable[ChatResult]]
    ) -> ChatResult:
        """Return a model's reply: a kept one, or what `make` returns.

        Args:
            params: The call.
            ways: Returns who may answer it, since another model answers otherwise.
            make: Makes the call.
        """
        if params.conversation is not None:
            return await make()
        if params.keep is None:
            return await make()
        asked = {name: value for name, value in dataclasses.asdict(params).items() if name not in _NOT_ASKED}
        equal = {"ways": ways(), **asked}
        return await self._once(params, equal, make, lambda result: _reply_body(params, result), _read_reply)

    async def output(self, params: ToolParams, make: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """Return a tool's output: a kept one, or what `make` returns.

        Args:
            params: The call.
            make: Makes the call.
        """
        if params.keep is None or params.tool.effect not in (ToolEffect.NONE, ToolEffect.READ):
            return await make()
        equal = {"tool": dataclasses.asdict(params.tool), "arguments": params.arguments, "secrets": params.secrets}
        return await self._once(
            params,
            equal,
            make,
            lambda result: {"output": result.output},
            lambda body: ToolResult(output=body["output"], cached=True),
        )

    async def _once(
        self,
        call: Call,
        equal: Mapping[str, Json],
        make: Callable[[], Awaitable[T]],
        body_of: Callable[[T], dict[str, Json] | None],
        read: Callable[[Any], T],
    ) -> T:
        keep = call.keep
        if self._store is None or keep is None:
            return await make()
        key = _hash(call.context, keep, equal)
        # of equal calls of this worker one is made, and the others find what it kept
        async with self._alone(key):
            body = None if keep.is_fresh else await self._find(self._store, call.context.tenant, key)
            if body is not None:
                return read(body)
            result = await make()
            body = body_of(result)
            if body is not None:
                await self._keep(self._store, call.context, keep, key, body)
            return result

    async def _find(self, store: KeptStore, tenant: str, key: str) -> Any:
        try:
            return await store.find(tenant, key, now_us=self._now_us())
        except Unavailable as error:
            log.warning("what was kept could not be read; the call is made", error=str(error))
            return None

    async def _keep(self, store: KeptStore, context: CallContext, keep: Keep, key: str, body: Json) -> None:
        now_us = self._now_us()
        try:
            await store.keep(
                context.tenant, key, body, execution_id=context.execution_id, ttl_s=keep.ttl_s, now_us=now_us
            )
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_EVERY_S
                await store.sweep(now_us=now_us)
        except Unavailable as error:
            log.warning("an outcome could not be kept", error=str(error))

    @contextlib.asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        lock, users = self._under_way.get(key) or (asyncio.Lock(), 0)
        self._under_way[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._under_way[key]
            if users == 1:
                del self._under_way[key]
            else:
                self._under_way[key] = (lock, users - 1)


def _hash(context: CallContext, keep: Keep, equal: Mapping[str, Json]) -> str:
    """Return what stands for a call and all that are equal; what an execution may reach belongs to it."""
    allow = None if context.allow is None else dataclasses.asdict(context.allow)
    whole = [context.tenant, allow, keep.key, equal]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _reply_body(params: ChatParams, result: ChatResult) -> dict[str, Json] | None:
    """Return what is kept of a reply; None = it is cut off, calls tools, or is not what was asked for."""
    text = result.message.get("content")
    if result.finish_reason != "stop" or result.message.get("tool_calls") or not text:
        return None
    if params.output_schema is not None:
        parsed, problem = parse_reply(text)
        if problem or value_problems(parsed, params.output_schema):
            return None
    return {name: getattr(result, name) for name in _OF_A_REPLY}


def _read_reply(body: Any) -> ChatResult:
    return ChatResult(**body, usage=Usage(), cost="0", cached=True)
