"""What an installation is told: settings of a process (environment), and the operator's everstep.toml."""

from __future__ import annotations

from engine.settings.backends import (
    BACKEND_URLS,
    BackendConfig,
    BackendKind,
    BackendLimits,
    BudgetConfig,
    Capabilities,
    Group,
    OpenAiApi,
    Price,
    RoutingConfig,
    RoutingPolicy,
)
from engine.settings.process import DEFAULT_API_PORT, Settings, temporal_address
from engine.settings.project import PROJECT_FILE, HttpConfig, Project, load_project, openai_from_environment
from engine.settings.tools import (
    AcpConfig,
    ApproveConfig,
    CredentialConfig,
    IntegrationConfig,
    McpConfig,
    OpenApiConfig,
    ToolsConfig,
)

__all__ = [
    "BACKEND_URLS",
    "DEFAULT_API_PORT",
    "PROJECT_FILE",
    "AcpConfig",
    "ApproveConfig",
    "BackendConfig",
    "BackendKind",
    "BackendLimits",
    "BudgetConfig",
    "Capabilities",
    "CredentialConfig",
    "Group",
    "HttpConfig",
    "IntegrationConfig",
    "McpConfig",
    "OpenAiApi",
    "OpenApiConfig",
    "Price",
    "Project",
    "RoutingConfig",
    "RoutingPolicy",
    "Settings",
    "ToolsConfig",
    "load_project",
    "openai_from_environment",
    "temporal_address",
]
