"""Settings of a process: environment variables (EVERSTEP_…, TEMPORAL_…)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    SecretStr,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.core.contracts.execution import TASK_QUEUE
from engine.core.contracts.pools import ALL_POOLS
from engine.settings.project import PROJECT_FILE
from engine.settings.tools import pool_name

DEFAULT_API_PORT = 8700
DEFAULT_TEMPORAL_ADDRESS = "127.0.0.1:7233"

OidcAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures made with a private key; a shared secret would let every reader of tokens make them."""


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
        return given if given in ("", ALL_POOLS) else pool_name(given)

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
