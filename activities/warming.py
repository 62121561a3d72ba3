"""Lets one call go ahead of others that begin with the same long text, so that they find it in the provider's cache."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from activities.backends.base import Tell
from engine.core.contracts.activities import ChatParams
from engine.core.tokens import prompt_tokens
from engine.settings import BackendConfig

LEAST_TOKENS = 1_024
"""Providers keep nothing shorter."""
WARM_S = 240.0
"""How long a beginning is taken to be in the cache since it was last used; providers keep it for five minutes."""
PATIENCE_S = 30.0
"""How long the others wait for the first one at most."""
MOST_KNOWN = 10_000

Begun = Callable[[], None]
"""To be called when the reply begins: then the provider has read what stands before."""


@dataclass(slots=True)
class _Beginning:
    """What this worker knows of a beginning: until when it is warm, and who goes ahead now."""

    warm_until: float = 0.0
    ahead: asyncio.Event | None = None


class Warming:
    """The beginnings of a worker's calls.

    Args:
        clock: Monotonic seconds.
        patience_s: How long a call waits at most for the one ahead.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, patience_s: float = PATIENCE_S) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._known: dict[str, _Beginning] = {}

    @contextlib.asynccontextmanager
    async def turn(self, beginning: str) -> AsyncIterator[Begun]:
        """Wait until a call may go: one goes ahead, the others when its reply has begun, or it has failed.

        Args:
            beginning: What stands for how the call begins; empty = nothing that is worth it.
        """
        if not beginning:
            yield lambda: None
            return
        state = self._of(beginning)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                while state.ahead is not None:
                    await state.ahead.wait()
        is_first = state.ahead is None and state.warm_until <= self._clock()
        if is_first:
            state.ahead = asyncio.Event()

        def begun() -> None:
            state.warm_until = self._clock() + WARM_S
            release()

        def release() -> None:
            if is_first and state.ahead is mine and mine is not None:
                state.ahead = None
                mine.set()

        mine = state.ahead if is_first else None
        try:
            yield begun
        finally:
            release()

    def _of(self, beginning: str) -> _Beginning:
        if beginning not in self._known and len(self._known) >= MOST_KNOWN:
            now = self._clock()
            self._known = {key: one for key, one in self._known.items() if one.ahead or one.warm_until > now}
        return self._known.setdefault(beginning, _Beginning())


def beginning_of(params: ChatParams, configs: Iterable[BackendConfig]) -> str:
    """Return what stands for how a call begins; empty = that is too short, or none of the backends keeps it.

    That is its tools and its system messages, and what its author marked to be cached.

    Args:
        params: The call.
        configs: Of the backends that may answer.
    """
    if not any(is_warmed(config) for config in configs) or _is_off(params.settings):
        return ""
    parts: list[Any] = [params.tools, *_stable(params.messages)]
    if prompt_tokens(parts)[0] < LEAST_TOKENS:
        return ""
    return hashlib.sha256(json.dumps([params.model, parts], sort_keys=True).encode()).hexdigest()


def noticed(tell: Tell, begun: Begun) -> Tell:
    """Return what takes what a model writes, and notices that it has begun."""

    def take(kind: str, text: str, call: int, member: str) -> None:
        begun()
        tell(kind, text, call, member)

    return take


def is_warmed(config: BackendConfig) -> bool:
    """Whether a call goes ahead at a backend."""
    return config.kind == "anthropic" if config.warm_first is None else config.warm_first


def _is_off(settings: dict[str, Any]) -> bool:
    return "cache_control" in settings and settings["cache_control"] is None


def _stable(messages: list[dict[str, Any]]) -> list[Any]:
    """Return the first messages up to the last one that is marked, without marks all system messages at the start."""
    marked = [number for number, message in enumerate(messages) if _marks(message)]
    if not marked:
        count = next((at for at, item in enumerate(messages) if item.get("role") not in ("system", "developer")), None)
        return messages[:count]
    last = messages[marked[-1]]
    return [*messages[: marked[-1]], last["content"][: _marks(last)[-1] + 1]]


def _marks(message: dict[str, Any]) -> list[int]:
    content = message.get("content")
    if not isinstance(content, list):
        return []
    return [number for number, part in enumerate(content) if isinstance(part, dict) and part.get("cache_control")]
