"""Keeps the calls of a worker within what the operator allows at a backend; a call that must wait holds no slot."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from temporalio import activity

from activities.candidates import Candidate
from activities.effects import Postponed
from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.contracts.lookups import EmbedParams, LookupResult
from engine.core.errors import Unavailable
from engine.settings import BackendConfig
from engine.store.limits import HELD_US, Bounds, LimitStore, Turn

CHARS_PER_TOKEN = 4
REPLY_TOKENS = 500
"""What a reply is thought to need if the settings bound it by nothing; it is set right when it is there."""
IMAGE_TOKENS = 1_000
"""What an image is thought to need, whatever its size."""
SHORT_S = 0.05
"""A turn that is so near is waited for in the slot: to give it back and take it again costs more."""
STORE_AWAY_S = 1.0
HOLD_EVERY_S = HELD_US / 1e6 / 3
WEIGHT = 0.2
"""Of the newest call in how long a call takes."""

_IMAGES = ("image_url", "input_image", "image")

log = structlog.get_logger(__name__)


def _now_us() -> int:
    return time.time_ns() // 1_000


class Limiter:
    """The limits of a worker's backends.

    Args:
        store: Where all workers take their turns.
        now_us: Unix microseconds.
    """

    def __init__(self, store: LimitStore, now_us: Callable[[], int] = _now_us) -> None:
        self.store = store
        self.now_us = now_us
        self._took_us: dict[str, float] = {}
        self._held: set[str] = set()
        self._holding: asyncio.Task[None] | None = None

    def bounds_of(self, name: str, config: BackendConfig) -> Bounds | None:
        """Return what is allowed at a backend; None = anything."""
        limits = config.limits
        if limits is None:
            return None
        return Bounds(
            backend=name,
            calls=limits.calls,
            requests=limits.requests_per_minute,
            tokens=limits.tokens_per_minute,
            took_us=round(self._took_us.get(name, 1e6)),
        )

    def begin(self, call_id: str) -> None:
        """Hold the place of a call from now on."""
        self._held.add(call_id)
        if self._holding is None:
            self._holding = asyncio.create_task(self._hold(), name="backend-places")

    async def end(self, bounds: Bounds, call_id: str, *, sent_us: int, took_us: float, unused_tokens: int) -> None:
        """Give back what a call had; a store that does not answer takes the place back by itself."""
        self._held.discard(call_id)
        known = self._took_us.get(bounds.backend)
        self._took_us[bounds.backend] = took_us if known is None else WEIGHT * took_us + (1 - WEIGHT) * known
        try:
            await self.store.give_back(bounds, call_id, sent_us=sent_us, unused_tokens=unused_tokens)
        except Unavailable as error:
            log.warning("a turn at a backend could not be given back", backend=bounds.backend, error=str(error))

    async def aclose(self) -> None:
        """Hold no place any more."""
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.gather(self._holding, return_exceptions=True)

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(HOLD_EVERY_S)
            try:
                await self.store.hold(self._held, now_us=self.now_us())
            except Unavailable as error:
                log.warning("places at backends could not be held", error=str(error))


@dataclass(frozen=True, slots=True)
class Waited:
    """What a call knows of its earlier tries to get a turn; it travels in the heartbeat of the activity.

    Attributes:
        times: How often it was put off.
        since_us: When it asked first; 0 = it never waited.
        promised: The turn that it was given.
    """

    times: int = 0
    since_us: int = 0
    promised: Turn | None = None

    def note(self) -> dict[str, Any]:
        """Return it as JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, details: Sequence[Any]) -> Waited:
        """Read it back; what is something else counts as nothing."""
        noted = details[0] if details and isinstance(details[0], dict) else {}
        turn = noted.get("promised")
        return cls(
            int(noted.get("times") or 0), int(noted.get("since_us") or 0), Turn(**turn) if turn is not None else None
        )


