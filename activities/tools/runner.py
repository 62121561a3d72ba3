"""The tool activity: checks the arguments and hands the call to the adapter of the tool's type."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import structlog
from temporalio import activity

from activities.effects import run_effect
from activities.kept import Kept
from activities.secrets import SecretCalls
from activities.tools.acp import AcpTools
from activities.tools.bounds import bound_of, bounded
from activities.tools.http import HttpTools
from activities.tools.integrations.adapter import IntegrationTools
from activities.tools.mcp import McpTools
from activities.tools.openapi import OpenApiTools
from activities.tools.python import PythonTools
from activities.tools.system import Operations, SystemTools
from activities.tracing import effect_span, tool_span
from engine.control.secrets import SecretReader
from engine.control.toolrules import OF_TASKS
from engine.core.contracts.activities import TOOL_ACTIVITY, ToolParams, ToolResult, check_arguments
from engine.core.errors import AuthorityError, ToolError
from engine.core.plan.drift import drift_of
from engine.core.plan.ir import Drift, ToolContract
from engine.core.values import Json
from engine.obs.telemetry import OFF, Telemetry
from engine.settings import HttpConfig, ToolsConfig
from engine.store.kept import KeptStore
from engine.tooling.catalog import ToolCatalog

THREADS = 32
"""Ordinary Python tools that run at one time; they mostly wait for something."""
MOST_TOLD = 10_000
"""Changes of tools that a worker remembers to have told."""

log = structlog.get_logger("everstep.tools")


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
        kept: KeptStore | None = None,
        secrets: SecretReader | None = None,
        system: Callable[[], Operations] | None = None,
        telemetry: Telemetry = OFF,
        folder: Path = Path(),
        data_dir: Path | None = None,
    ) -> None:
        """Bind the activity.

        Args:
            catalog: The operator's tools.
            http: Which private addresses HTTP tools may reach.
            config: How the operator switched on those that are not Python; None = there are none.
            threads: Most ordinary Python functions that run at one time.
            kept: Where workers keep outputs for equal calls; None = nowhere.
            secrets: Opens the secrets that calls name; None = there are none.
            system: Returns what does the operations of system tools; None = this process has none.
            telemetry: Where spans and metrics go.
            folder: The folder of everstep.toml, where programs of MCP servers start.
            data_dir: Where it is kept what MCP servers have; None = nowhere.
        """
        self._telemetry = telemetry
        self._kept = Kept(kept)
        self._secrets = SecretCalls(secrets)
        self._config = config or ToolsConfig()
        self._catalog = catalog
        self._present: Mapping[str, ToolContract] | None = None
        self._told: set[tuple[str, Drift]] = set()
        self._http = HttpTools(http)
        self._integrations = IntegrationTools(config.integrations if config else {}, self._http, http)
        self._openapi = OpenApiTools(config.openapi if config else {}, catalog, self._http)
        self._mcp = McpTools(self._config.mcp, http, folder=folder, data_dir=data_dir)
        self._adapters: Mapping[str, ToolAdapter] = {
            "python": PythonTools(catalog, threads=threads),
            "api_call": self._http,
            "integration": self._integrations,
            "provider": self._integrations,
            "openapi": self._openapi,
            "mcp": self._mcp,
            "acp": AcpTools(self._config.acp, self._http),
            "system": SystemTools(self._config.system, system),
        }

    def learn(self, contracts: Mapping[str, ToolContract]) -> None:
        """Take note of contracts that have changed while the worker runs."""
        self._present = contracts
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

        async def make() -> ToolResult:
            began = time.monotonic()
            with tool_span(self._telemetry, params) as span:
                output = await self._secrets.call(params, self._checked if params.secrets else self._call)
                span.done(output)
            took_s = round(time.monotonic() - began, 3)
            return ToolResult(output=output, took_s=took_s, deliveries=activity.info().attempt)

        async def work() -> ToolResult:
            self._check_tenant(params)
            self._tell_drift(params)
            if not params.secrets:
                check_arguments(params)
            return await self._kept.output(params, make)

        with effect_span(self._telemetry, TOOL_ACTIVITY, params.context):
            return await run_effect(work, timeout_s=params.timeout_s, on_timeout=lambda: _timed_out(params))

    async def _checked(self, params: ToolParams) -> Json:
        check_arguments(params)
        return await self._call(params)

    async def _call(self, params: ToolParams) -> Json:
        name = params.tool.name
        output = await self._adapters[params.tool.type].call(params)
        return bounded(name, output, bound_of(name, self._config.max_result_chars))

    def _check_tenant(self, params: ToolParams) -> None:
        """Refuse what the operator does not offer to the tenant, whatever an execution was started with.

        Raises:
            AuthorityError: `authority.denied`.
        """
        tool, tenant = params.tool, params.context.tenant
        name = str(tool.spec.get("integration", tool.name)) if tool.type == "provider" else tool.name
        is_operators = tool.type not in OF_TASKS or "integration" in tool.spec
        if is_operators and not self._config.permits(name, tenant):
            raise AuthorityError(
                f"the tool '{name}' is not offered to this tenant",
                hint="the operator says in [tools.tenants] of everstep.toml who may use it",
            )

    def _tell_drift(self, params: ToolParams) -> None:
        """Tell once in an execution if a tool is not what it was when the execution started."""
        if self._present is None:
            self._present = self._catalog.contracts()
        tool = params.tool
        present = self._present.get(tool.name)
        if tool.type in OF_TASKS or present is None or present == tool:
            return
        drift = drift_of(tool, present)
        mark = None if drift is None else (params.context.execution_id, drift)
        if drift is None or mark is None or mark in self._told:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add(mark)
        facts = {"before": drift.before, "after": drift.after, "changes": list(drift.changes)}
        log.warning("tool.drift", tool=drift.tool, **facts)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._mcp.aclose()
        self._integrations.close()
        await self._http.aclose()


def _timed_out(params: ToolParams) -> ToolError:
    return ToolError(
        f"tool '{params.tool.name}' took longer than {params.timeout_s:g} s",
        code="tool.timeout",
        retryable=params.tool.repeatable,
    )
