"""Settings of a process: environment variables (EVERSTEP_…, TEMPORAL_…, OPENAI_…) and the operator's everstep.toml."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.core.contracts.execution import TASK_QUEUE
from engine.core.contracts.pools import ALL_POOLS, POOL_HINT, is_pool
from engine.core.diagnostics import did_you_mean
from engine.core.errors import ExpressionSyntaxError, InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.lang.expression import compile_expression

DEFAULT_API_PORT = 8700
DEFAULT_TEMPORAL_ADDRESS = "127.0.0.1:7233"
PROJECT_FILE = "everstep.toml"
BUNDLED_MODEL = "smollm2"
BUNDLED_CONTEXT = 4096
"""Tokens that it has room for."""
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

OidcAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures made with a private key; a shared secret would let every reader of tokens make them."""


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


class IntegrationConfig(BaseModel):
    """A shipped tool that the operator has switched on; which settings it needs, its provider says.

    Attributes:
        provider: What it speaks to; empty = what it is called.
        base_url: Address of the service; empty = that of the public one.
        api_key_env: Environment variable of the worker that holds the key.
        host: Mail server.
        port: Its port; None = the usual one for `tls`.
        tls: `starttls`, `implicit` or `none`.
        user: Name at the mail server; empty = no login.
        password_env: Environment variable of the worker that holds the password.
        sender: The only address that mail is sent from; empty = any.
        timeout_s: Longest time of one call in seconds.
        max_chars: Most characters of text in a result.
    """

    model_config = ConfigDict(extra="forbid")

    provider: str = ""
    base_url: str = ""
    api_key_env: str = ""
    host: str = ""
    port: int | None = Field(default=None, ge=1, le=65_535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password_env: str = ""
    sender: str = ""
    timeout_s: float = Field(default=30.0, gt=0, le=3_600)
    max_chars: int = Field(default=20_000, ge=200, le=1_000_000)


_VARIABLE = r"^([A-Za-z_][A-Za-z0-9_]*)?$"
"""A variable's name; who writes the key itself is told before anything could show it."""


class CredentialConfig(BaseModel):
    """How a worker says who it is to a service: one of four ways, all by environment variables of the worker.

    Attributes:
        bearer_env: Variable that holds a bearer token.
        basic_user_env: Variable that holds the name of a basic login.
        basic_password_env: Variable that holds its password.
        header: Header that carries the key.
        query: Query parameter that carries it.
        cookie: Cookie that carries it.
        env: Variable that holds the key.
    """

    model_config = ConfigDict(extra="forbid")

    bearer_env: str = Field(default="", pattern=_VARIABLE)
    basic_user_env: str = Field(default="", pattern=_VARIABLE)
    basic_password_env: str = Field(default="", pattern=_VARIABLE)
    header: str = Field(default="", pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")
    query: str = ""
    cookie: str = Field(default="", pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")
    env: str = Field(default="", pattern=_VARIABLE)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        places = [name for name in (self.header, self.query, self.cookie) if name]
        basic = (self.basic_user_env, self.basic_password_env)
        ways = bool(self.bearer_env) + any(basic) + len(places)
        if ways != 1 or any(basic) != all(basic) or bool(self.env) != bool(places):
            raise ValueError(
                "write one of {bearer_env}, {basic_user_env, basic_password_env}, {header, env}, {query, env},"
                " {cookie, env}; each …env is the name of an environment variable"
            )
        return self

    @property
    def goes_to(self) -> tuple[str, str]:
        """Place and name of what carries it: `header`, `query` or `cookie`."""
        if self.query:
            return "query", self.query
        return ("cookie", self.cookie) if self.cookie else ("header", self.header or "Authorization")


class OpenApiConfig(BaseModel):
    """A service whose operations are tools, named NAME_operationId.

    Attributes:
        document: Its OpenAPI document, 3.0 or 3.1, JSON or YAML: a file relative to everstep.toml, or an address.
        base_url: Where the service is; empty = where the document says.
        operations: Globs of the operationIds that are offered, those with `!` in front are not.
        auth: How the worker says who it is, one way or a list of several; never seen by tasks and models.
        effects: What operations do to the world, by glob; else reading methods read and the others write.
        idempotent: Globs of operations that may be repeated, with `!` in front not; else PUT and DELETE may.
        timeout_s: Longest time of one call in seconds.
        refresh_s: Seconds after which a running process looks at the document again.
    """

    model_config = ConfigDict(extra="forbid")

    document: str = Field(min_length=1)
    base_url: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    operations: list[str] = Field(default_factory=list)
    auth: list[CredentialConfig] = Field(default_factory=list)
    effects: dict[str, ToolEffect] = Field(default_factory=dict)
    idempotent: list[str] = Field(default_factory=list)
    timeout_s: float = Field(default=60.0, gt=0, le=3_600)
    refresh_s: float = Field(default=300.0, ge=1)

    @field_validator("auth", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        return [given] if isinstance(given, dict) else given

    @property
    def is_remote(self) -> bool:
        """Whether the document is fetched."""
        return self.document.lower().startswith(("http://", "https://"))


class McpConfig(BaseModel):
    """An MCP server whose tools are tools, named NAME_tool: a program that is started, or an address.

    Attributes:
        command: The program, looked up beside everstep.toml if it holds a slash, else where programs are.
        args: Its arguments.
        env: Its variables beside a few usual ones (PATH, HOME, …): texts, or `env:NAME` for a variable of the process
            that starts it.
        cwd: The folder in which it runs, relative to that of everstep.toml.
        url: Address of a server that speaks streamable HTTP.
        auth: How the worker says who it is to it, one way or a list of several; never seen by tasks and models.
        headers: Further headers, none of which is secret.
        tools: Globs of the tools that are offered, those with `!` in front are not.
        effects: What tools do to the world, by glob; else those that say they only read do, and the others write.
        idempotent: Globs of tools that may be repeated, with `!` in front not; else those that say so may.
        timeout_s: Longest time of one call in seconds.
        idle_s: Seconds without a call after which a worker ends its session.
        refresh_s: Seconds after which a running process looks at the definitions again.
    """

    model_config = ConfigDict(extra="forbid")

    command: str = ""
    args: list[str] = Field(default_factory=list)
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = Field(default_factory=dict)
    cwd: str = ""
    url: str = Field(default="", pattern=r"^(https?://[^\s#@]+)?$")
    auth: list[CredentialConfig] = Field(default_factory=list)
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")], str] = Field(default_factory=dict)
    tools: list[str] = Field(default_factory=list)
    effects: dict[str, ToolEffect] = Field(default_factory=dict)
    idempotent: list[str] = Field(default_factory=list)
    timeout_s: float = Field(default=60.0, gt=0, le=3_600)
    idle_s: float = Field(default=300.0, gt=0)
    refresh_s: float = Field(default=300.0, ge=1)

    @field_validator("auth", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        return [given] if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("it needs command, a program that is started, or url, an address; and not both")
        others = {"auth", "headers"} if self.command else {"args", "env", "cwd"}
        if misplaced := sorted(others & self.model_fields_set):
            raise ValueError(f"{', '.join(misplaced)} means nothing beside {'command' if self.command else 'url'}")
        for name, value in self.env.items():
            if value.startswith("env:") and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
                raise ValueError(f"env.{name}: write env: and the name of an environment variable")
        return self


ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,31}$")]
"""What the names of a service's tools begin with."""


class AcpConfig(BaseModel):
    """A remote agent that speaks the Agent Connect Protocol and is called as a tool of its name.

    Attributes:
        url: Address of its server, up to and without `/runs`.
        agent_id: The agent there; empty = the one that the server takes by itself.
        auth: How the worker says who it is, one way or a list of several; never seen by tasks and models.
        config: Its configuration, told with each run.
        description: For models and people; empty = what its descriptor says.
        effect: What it does to the world.
        idempotent: Whether a run may be created again with the same key.
        timeout_s: Longest time of one call in seconds.
    """

    model_config = ConfigDict(extra="forbid")

    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    agent_id: str = ""
    auth: list[CredentialConfig] = Field(default_factory=list)
    config: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    effect: ToolEffect = ToolEffect.WRITE
    idempotent: bool = False
    timeout_s: float = Field(default=600.0, gt=0, le=86_400)

    @field_validator("auth", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        return [given] if isinstance(given, dict) else given


def _pool_name(name: str) -> str:
    if not is_pool(name):
        raise ValueError(f"a pool cannot be called '{name}': {POOL_HINT}")
    return name


class ApproveConfig(BaseModel):
    """Which calls of a tool wait for a person, whatever a task says.

    Attributes:
        condition: Condition on the arguments (`_`), in the file `if`; empty = all calls.
        deadline_s: Seconds after which the call is denied; None = it waits as long as it takes.
    """

    model_config = ConfigDict(extra="forbid")

    condition: str = Field(default="", alias="if")
    deadline_s: float | None = Field(default=None, gt=0, le=10 * 365 * 86_400)

    @field_validator("condition", mode="after")
    @classmethod
    def _is_an_expression(cls, given: str) -> str:
        source = given.strip().removeprefix("$ ").strip()
        if source:
            try:
                problems = list(compile_expression(source).problems({"_"}))
            except ExpressionSyntaxError as error:
                raise ValueError(f"'{given}' is no expression: {error.message}") from None
            if problems:
                raise ValueError(f"'{given}': {problems[0].message}; `_` is the object of the arguments")
        return source


class ToolsConfig(BaseModel):
    """The operator's tools.

    Attributes:
        modules: Where those in Python are: files or importable modules, relative to everstep.toml.
        integrations: Those shipped with the engine, by the name under which tasks call them.
        openapi: Services whose operations are tools, by name.
        mcp: MCP servers whose tools are tools, by name.
        tenants: Who may use which tools: tenants by globs of names. A tool that several globs name is for the tenants
            of all of them, one that none names is for everybody.
        acp: Remote agents that are tools, by the name under which tasks call them.
        max_result_chars: Most characters of a result, by globs of names, of which the first that fits counts. A text
            is cut, any other result that is longer is an error.
        system: Globs of the operations that tasks may use as system tools; without it those that read or start.
        pools: Pools of workers that make the calls of tools, by globs of names; the first that fits counts.
        approve: Whose calls wait for a person, by globs of names: all (`true`), or those for which `if` holds.
    """

    model_config = ConfigDict(extra="forbid")

    modules: list[str] = Field(default_factory=list)
    integrations: dict[str, IntegrationConfig] = Field(default_factory=dict)
    openapi: dict[ServiceName, OpenApiConfig] = Field(default_factory=dict)
    mcp: dict[ServiceName, McpConfig] = Field(default_factory=dict)
    tenants: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    acp: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")], AcpConfig] = Field(default_factory=dict)
    max_result_chars: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    system: list[str] = Field(default_factory=lambda: ["*.list", "*.get", "*.search", "execution.create"])
    pools: dict[str, Annotated[str, AfterValidator(_pool_name)]] = Field(default_factory=dict)
    approve: dict[str, Literal[True] | ApproveConfig] = Field(default_factory=dict)

    def permits(self, tool: str, tenant: str) -> bool:
        """Say whether a tenant may use a tool of that name."""
        found = [names for glob, names in self.tenants.items() if fnmatch.fnmatchcase(tool, glob)]
        return not found or any(tenant in names for names in found)


class HttpConfig(BaseModel):
    """Which private addresses HTTP tools, or webhooks, may reach: `host:port`, `host:*`; all others are refused."""

    model_config = ConfigDict(extra="forbid")

    allow: list[str] = Field(default_factory=list)


class Project(BaseModel):
    """The operator's everstep.toml.

    Attributes:
        folder: Folder of the file; relative names in it start there.
        tools: Tools that tasks may name.
        http: Rules for outgoing HTTP.
        webhooks: Private addresses at which webhooks may be told.
        backends: LLM backends by name; the first one is the default.
        routing: How one is picked if several have a model.
        groups: Names for several models.
        budgets: What model calls may use in a period, by name.
    """

    model_config = ConfigDict(extra="forbid")

    folder: Path = Path()
    tools: ToolsConfig = ToolsConfig()
    http: HttpConfig = HttpConfig()
    webhooks: HttpConfig = HttpConfig()
    backends: dict[str, BackendConfig] = Field(default_factory=dict)
    routing: RoutingConfig = RoutingConfig()
    groups: dict[str, Group] = Field(default_factory=dict)
    budgets: dict[BudgetName, BudgetConfig] = Field(default_factory=dict)


class Settings(BaseSettings):
    """Settings of one process; every field can be set by EVERSTEP_<NAME>.

    Attributes:
        data_dir: Folder of the embedded server's and the store's files.
        database_url: SQLAlchemy URL of the store; empty = SQLite in `data_dir`.
        host: Address the API binds to.
        port: Port of the API.
        api_key: Key that callers must send; required when `host` is not loopback.
        auth: `auto` = credentials are asked for unless the API is bound to loopback and has neither `api_key` nor
            `oidc_issuer`; `required` = always.
        oidc_issuer: Identity provider whose bearer tokens are taken; empty = none.
        oidc_audience: What tokens must be made for.
        oidc_jwks_url: Where its public keys are; empty = where its discovery document says.
        oidc_algorithms: Algorithms of signatures that are taken.
        oidc_tenant_claim: Claim that names the tenant.
        oidc_scope_claim: Claim that holds the scopes.
        oidc_actor_claim: Claim that names who it is; empty = `email`, else `sub`.
        task_queue: Temporal task queue of the workers.
        pool: Pool of which this worker only makes the calls, `*` = its own and those of all pools that its tools name.
        deployment: Name of the worker deployment that Temporal knows this worker by; empty = workers have no versions.
        build_id: Version of this worker in it; empty = the engine's version.
        versioning: `auto_upgrade` = a running execution goes on with whatever version is current, `pinned` = with the
            version that began it.
        project_file: The operator's everstep.toml; a missing file means an empty project.
        log_level: debug, info, warning or error.
        log_json: Log lines as JSON instead of text.
        trace_content: Whether spans carry messages, arguments and outputs.
        metrics_host: Address at which workers and repair show their metrics.
        metrics_port: Port for it; None = they show none (the API has its own `/metrics`).
        webhook_retry_s: Seconds after which a message that a webhook did not take is sent again; each pause is three
            times as long as the one before, up to an hour, and after a day it is given up.
        stream_stall_s: Seconds after which the connection of a stream's reader that takes nothing is cut.
        signing_key: What links to waits are signed with, 32 characters or more; without one it is made once and kept in
            `data_dir`.
        public_url: Address at which people reach the API, for links; empty = the one of the request that makes a link.
        blobs: Where large payloads are: empty = files in `data_dir`, or `s3://BUCKET/PREFIX`.
        blobs_endpoint: Address of an S3-compatible service; empty = Amazon's own.
        blobs_region: Its region.
        blobs_access_key: Access key; without one the usual AWS_* variables and roles count.
        blobs_secret_key: What belongs to it.
        encryption_keys: Key ring for what Temporal is given, `ID:BASE64,ID:BASE64`: the first encrypts, all of them
            decrypt; empty = payloads are not encrypted.
        secrets_keys: Key ring for stored secrets, written alike; empty = that of `encryption_keys`, else a key that is
            made once and kept in `data_dir`.
        codec_origins: Origins of web pages, such as Temporal's UI, that may ask the codec server.
        retention_days: Days after its end at which an execution is purged; None = never.
        max_running: Most executions that run at one time, others wait; None = any number. Children do not count.
        max_running_per_tenant: Most of one tenant.
        reconcile_s: Seconds between two looks at all backends: how they are, which models they have.
    """

    model_config = SettingsConfigDict(env_prefix="EVERSTEP_", extra="ignore")

    data_dir: Path = Path(".everstep")
    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = DEFAULT_API_PORT
    api_key: SecretStr | None = None
    auth: Literal["auto", "required"] = "auto"
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_jwks_url: str = ""
    oidc_algorithms: Annotated[tuple[OidcAlgorithm, ...], NoDecode] = ("RS256", "ES256")
    oidc_tenant_claim: str = "tenant"
    oidc_scope_claim: str = "scope"
    oidc_actor_claim: str = ""
    task_queue: str = TASK_QUEUE
    pool: str = ""
    deployment: str = ""
    build_id: str = ""
    versioning: Literal["auto_upgrade", "pinned"] = "auto_upgrade"
    project_file: Path = Path(PROJECT_FILE)
    log_level: str = "info"
    log_json: bool = False
    trace_content: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    webhook_retry_s: float = Field(default=5.0, gt=0, le=3_600)
    stream_stall_s: float = Field(default=300.0, gt=0)
    signing_key: SecretStr | None = None
    public_url: str = Field(default="", pattern=r"^(https?://[^\s?#]+)?$")
    blobs: str = ""
    blobs_endpoint: str = ""
    blobs_region: str = "us-east-1"
    blobs_access_key: SecretStr | None = None
    blobs_secret_key: SecretStr | None = None
    encryption_keys: SecretStr = SecretStr("")
    secrets_keys: SecretStr = SecretStr("")
    codec_origins: Annotated[tuple[str, ...], NoDecode] = ()
    retention_days: float | None = Field(default=None, gt=0)
    max_running: int | None = Field(default=None, ge=1)
    max_running_per_tenant: int | None = Field(default=None, ge=1)
    reconcile_s: float = Field(default=30.0, ge=1, le=86_400)

    @field_validator("pool", mode="after")
    @classmethod
    def _is_a_pool(cls, given: str) -> str:
        return given if given in ("", ALL_POOLS) else _pool_name(given)

    @field_validator("api_key", "signing_key", mode="after")
    @classmethod
    def _no_empty_key(cls, key: SecretStr | None) -> SecretStr | None:
        # an empty key would be found in every request that sends none
        return key if key is not None and key.get_secret_value().strip() else None

    @field_validator("oidc_algorithms", "codec_origins", mode="before")
    @classmethod
    def _split_words(cls, given: object) -> object:
        return tuple(given.replace(",", " ").split()) if isinstance(given, str) else given

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the store."""
        return self.database_url or f"sqlite+aiosqlite:///{(self.data_dir / 'everstep.db').absolute()}"

    @property
    def blob_dir(self) -> Path:
        """Folder of large payloads."""
        return self.data_dir.absolute() / "blobs"


def temporal_address() -> str:
    """Return the address of the Temporal server: TEMPORAL_ADDRESS or the embedded default."""
    return os.environ.get("TEMPORAL_ADDRESS", DEFAULT_TEMPORAL_ADDRESS)


def load_project(path: Path) -> Project:
    """Read the operator's everstep.toml.

    OPENAI_API_KEY or OPENAI_BASE_URL in the environment put a backend `openai` in front of those of the file,
    EVERSTEP_MODEL_URL (set by `everstep dev`) puts the bundled model behind them.

    Args:
        path: The file; may be missing.

    Returns:
        The project.

    Raises:
        InvalidInput: `config.invalid` with the place, the reason and the remedy.
    """
    body: dict[str, Any] = {}
    if path.is_file():
        try:
            body = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path}: {error}", code="config.invalid", hint="mend the TOML syntax") from error
    try:
        project = Project.model_validate({**body, "folder": path.absolute().parent})
    except ValidationError as error:
        raise InvalidInput(_explain(path, error), code="config.invalid") from error
    openai = openai_from_environment()
    if openai is not None:
        project = project.model_copy(update={"backends": {"openai": openai, **project.backends}})
    bundled = os.environ.get("EVERSTEP_MODEL_URL", "")
    if bundled:
        can = Capabilities(
            chat=True, tools=False, vision=False, json_schema=True, stream=True, embed=False, context=BUNDLED_CONTEXT
        )
        backend = BackendConfig(base_url=bundled, models=[BUNDLED_MODEL], capabilities={BUNDLED_MODEL: can})
        project = project.model_copy(update={"backends": {**project.backends, "bundled": backend}})
    return project


def openai_from_environment() -> BackendConfig | None:
    """Return the backend that OPENAI_API_KEY / OPENAI_BASE_URL describe, or None if neither is set."""
    key, url = os.environ.get("OPENAI_API_KEY", ""), os.environ.get("OPENAI_BASE_URL", "")
    if not key and not url:
        return None
    return BackendConfig(
        base_url=url or BACKEND_URLS["openai"],
        api_key_env="OPENAI_API_KEY" if key else "",
        default_model=os.environ.get("OPENAI_MODEL", "" if url else "gpt-4o-mini"),
    )


def _explain(path: Path, error: ValidationError) -> str:
    lines: list[str] = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        models = (
            *(Project, ToolsConfig, IntegrationConfig, OpenApiConfig, McpConfig, CredentialConfig),
            *(AcpConfig, ApproveConfig),
            *(HttpConfig, BackendConfig, BackendLimits, Capabilities, Price, RoutingConfig, Group),
        )
        known = {name for model in models for name in model.model_fields}
        hint = did_you_mean(str(item["loc"][-1]), known) if item["type"] == "extra_forbidden" else ""
        lines.append(f"{path}: {place}: {item['msg'].removeprefix('Value error, ')}{'; ' + hint if hint else ''}")
    return "\n".join(lines)
