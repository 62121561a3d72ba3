"""What a call of a model needs of whoever answers it, beside its name. Workflow-safe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

ToolMode = Literal["auto", "native", "json"]
"""How a model is offered tools: `native` = by the backend's own means, `json` = in words, answered with JSON, `auto` =
in words only where the model is known to have no tool calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a model must be able to do, and may cost at most; what nobody knows of a model counts as yes, but a price.

    Attributes:
        tools: It calls tools.
        vision: It reads images.
        json_schema: Its replies can be bound to a JSON Schema.
        context: Tokens that request and reply together may have at least; None = not looked at.
        max_price: Most dollars for a million tokens, of the request and of the reply alike; None = any.
    """

    tools: bool = False
    vision: bool = False
    json_schema: bool = False
    context: int | None = None
    max_price: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is needed, as a task has it."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}


NO_NEEDS = Needs()