class CallTurns:
    """The turns of one call.

    Args:
        limiter: The worker's; None = nothing is limited.
        params: The call.
        call_id: Its id, the same whenever it is tried again.
        waited: What it knows of earlier tries.
    """

    def __init__(self, limiter: Limiter | None, params: ChatParams | EmbedParams, call_id: str, waited: Waited) -> None:
        self._limiter = limiter
        self._params = params
        self._call_id = call_id
        self._tokens = self._sent_us = 0
        self.waited = waited

    async def choose(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the best candidate that has a turn now.

        Raises:
            Postponed: None has; the call is to be made again when the first of them has.
        """
        limiter = self._limiter
        if limiter is None:
            return candidates[0]
        limited: list[Bounds] = []
        free: Candidate | None = None
        for item in candidates:
            bounds = limiter.bounds_of(item.backend.name, item.backend.config)
            if bounds is None:
                free = item
                break
            limited.append(bounds)
        if not limited:
            return candidates[0]
        while True:
            turn = await self._take(limiter, limited, may_wait=free is None)
            if turn is None:
                assert free is not None
                return free
            if turn.is_now:
                self._sent_us = turn.at_us
                return next(item for item in candidates if item.backend.name == turn.backend)
            wait_s = (turn.at_us - limiter.now_us()) / 1e6
            now = limiter.now_us()
            self.waited = Waited(self.waited.times, self.waited.since_us or now, turn)
            if wait_s > SHORT_S:
                raise self._postponed(wait_s)
            await asyncio.sleep(max(wait_s, 0.005))

    async def _take(self, limiter: Limiter, limited: Sequence[Bounds], *, may_wait: bool) -> Turn | None:
        self._tokens = self._tokens or tokens_of(self._params)
        try:
            return await limiter.store.take(
                limited,
                self._call_id,
                self._tokens,
                now_us=limiter.now_us(),
                promised=self.waited.promised,
                may_wait=may_wait,
            )
        except Unavailable:
            raise self._postponed(STORE_AWAY_S) from None

    def put_off(self, wait_s: float) -> Postponed:
        """Return what lets the call be made again later, since it has to wait for something else.

        Args:
            wait_s: In how many seconds.
        """
        since_us = self.waited.since_us or time.time_ns() // 1_000
        return Postponed(wait_s, Waited(self.waited.times + 1, since_us, self.waited.promised).note())

    def _postponed(self, wait_s: float) -> Postponed:
        waited = Waited(self.waited.times + 1, self.waited.since_us, self.waited.promised)
        return Postponed(wait_s, waited.note())

    @asynccontextmanager
    async def held(self, item: Candidate) -> AsyncIterator[list[Any]]:
        """Hold the turn of a candidate that `choose` returned; put the result, if there is one, into what is given."""
        limiter, results = self._limiter, list[ChatResult | LookupResult]()
        bounds = None if limiter is None else limiter.bounds_of(item.backend.name, item.backend.config)
        if limiter is None or bounds is None:
            yield results
            return
        began = time.monotonic()
        # a promise is used up, whatever becomes of the call
        self.waited = Waited(self.waited.times, self.waited.since_us)
        if bounds.calls is not None:
            limiter.begin(self._call_id)
        try:
            yield results
        finally:
            usage = results[0].usage if results else None
            unused = self._tokens - usage.total_tokens if usage is not None else 0
            took_us = (time.monotonic() - began) * 1e6
            end = limiter.end(bounds, self._call_id, sent_us=self._sent_us, took_us=took_us, unused_tokens=unused)
            await asyncio.shield(end)

    @property
    def waited_s(self) -> float:
        """How long it has waited for its turn."""
        if self._limiter is None or not self.waited.since_us:
            return 0.0
        return (self._limiter.now_us() - self.waited.since_us) / 1e6


def tokens_of(params: ChatParams | EmbedParams) -> int:
    """Return how many tokens a call will use, about: characters by four, and what the reply may have at most.

    Images count alike, and not by the characters of their data.
    """
    if isinstance(params, EmbedParams):
        return sum(len(text) + len(params.instruction) for text in params.texts) // CHARS_PER_TOKEN
    images = [images_in(message) for message in params.messages]
    messages = [
        {**message, "content": [part for part in message["content"] if not is_image(part)]} if count else message
        for message, count in zip(params.messages, images, strict=True)
    ]
    chars = sum(len(json.dumps(part, ensure_ascii=False)) for part in (messages, params.tools))
    most = next((params.settings.get(name) for name in ("max_tokens", "max_completion_tokens")), None)
    reply = most if isinstance(most, int) and most > 0 else REPLY_TOKENS
    return chars // CHARS_PER_TOKEN + sum(images) * IMAGE_TOKENS + reply


def images_in(message: Mapping[str, Any]) -> int:
    """Return how many images a message has."""
    content = message.get("content")
    return sum(is_image(part) for part in content) if isinstance(content, list) else 0


def is_image(part: Any) -> bool:
    """Whether a part of a message is an image."""
    return isinstance(part, dict) and part.get("type") in _IMAGES


def call_id_of(params: ChatParams | EmbedParams) -> str:
    """Return the id under which the running activity takes its turns; a hash, so that no execution stands there."""
    told = f"{params.context.execution_id}/{activity.info().activity_id}"
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
