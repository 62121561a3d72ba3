"""Calls the shipped integrations: finds the one that the operator set up, and keeps its secrets out of what it says."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final

from activities.tools.http import HttpTools
from activities.tools.integrations import arxiv, brave, mail, weather, web, wikipedia
from activities.tools.integrations.service import Service
from activities.tools.integrations.setup import set_up, with_julep_members
from engine.control.guard import AddressGuard
from engine.control.integrations import integration_contract
from engine.core.contracts.activities import ToolParams
from engine.core.diagnostics import did_you_mean
from engine.core.errors import ExpressionError, ToolError
from engine.core.plan.providers import DUMMY
from engine.core.schemas import value_problems
from engine.core.values import Json, to_json_value
from engine.settings import HttpConfig, IntegrationConfig

CALLS: Final[Mapping[str, Callable[[Service, Mapping[str, Any]], Awaitable[Json]]]] = MappingProxyType(
    {
        "arxiv": arxiv.call,
        "brave": brave.call,
        "email": mail.call,
        "weather": weather.call,
        "web": web.call,
        "wikipedia": wikipedia.call,
    }
)
"""What calls each provider."""
THREADS = 8
"""Mails that are sent, and pages that are read, at one time."""
HIDDEN = "(hidden)"
MIN_SECRET_CHARS = 4
"""Shorter ones hide nothing, and would be found in any word."""


class IntegrationTools:
    """Calls integrations; satisfies `ToolAdapter`."""

    def __init__(self, integrations: Mapping[str, IntegrationConfig], http: HttpTools, config: HttpConfig) -> None:
        """Bind the adapter; nothing is connected.

        Args:
            integrations: Those that are switched on, by name.
            http: Sends their requests.
            config: Which private addresses may be reached.

        Raises:
            InvalidInput: `config.integration` if one of them cannot work as it is set up.
        """
        self._configs = dict(integrations)
        self._own = {name: integration_contract(name, config) for name, config in integrations.items()}
        self._http = http
        self._guard = AddressGuard(config)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="everstep-integration")

    async def call(self, params: ToolParams) -> Json:
        """Call an integration.

        Args:
            params: The call; its arguments fit the contract's schema.

        Returns:
            What its provider returns.

        Raises:
            ToolError: tool.unknown, tool.credentials, tool.bad_arguments, or what its provider says; no secret of
                the integration stands in it.
        """
        if params.tool.spec.get("provider") == DUMMY:
            return {"result": dict(params.arguments)}
        name = str(params.tool.spec.get("integration", params.tool.name))
        given = {**params.tool.spec.get("arguments", {}), **params.arguments}
        found = self._find(params, name, given)
        provider = found.provider or name
        setup = set_up(params.tool, found, provider)
        config = setup.config
        service = Service(
            provider=provider,
            config=config,
            tool=params.tool,
            context=params.context,
            http=self._http,
            guard=self._guard,
            threads=self._threads,
            own_secrets=setup.secrets,
        )
        secrets = _secrets_of(config)
        try:
            result = _without(await CALLS[provider](service, given), secrets)
            if params.tool.type == "provider":
                result = with_julep_members(provider, result)
            return to_json_value(result, where=f"the result of tool '{params.tool.name}'")
        except ExpressionError as error:
            raise ToolError(error.message, code="tool.bad_result", hint=error.hint) from error
        except ToolError as error:
            raise ToolError(
                _without(error.message, secrets),
                code=error.code,
                hint=_without(error.hint, secrets),
                retryable=error.retryable,
                details=_without(error.details, secrets),
            ) from None  # whose texts may hold the secret as well

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _find(self, params: ToolParams, name: str, given: Mapping[str, Any]) -> IntegrationConfig:
        config = self._configs.get(name)
        wanted = params.tool.spec.get("provider", "")
        if config is None:
            hint = did_you_mean(name, self._configs) or f"switch it on in everstep.toml: [tools.integrations.{name}]"
            raise ToolError(f"this worker has no integration '{name}'", code="tool.unknown", hint=hint)
        if (config.provider or name) != wanted:
            raise ToolError(
                f"the integration '{name}' of this worker is '{config.provider or name}', the task wants '{wanted}'",
                code="tool.unknown",
                hint=f'set provider = "{wanted}", or start the task anew',
            )
        own = self._own[name]
        # the settings may be narrower now than when the execution started
        problems = [] if own.parameters == params.tool.parameters else value_problems(given, own.parameters)
        if problems:
            raise ToolError(
                f"tool '{name}' does not take these arguments: {'; '.join(problems)}", code="tool.bad_arguments"
            )
        return config


def _secrets_of(config: IntegrationConfig) -> list[str]:
    """Return the secrets of an integration in all the forms in which they may be repeated to us, longest first."""
    values = [os.environ.get(name, "").strip() for name in (config.api_key_env, config.password_env) if name]
    quoted = [form(value) for value in values for form in (urllib.parse.quote, urllib.parse.quote_plus, _in_json)]
    return sorted((form for form in {*values, *quoted} if len(form) >= MIN_SECRET_CHARS), key=len, reverse=True)


def _in_json(value: str) -> str:
    # many write the slash so
    return json.dumps(value)[1:-1].replace("/", "\\/")


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, dict):
        return {_without(key, secrets): _without(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    return value
