"""Puts the messages of a conversation back together that a call leaves out, and keeps what the call adds to them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import structlog

from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.contracts.conversations import CONVERSATION_MISSING, chain_all, kept_reply
from engine.core.errors import BackendError, Unavailable
from engine.store.conversations import ConversationStore, Said

log = structlog.get_logger(__name__)


class Conversations:
    """The conversations that a worker's calls go on with.

    Args:
        store: Where all workers keep them; None = nowhere, so that each call must carry everything.
        now_us: Unix microseconds.
    """

    def __init__(
        self, store: ConversationStore | None, now_us: Callable[[], int] = lambda: time.time_ns() // 1_000
    ) -> None:
        self._store = store
        self._now_us = now_us

    async def whole(self, params: ChatParams) -> ChatParams:
        """Return a call with all messages of its conversation.

        Raises:
            BackendError: `conversation.missing` if those that it leaves out are not kept as it knows them, or cannot be
                read now: the execution, which has them all, sends everything.
        """
        said = params.conversation
        if said is None or not said.known:
            return params
        kept = None
        if self._store is not None:
            context = params.context
            try:
                kept = await self._store.read(context.tenant, context.execution_id, said.id, hash=said.hash)
            except Unavailable as error:
                log.warning("a conversation could not be read; it is sent whole", error=str(error))
        if kept is None or len(kept) != said.known:
            raise BackendError(
                f"the first {said.known} messages of the conversation are not kept here",
                code=CONVERSATION_MISSING,
                hint="the call is made again with all of them",
            )
        return dataclasses.replace(params, messages=[*kept, *params.messages])

    async def keep(self, params: ChatParams, result: ChatResult) -> None:
        """Keep what a call added; if it cannot be kept now, the next call is made with everything.

        Args:
            params: The call as it came, with what was new in it.
            result: Its reply.
        """
        said = params.conversation
        if said is None or self._store is None:
            return
        added = [*params.messages, kept_reply(result.message, said.known + len(params.messages))]
        row = Said(
            tenant=params.context.tenant,
            execution_id=params.context.execution_id,
            id=said.id,
            before=said.hash,
            hash=chain_all(said.hash, added),
            number=said.known + len(added),
            messages=added,
        )
        try:
            await self._store.keep(row, now_us=self._now_us())
        except Unavailable as error:
            log.warning("what a model said could not be kept; it is sent again", error=str(error))
