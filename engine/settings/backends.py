"""What the operator says of models: backends, prices, limits, groups, routing, budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

MOST_DOLLARS = Decimal(1_000_000)
"""For a million tokens; a larger price is a mistake in writing."""

BackendKind = Literal["openai", "anthropic", "gemini", "ollama"]
"""Which way of talking to models a backend speaks."""
OpenAiApi = Literal["chat", "responses"]
RoutingPolicy = Literal["order", "least_loaded", "cheapest", "fastest", "round_robin"]
BACKEND_URLS: dict[BackendKind, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "ollama": "http://127.0.0.1:11434",
}
"""Where those who invented it speak it, which a backend with a `kind` need not say."""


class Price(BaseModel):
    """What a model costs.

    Attributes:
        input: Dollars for a million tokens of the request.
        output: Dollars for a million tokens of the reply, thoughts included.
        cached_input: The same for tokens of the request that come from the provider's cache; left out = as `input`.
        cache_write: The same for tokens of the request that the provider writes to its cache; left out = as `input`.
    """

    model_config = ConfigDict(extra="forbid")

    input: Decimal = Field(ge=0, le=MOST_DOLLARS)
    output: Decimal = Field(ge=0, le=MOST_DOLLARS)
    cached_input: Decimal | None = Field(default=None, ge=0, le=MOST_DOLLARS)
    cache_write: Decimal | None = Field(default=None, ge=0, le=MOST_DOLLARS)


class BackendLimits(BaseModel):
    """What a backend may be asked by all workers together; what is left out is not bounded.

    Attributes:
        calls: Most calls at one time.
        requests_per_minute: Most calls that begin in a minute.
        tokens_per_minute: Most tokens of the calls that begin in a minute.
    """

    model_config = ConfigDict(extra="forbid")

    calls: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


class Capabilities(BaseModel):
    """What a model can do; None = not known, which counts as yes where nobody asks for it.

    Attributes:
        chat: It answers messages.
        tools: It calls tools.
        vision: It reads images.
        json_schema: Its replies can be bound to a JSON Schema.
        stream: It answers bit by bit.
        embed: It turns texts into vectors.
        context: Most tokens of request and reply together.
    """

    model_config = ConfigDict(extra="forbid")

    chat: bool | None = None
    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    stream: bool | None = None
    embed: bool | None = None
    context: int | None = Field(default=None, ge=1)


class BackendConfig(BaseModel):
    """One LLM backend.

    Attributes:
        kind: What it speaks; `openai` is spoken by most servers.
        api: Which of OpenAI's two ways: `chat` (/chat/completions) or `responses` (/responses); of kind openai only.
        base_url: Its address: of an `openai` one up to and without `/chat/completions`, such as
            `http://127.0.0.1:8080/v1`; without one that of the provider, if `kind` says who it is.
        api_key_env: Environment variable that holds the key; empty = no key is sent.
        api_key_secret: Secret of the operator's tenant that holds the key, instead of a variable.
        models: Model names it serves; empty = any name is passed on.
        pull: Whether those of `models` that it lacks are fetched; only an Ollama server does that.
        default_model: Model for prompts that name none; empty = the first of `models`.
        max_connections: Most calls of a worker at one time.
        limits: What all workers together may ask it; None = anything.
        prices: What its models cost, by name, `*` for all others; without a price the cost of a call is unknown.
        capabilities: What its models can do, by name, `*` for all others.
        warm_first: Whether of calls that begin with the same long text one goes ahead, so that the others find it in
            the provider's cache; None = if `kind` is `anthropic`.
    """

    model_config = ConfigDict(extra="forbid")

    kind: BackendKind = "openai"
    api: OpenAiApi = "chat"
    base_url: str = ""
    api_key_env: str = ""
    api_key_secret: str = ""
    models: list[str] = Field(default_factory=list)
    pull: bool = False
    default_model: str = ""
    max_connections: int = Field(default=200, ge=1)
    limits: BackendLimits | None = None
    prices: dict[str, Price] = Field(default_factory=dict)
    capabilities: dict[str, Capabilities] = Field(default_factory=dict)
    warm_first: bool | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.api_key_env and self.api_key_secret:
            raise ValueError("its key is in a variable (api_key_env) or is a secret (api_key_secret), not both")
        if self.api != "chat" and self.kind != "openai":
            raise ValueError(f"only a backend of kind openai has a choice of api, this one is of kind {self.kind}")
        if self.pull and self.kind != "ollama":
            raise ValueError("only a backend of kind ollama fetches models (pull)")
        return self

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if not self.base_url:
            if "kind" not in self.model_fields_set:
                kinds = ", ".join(BACKEND_URLS)
                raise ValueError(f"it needs base_url, its address, or kind, its provider: {kinds}")
            self.base_url = BACKEND_URLS[self.kind]
        return self

    def price_of(self, *names: str) -> Price | None:
        """Return the price of a model that goes by these names, the first that is listed; None = it is not known."""
        return next((self.prices[name] for name in (*names, "*") if name in self.prices), None)

    def capabilities_of(self, *names: str) -> Capabilities:
        """Return what a model that goes by these names can do, as far as it is known."""
        known = self.capabilities
        return next((known[name] for name in (*names, "*") if name in known), Capabilities())


class Group(BaseModel):
    """Models and backends that a prompt names as one.

    Attributes:
        models: `BACKEND/MODEL`, or `MODEL` at every backend that names it, in order of preference.
        policy: What puts them in order; None = that of `[routing]`.
    """

    model_config = ConfigDict(extra="forbid")

    models: list[str] = Field(min_length=1)
    policy: RoutingPolicy | None = None


class RoutingConfig(BaseModel):
    """How a backend is picked if several can answer.

    Attributes:
        policy: `order` = that of everstep.toml, `least_loaded` = fewest calls under way for its `max_connections`,
            `cheapest` = lowest price, `fastest` = shortest time for a token, `round_robin` = in turns.
        embed: The model that makes vectors where nobody names one; empty = the first one of a backend of which
            `capabilities` say that it embeds, else the bundled one.
    """

    model_config = ConfigDict(extra="forbid")

    policy: RoutingPolicy = "order"
    embed: str = ""


class BudgetConfig(BaseModel):
    """What model calls may use together in a period, and which calls those are.

    Attributes:
        per: The period, by UTC; `execution` = each execution has a budget of its own.
        cost: Most dollars; None = any amount.
        tokens: Most tokens; None = any number.
        tasks: Globs of the tasks whose calls count.
        tenants: Globs of the tenants.
        each: `tenant`, `task`: each of them has a budget of its own instead of one for all.
    """

    model_config = ConfigDict(extra="forbid")

    per: Literal["hour", "day", "month", "execution"] = "day"
    cost: Decimal | None = Field(default=None, gt=0, le=1_000_000_000)
    tokens: int | None = Field(default=None, ge=1)
    tasks: list[str] = Field(default_factory=lambda: ["*"])
    tenants: list[str] = Field(default_factory=lambda: ["*"])
    each: list[Literal["tenant", "task"]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.cost is None and self.tokens is None:
            raise ValueError("it needs cost, in dollars, or tokens, or both")
        return self


BudgetName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
"""What a budget is called where it is shown and in errors."""
