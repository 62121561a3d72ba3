"""What the mock server must know of a way to talk to models: where it is spoken, how it asks, how it answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from engine.core.values import Json
from engine.edge.mockllm.replies import Reply
from engine.edge.mockllm.script import MockRule, MockScript


class NotAskedRight(Exception):
    """The body of a call has not the shape of the dialect; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call, in neutral words.

    Attributes:
        model: The model that is asked; empty = the call names none.
        messages: The conversation, OpenAI-shaped.
        stream: Whether the reply is to be streamed.
        rest: What else the body says.
    """

    model: str
    messages: list[Any]
    stream: bool
    rest: dict[str, Any]


class Dialect(Protocol):
    """One way to talk to models.

    Attributes:
        stream_type: Media type of a streamed reply.
    """

    stream_type: str

    def is_chat(self, method: str, path: str) -> bool:
        """Say whether a request is a call of a model in this dialect."""
        ...

    def asked(self, path: str, body: Any) -> Asked:
        """Read a call.

        Raises:
            NotAskedRight: It has not the agreed shape.
        """
        ...

    def whole(self, reply: Reply) -> bytes:
        """Return the body of a reply that is not streamed."""
        ...

    def chunks(self, reply: Reply) -> Iterator[bytes]:
        """Yield the parts of a streamed reply that carry text or tool calls, each whole on its own."""
        ...

    def ending(self, reply: Reply, asked: Asked) -> bytes:
        """Return the end of a streamed reply: finish reason, usage, and what says that it is over."""
        ...

    def broken(self) -> bytes:
        """Return a part of a streamed reply whose JSON is broken."""
        ...

    def refusal(self, rule: MockRule) -> bytes:
        """Return the body of a refusal for which the rule has no body of its own."""
        ...

    def listing(self, method: str, path: str, script: MockScript) -> Json:
        """Return the answer of a route that lists models, or one of them; None = there is no such route.

        Raises:
            KeyError: There is no such model.
        """
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """The answer of a route that is no chat.

    Attributes:
        status: HTTP status.
        body: JSON value; None = the answer is empty.
        lines: JSON values that are streamed, one a line, instead of a body.
    """

    status: int
    body: Json = None
    lines: tuple[Json, ...] = ()


class Routes(Protocol):
    """Routes beside those of a dialect that are asked with a body."""

    def told(self, method: str, path: str, body: Any, script: MockScript) -> Told | None:
        """Return the answer of a route; None = there is no such route.

        Args:
            method: Of the request.
            path: Of the request.
            body: JSON value of its body; None = it has none that can be read.
            script: The rules.
        """
        ...
