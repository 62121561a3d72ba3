"""The operator's everstep.toml, and the backends that environment variables put beside those in it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.settings.backends import (
    BACKEND_URLS,
    BackendConfig,
    BackendLimits,
    BudgetConfig,
    BudgetName,
    Capabilities,
    Group,
    Price,
    RoutingConfig,
)
from engine.settings.tools import (
    AcpConfig,
    ApproveConfig,
    CredentialConfig,
    IntegrationConfig,
    McpConfig,
    OpenApiConfig,
    ToolsConfig,
)

PROJECT_FILE = "everstep.toml"
BUNDLED_MODEL = "smollm2"
BUNDLED_CONTEXT = 4096
"""Tokens that it has room for."""


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
