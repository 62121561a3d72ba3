"""An answer as a stream: what the model writes as it writes it, then what is left, and how it ended."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from engine.broker.messages import Told
from engine.broker.rooms import PieceReader, TokenRooms
from engine.broker.running import Piece
from engine.control.following import KEEP_ALIVE_S
from engine.control.sessions.turns import TurnService
from engine.core.errors import Conflict, EngineError
from engine.core.run.times import iso_time
from engine.edge.http.sse import EventStream, StreamBroken, sse_text
from engine.store.chat_turns import TurnFacts

FIRST_S: Final = 10.0
"""How long an answer may take to begin, or to fail, before the stream begins without it: then it has no status more."""

_TURN: Final = re.compile(r"\.turn\[(\d+)\]\.")
"""Which reply of an agent a call is; a turn that calls no tools has one reply, and no such path."""


class TurnFailed(Exception):
    """There is no answer.

    Args:
        turn: The turn, as it ended.
    """

    def __init__(self, turn: TurnFacts) -> None:
        super().__init__(turn.id)
        self.turn = turn


class Telling:
    """What was told of an answer, so that what is told next goes on with it."""

    def __init__(self) -> None:
        self._told = ""
        self._path = ""
        self._turn = -1
        self._is_whole = True
        self._before = ""
        self._run = (0, 0)
        self._text = ""
        self._end = 0
        self._has_gap = False

    def live(self, told: Told, piece: Piece) -> str:
        """Return what characters of a call add to what was told.

        Raises:
            Conflict: `chat.told_otherwise` if they do not go on with it.
        """
        if told.path != self._path:
            self._go_to(told.path)
        if (told.attempt, told.delivery) != self._run:
            self._run, self._text, self._end, self._has_gap = (told.attempt, told.delivery), "", 0, False
        if piece.index != self._end:
            # something was lost; what is missing comes with the whole answer
            self._has_gap = True
            return ""
        self._end = piece.end
        if piece.kind != "content" or not self._is_whole:
            return ""
        self._text += piece.text
        return self._more(self._before + self._text, is_whole=False)

    def _go_to(self, path: str) -> None:
        """Begin another call: nothing of it is told if something before it was not, as to a reader that came late."""
        found = _TURN.search(path)
        turn = int(found[1]) if found else 0
        self._is_whole = self._is_whole and not self._has_gap and turn == self._turn + 1
        self._path, self._turn, self._before, self._run = path, turn, self._told, (0, 0)

    def rest(self, whole: str) -> str:
        """Return what of the whole answer was not told yet.

        Raises:
            Conflict: `chat.told_otherwise` if it does not go on with that.
        """
        return self._more(whole, is_whole=True)

    def _more(self, text: str, *, is_whole: bool) -> str:
        if text.startswith(self._told):
            more, self._told = text[len(self._told) :], text
            return more
        if not is_whole and self._told.startswith(text):
            # asked again, the model is still saying what it had said before
            return ""
        raise Conflict(
            "the model had to be asked again, and answers otherwise than what was told already",
            code="chat.told_otherwise",
            hint="read the answer in the history of the session, or repeat the request with its Idempotency-Key",
        )


class ChatStream:
    """The stream of one turn. The turn goes on whoever reads, and one that comes late gets all of the answer.

    Args:
        turns: Brings the turn to its end.
        rooms: Where the texts of model calls arrive.
        turn: The turn.
        refusal: Makes the answer that refuses a failed turn.
    """

    def __init__(
        self, turns: TurnService, rooms: TokenRooms, turn: TurnFacts, refusal: Callable[[TurnFacts], JSONResponse]
    ) -> None:
        self._turns = turns
        self._rooms = rooms
        self._turn = turn
        self._refusal = refusal
        self._telling = Telling()

    async def response(self, *, stall_s: float) -> Response:
        """Return the stream; if the turn fails before anything was told, its refusal.

        Args:
            stall_s: Seconds after which a reader that takes nothing is cut.

        Raises:
            EngineError: As `TurnService.finished`, before anything was told.
        """
        chunks = self._chunks()
        first = asyncio.ensure_future(anext(chunks))
        await asyncio.wait({first}, timeout=FIRST_S)
        if first.done():
            try:
                first.result()
            except TurnFailed as failed:
                return self._refusal(failed.turn)
        return EventStream(self._texts(first, chunks), stall_s=stall_s, status_code=201, again=False)

    async def _texts(
        self, first: asyncio.Future[dict[str, Any] | None], chunks: AsyncGenerator[dict[str, Any] | None]
    ) -> AsyncGenerator[bytes]:
        """Yield the texts of chunks; what goes wrong on the way is told, and then the stream breaks off."""
        try:
            yield _text(await first)
            async for chunk in chunks:
                yield _text(chunk)
        except TurnFailed as failed:
            yield _text(self._trouble(json.loads(bytes(self._refusal(failed.turn).body))["error"]))
            raise StreamBroken from failed
        except EngineError as error:
            told = {"message": error.message, "code": error.code, "type": type(error).__name__, "fix": error.hint}
            yield _text(self._trouble(told))
            raise StreamBroken from error
        finally:
            first.cancel()
            await chunks.aclose()

    async def _chunks(self) -> AsyncGenerator[dict[str, Any] | None]:
        """Yield what is told of the answer, and None when nothing happens.

        Raises:
            TurnFailed: There is no answer.
            Conflict: `chat.told_otherwise`.
            EngineError: As `TurnService.finished`.
        """
        with self._rooms.joined(self._turn.tenant, self._turn.id) as room:
            reader = PieceReader(room)
            ending = asyncio.ensure_future(self._turns.finished(self._turn))
            try:
                while not ending.done():
                    for told, piece in reader.take():
                        if text := self._telling.live(told, piece):
                            yield self._chunk({"role": "assistant", "content": text})
                    news: set[asyncio.Future[Any]] = {ending, reader.news}
                    happened, _ = await asyncio.wait(news, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                    if not happened:
                        yield None
                ended = ending.result()
            finally:
                # the turn itself goes on
                ending.cancel()
        if ended.answer is None:
            raise TurnFailed(ended)
        yield self._last(ended.answer)

    def _last(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the last chunk: what is left of the answer, how it ended, and what stands beside it."""
        choice, message = answer["choices"][0], answer["choices"][0]["message"]
        rest = self._telling.rest(answer["text"])
        delta = {"role": "assistant", "name": message["name"], "content": rest}
        if "tool_calls" in message:
            delta["tool_calls"] = message["tool_calls"]
        more = {name: value for name, value in choice.items() if name not in ("message", "index")}
        beside = {name: answer[name] for name in ("docs", "jobs", "usage")}
        return {**self._chunk(delta, **more), **beside}

    def _chunk(self, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
        return {"id": self._turn.id, "created_at": iso_time(self._turn.created_us), "choices": [choice]}

    def _trouble(self, error: dict[str, Any]) -> dict[str, Any]:
        """Return the chunk that tells what went wrong; an empty one for readers that look at nothing but the text."""
        return {**self._chunk({"role": "assistant", "content": ""}), "error": error}


def _text(chunk: dict[str, Any] | None) -> bytes:
    return b"" if chunk is None else sse_text(chunk)
