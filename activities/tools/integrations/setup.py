"""An integration as a task's own definition has it: its settings over the operator's, and the results of Julep's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from engine.control.integrations import LOOPBACK_HOSTS
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json
from engine.settings import IntegrationConfig

IMPLICIT_TLS_PORT: Final = 465
_OF_TASK: Final = "setup of the tool"
"""Stands for the variable of the environment that a task needs none of."""
_KEYS: Final = MappingProxyType({"brave": "brave_api_key", "weather": "openweathermap_api_key"})


@dataclass(frozen=True, slots=True)
class SetUp:
    """An integration as one call uses it.

    Attributes:
        config: Its settings.
        secrets: Secrets of the task, by the names that the settings have for them.
    """

    config: IntegrationConfig
    secrets: Mapping[str, str]


def set_up(tool: ToolContract, config: IntegrationConfig, provider: str) -> SetUp:
    """Return the settings of a call.

    Args:
        tool: The contract; `setup` of its spec is what the task says.
        config: What the operator says.
        provider: What it speaks to.

    Raises:
        ToolError: `tool.bad_definition` if the task says something that is not a setting here.
    """
    setup = tool.spec.get("setup")
    if tool.type != "provider" or not isinstance(setup, dict) or not setup:
        return SetUp(config, {})
    known = (_KEYS[provider],) if provider in _KEYS else ("host", "port", "user", "password") * (provider == "email")
    for name, value in setup.items():
        if name not in known or not isinstance(value, (str, int)):
            hint = f"there are {', '.join(known)}" if known else "leave `setup` out"
            message = f"tool '{tool.name}': '{name}' is no setting of the provider '{provider}'"
            raise ToolError(message, code="tool.bad_definition", hint=hint)
    if provider == "email":
        return _mail(config, setup)
    return SetUp(config.model_copy(update={"api_key_env": _OF_TASK}), {_OF_TASK: str(setup[known[0]])})


def _mail(config: IntegrationConfig, setup: Mapping[str, Any]) -> SetUp:
    changes: dict[str, Any] = {}
    if "host" in setup:
        host, port = str(setup["host"]), int(setup.get("port") or 587)
        # another server than the operator's gets none of the operator's words
        changes = {"host": host, "port": port, "tls": _tls(host, port), "user": "", "password_env": ""}
    if "user" in setup:
        changes |= {"user": str(setup["user"]), "password_env": _OF_TASK}
    return SetUp(config.model_copy(update=changes), {_OF_TASK: str(setup.get("password", ""))})


def _tls(host: str, port: int) -> Literal["none", "implicit", "starttls"]:
    if host.lower() in LOOPBACK_HOSTS:
        return "none"
    return "implicit" if port == IMPLICIT_TLS_PORT else "starttls"


# --- results -------------------------------------------------------------------------------------------------------


def with_julep_members(provider: str, result: Json) -> Json:
    """Return a result with the members beside ours that tasks written for Julep read.

    Args:
        provider: Who gave it.
        result: Our result.
    """
    shape = _SHAPES.get(provider)
    return {**result, **shape(result)} if shape is not None and isinstance(result, dict) else result


def _wikipedia(result: dict[str, Any]) -> dict[str, Json]:
    return {"documents": [_document(item) for item in result["results"]]}


def _document(item: Mapping[str, Any]) -> dict[str, Json]:
    return {"page_content": item["text"], "metadata": {"title": item["title"], "source": item["url"]}}


def _brave(result: dict[str, Any]) -> dict[str, Json]:
    found = result["results"]
    return {"result": [{"title": item["title"], "link": item["url"], "snippet": item["text"]} for item in found]}


def _arxiv(result: dict[str, Any]) -> dict[str, Json]:
    return {"result": [{**item, "entry_id": item["url"], "summary": item["text"]} for item in result["results"]]}


def _weather(result: dict[str, Any]) -> dict[str, Json]:
    told = f"In {result['location']}: {result['text']}, {result['temperature_c']} °C"
    return {"result": f"{told}, humidity {result['humidity_percent']} %, wind {result['wind_m_s']} m/s"}


_SHAPES: Final[Mapping[str, Callable[[dict[str, Any]], dict[str, Json]]]] = MappingProxyType(
    {"wikipedia": _wikipedia, "brave": _brave, "arxiv": _arxiv, "weather": _weather}
)
