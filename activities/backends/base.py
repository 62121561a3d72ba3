"""What every LLM backend adapter offers to the chat activity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import SecretStr

from engine.core.contracts.activities import ChatParams, ChatResult
from engine.settings import BackendConfig

Tell = Callable[[str, str, int, str], None]
"""Takes what a model writes, as it comes: kind (content, reasoning, tool_call), characters, number of the tool call and
which member of it they belong to (name, arguments); never waits and never raises."""

ReadSecret = Callable[[str], Awaitable[SecretStr]]
"""Reads a secret of the operator's tenant by its name; raises `SecretError`."""


def tell_nobody(kind: str, text: str, call: int, member: str) -> None:
    """Take what a model writes for nobody."""
    del kind, text, call, member


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of texts.

    Attributes:
        model: Model that made them.
        vectors: One for each text, in order.
        prompt_tokens: Tokens of all texts; None = the server did not say.
    """

    model: str
    vectors: list[list[float]]
    prompt_tokens: int | None


class Backend(Protocol):
    """One LLM backend.

    Attributes:
        name: Its name in everstep.toml.
        config: Its entry there.
    """

    name: str
    config: BackendConfig

    async def chat(self, params: ChatParams, tell: Tell = tell_nobody) -> ChatResult:
        """Ask for one chat completion; `params.model` is never empty.

        Args:
            params: The call.
            tell: Takes what the model writes, as it comes.

        Raises:
            BackendError: The reply did not come or cannot be used.
        """
        ...

    async def embed(
        self, model: str, texts: Sequence[str], *, settings: Mapping[str, Any] | None = None, key: str = ""
    ) -> Embeddings:
        """Turn texts into vectors; the caller bounds the time.

        Args:
            model: The model; never empty.
            texts: The texts.
            settings: Further members of the request.
            key: Idempotency key.

        Raises:
            BackendError: The vectors did not come, or the provider has none (`backend.no_embeddings`).
        """
        ...

    async def list_models(self) -> list[str]:
        """Return the names of the models that the server says it has.

        Raises:
            BackendError: The server did not answer.
        """
        ...

    async def has_model(self, name: str) -> bool:
        """Ask for one model, since some servers have more than they list.

        Raises:
            BackendError: The server did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
