"""What the operator says of tools: integrations, services, servers, remote agents, pools, approvals."""

from __future__ import annotations

import fnmatch
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from engine.core.contracts.pools import POOL_HINT, is_pool
from engine.core.errors import ExpressionSyntaxError
from engine.core.kinds import ToolEffect
from engine.core.lang.expression import compile_expression


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


def pool_name(name: str) -> str:
    """Return the name of a pool of workers.

    Raises:
        ValueError: It cannot be one.
    """
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
    pools: dict[str, Annotated[str, AfterValidator(pool_name)]] = Field(default_factory=dict)
    approve: dict[str, Literal[True] | ApproveConfig] = Field(default_factory=dict)

    def permits(self, tool: str, tenant: str) -> bool:
        """Say whether a tenant may use a tool of that name."""
        found = [names for glob, names in self.tenants.items() if fnmatch.fnmatchcase(tool, glob)]
        return not found or any(tenant in names for names in found)
