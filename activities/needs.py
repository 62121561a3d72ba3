"""What a chat call asks of whoever answers it: what its step says, and what its messages, tools and schema show."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property

from activities.candidates import Candidate, Fit
from activities.limits import images_in, tokens_of
from engine.core.contracts.activities import ChatParams, Wants
from engine.core.plan.needs import Needs
from engine.settings import Capabilities


class ChatFit(Fit):
    """What one call asks of a candidate.

    Args:
        params: The call, with all its messages.
    """

    def __init__(self, params: ChatParams) -> None:
        self._params = params
        wants = params.wants or Wants()
        self._needs = wants.needs or Needs()
        self._offers_tools = bool(params.tools) and params.tool_choice != "none"
        self._tool_mode = wants.tool_mode
        self.searches = wants.needs is not None or self._reads_images

    @cached_property
    def _reads_images(self) -> bool:
        return self._needs.vision or any(images_in(message) for message in self._params.messages)

    @cached_property
    def _tokens(self) -> int:
        """How long the call is, about."""
        return tokens_of(self._params)

    def lacks(self, item: Candidate) -> str:
        """See `Fit`; what is not known of a model counts as yes, but a price."""
        known, needs = capabilities_at(item), self._needs
        if known.chat is False:
            return "answers no messages"
        if known.tools is False and (needs.tools or (self._offers_tools and self._tool_mode == "native")):
            return "has no tool calls"
        if known.vision is False and self._reads_images:
            return "reads no images"
        if known.json_schema is False and needs.json_schema:
            return "cannot be bound to a JSON Schema"
        if needs.context is not None and known.context is not None and known.context < needs.context:
            return f"has room for {known.context} tokens, not for {needs.context}"
        return self._too_dear(item) or self._forbidden(item)

    def _too_dear(self, item: Candidate) -> str:
        most = self._needs.max_price
        if most is None:
            return ""
        price = item.backend.config.price_of(*names_at(item))
        if price is None:
            return "has no price"
        dearer = max(price.input, price.output)
        # a price of 2.5 in a task is 2.5, not the nearest binary fraction
        return f"costs {dearer:f} dollars for a million tokens" if dearer > Decimal(str(most)) else ""

    def _forbidden(self, item: Candidate) -> str:
        bound = self._params.context.allow
        # the default model is looked at when its name is known
        if self._params.model or not item.model or bound is None or bound.permits("models", item.model):
            return ""
        return "is not allowed by the task"

    def shortage(self, item: Candidate) -> tuple[int, str]:
        """See `Fit`."""
        room = capabilities_at(item).context
        if room is None or self._tokens <= room:
            return 0, ""
        return self._tokens - room, f"has room for {room} tokens, and the call needs about {self._tokens}"

    def second(self, item: Candidate) -> str:
        """See `Fit`: models that need to be told in words what others are bound to."""
        known = capabilities_at(item)
        if known.tools is False and self._offers_tools and self._tool_mode == "auto":
            return "has no tool calls"
        if known.json_schema is False and self._params.output_schema is not None:
            return "cannot be bound to a JSON Schema"
        return ""


def names_at(item: Candidate) -> tuple[str, ...]:
    """Return the names by which a candidate's model may be known; none if the server alone knows its default model."""
    config = item.backend.config
    return tuple(name for name in (item.model or config.default_model, *config.models[:1]) if name)[:1]


def capabilities_at(item: Candidate) -> Capabilities:
    """Return what a candidate's model can do, as far as it is known."""
    return item.backend.config.capabilities_of(*names_at(item))
