"""What every LLM backend adapter offers to the chat activity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.core.contracts.activities import ChatParams, ChatResult
from engine.settings import BackendConfig

Tell = Callable[[str, str, int, str], None]
"""Takes what a model writes, as it comes: kind (content, reasoning, tool_call), characters, number of the tool call and
which member of it they belong to (name, arguments); never waits and never raises."""


def tell_nobody(kind: str, text: str, call: int, member: str) -> None:
    """Take what a model writes for nobody."""
    del kind, text, call, member


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
