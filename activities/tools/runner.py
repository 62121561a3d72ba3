"""The tool activity: checks the arguments and hands the call to the adapter of the tool's type."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from temporalio import activity

from activities.effects import run_effect
from activities.tools.http import HttpTools
from activities.tools.integrations.adapter import IntegrationTools
from activities.tools.openapi import OpenApiTools
from activities.tools.python import PythonTools
from activities.tracing import effect_span, tool_span
from engine.core.contracts.activities import TOOL_ACTIVITY, ToolParams, ToolResult, check_arguments
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json
from engine.obs.telemetry import OFF, Telemetry
from engine.settings import HttpConfig, ToolsConfig
from engine.tooling import ToolCatalog

THREADS = 32
"""Ordinary Python tools that run at one time; they mostly wait for something."""


class ToolAdapter(Protocol):
    """Calls tools of one type."""

    async def call(self, params: ToolParams) -> Json:
        """Call a tool; its arguments fit the contract's schema.

        Raises:
            ToolError: The tool did not give a usable result.
        """
        ...


class ToolActivities:
    """The activity `tool.call` with the adapters it may use."""

    def __init__(
        self,
        catalog: ToolCatalog,
        http: HttpConfig,
        *,
        config: ToolsConfig | None = None,
        threads: int = THREADS,
        telemetry: Telemetry = OFF,
    ) -> None:
        """Bind the activity.

        Args:
            catalog: The operator's tools.
            http: Which private addresses HTTP tools may reach.
            config: How the operator switched on those that are not Python; None = there are none.
            threads: Most ordinary Python functions that run at one time.
            telemetry: Where spans and metrics go.
        """
        self._telemetry = telemetry
        self._http = HttpTools(http)
        self._integrations = IntegrationTools(config.integrations if config else {}, self._http, http)
        self._openapi = OpenApiTools(config.openapi if config else {}, catalog, self._http)
        self._adapters: Mapping[str, ToolAdapter] = {
            "python": PythonTools(catalog, threads=threads),
            "api_call": self._http,
            "integration": self._integrations,
            "openapi": self._openapi,
        }

    def learn(self, contracts: Mapping[str, ToolContract]) -> None:
        """Take note of contracts that have changed while the worker runs."""
        self._openapi.learn(contracts)

    @activity.defn(name=TOOL_ACTIVITY)
    async def call(self, params: ToolParams) -> ToolResult:
        """Call a tool.

        Args:
            params: The call.

        Returns:
            The tool's output.

        Raises:
            ApplicationError: A `tool.…` error with its failure body.
        """

        async def work() -> ToolResult:
            check_arguments(params)
            began = time.monotonic()
            with tool_span(self._telemetry, params) as span:
                output = await self._adapters[params.tool.type].call(params)
                span.done(output)
            took_s = round(time.monotonic() - began, 3)
            return ToolResult(output=output, took_s=took_s, deliveries=activity.info().attempt)

        with effect_span(self._telemetry, TOOL_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=lambda: _timed_out(params))

    async def aclose(self) -> None:
        """Close all connections."""
        self._integrations.close()
        await self._http.aclose()


def _timed_out(params: ToolParams) -> ToolError:
    return ToolError(
        f"tool '{params.tool.name}' took longer than {params.timeout_s:g} s",
        code="tool.timeout",
        retryable=params.tool.repeatable,
    )
