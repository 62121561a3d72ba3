"""Settings of a process: environment variables (EVERSTEP_…, TEMPORAL_…, OPENAI_…) and the operator's everstep.toml."""

from __future__ import annotations

import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.core.contracts.execution import TASK_QUEUE
from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput

DEFAULT_API_PORT = 8700
DEFAULT_TEMPORAL_ADDRESS = "127.0.0.1:7233"
PROJECT_FILE = "everstep.toml"
BUNDLED_MODEL = "smollm2"
MOST_DOLLARS = Decimal(1_000_000)
"""For a million tokens; a larger price is a mistake in writing."""

BackendKind = Literal["openai", "anthropic", "gemini", "ollama"]
"""Which way of talking to models a backend speaks."""
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
        output: Dollars for a million tokens of the reply.
    """

    model_config = ConfigDict(extra="forbid")

    input: Decimal = Field(ge=0, le=MOST_DOLLARS)
    output: Decimal = Field(ge=0, le=MOST_DOLLARS)


class BackendConfig(BaseModel):
    """One LLM backend.

    Attributes:
        kind: What it speaks; `openai` is spoken by most servers.
        base_url: Its address: of an `openai` one up to and without `/chat/completions`, such as
            `http://127.0.0.1:8080/v1`; without one that of the provider, if `kind` says who it is.
        api_key_env: Environment variable that holds the key; empty = no key is sent.
        models: Model names it serves; empty = any name is passed on.
        default_model: Model for prompts that name none; empty = the first of `models`.
        max_connections: Most calls at one time.
        prices: What its models cost, by name, `*` for all others; without a price the cost of a call is unknown.
    """

    model_config = ConfigDict(extra="forbid")

    kind: BackendKind = "openai"
    base_url: str = ""
    api_key_env: str = ""
    models: list[str] = Field(default_factory=list)
    default_model: str = ""
    max_connections: int = Field(default=200, ge=1)
    prices: dict[str, Price] = Field(default_factory=dict)

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


class ToolsConfig(BaseModel):
    """Where the operator's Python tools are: files or importable modules, relative to everstep.toml."""

    model_config = ConfigDict(extra="forbid")

    modules: list[str] = Field(default_factory=list)


class HttpConfig(BaseModel):
    """Which private addresses HTTP tools, or webhooks, may reach: `host:port`, `host:*`; all others are refused."""

    model_config = ConfigDict(extra="forbid")

    allow: list[str] = Field(default_factory=list)


class Project(BaseModel):
    """The operator's everstep.toml.

    Attributes:
        folder: Folder of the file; relative names in it start there.
        tools: Python tools.
        http: Rules for outgoing HTTP.
        webhooks: Private addresses at which webhooks may be told.
        backends: LLM backends by name; the first one is the default.
    """

    model_config = ConfigDict(extra="forbid")

    folder: Path = Path()
    tools: ToolsConfig = ToolsConfig()
    http: HttpConfig = HttpConfig()
    webhooks: HttpConfig = HttpConfig()
    backends: dict[str, BackendConfig] = Field(default_factory=dict)


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
        codec_origins: Origins of web pages, such as Temporal's UI, that may ask the codec server.
        retention_days: Days after its end at which an execution is purged; None = never.
        max_running: Most executions that run at one time, others wait; None = any number. Children do not count.
        max_running_per_tenant: Most of one tenant.
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
    codec_origins: Annotated[tuple[str, ...], NoDecode] = ()
    retention_days: float | None = Field(default=None, gt=0)
    max_running: int | None = Field(default=None, ge=1)
    max_running_per_tenant: int | None = Field(default=None, ge=1)

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
        backend = BackendConfig(base_url=bundled, models=[BUNDLED_MODEL])
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
        models = (Project, ToolsConfig, HttpConfig, BackendConfig, Price)
        known = {name for model in models for name in model.model_fields}
        hint = did_you_mean(str(item["loc"][-1]), known) if item["type"] == "extra_forbidden" else ""
        lines.append(f"{path}: {place}: {item['msg'].removeprefix('Value error, ')}{'; ' + hint if hint else ''}")
    return "\n".join(lines)
