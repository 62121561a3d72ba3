"""What every LLM backend adapter offers to the chat activity."""

from __future__ import annotations

from typing import Protocol

from engine.core.contracts.activities import ChatParams, ChatResult
from engine.settings import BackendConfig


class Backend(Protocol):
    """One LLM backend.

    Attributes:
        name: Its name in everstep.toml.
        config: Its entry there.
    """

    name: str
    config: BackendConfig

    async def chat(self, params: ChatParams) -> ChatResult:
        """Ask for one chat completion; `params.model` is never empty.

        Raises:
            BackendError: The reply did not come or cannot be used.
        """
        ...

    async def list_models(self) -> list[str]:
        """Return the names of the models that the server says it has.

        Raises:
            BackendError: The server did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
