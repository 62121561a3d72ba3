"""Calls system tools: operations on tasks, executions and agents of the execution's own tenant."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.errors import AuthorityError, ToolError
from engine.core.plan.system_tools import OPERATIONS, plain_arguments
from engine.core.schemas import value_problems
from engine.core.values import Json


class Operations(Protocol):
    """Does the operations (engine.control.systemtools)."""

    async def run(self, operation: str, arguments: dict[str, Any], context: CallContext) -> Json:
        """Do an operation.

        Raises:
            EngineError: It is refused, or there is nothing of that name.
        """
        ...


class SystemTools:
    """Calls system tools; satisfies `ToolAdapter`."""

    def __init__(self, permitted: Sequence[str], operations: Callable[[], Operations] | None) -> None:
        """Bind the operations.

        Args:
            permitted: Globs of those that the operator permits.
            operations: Returns what does them; called once, when the first is asked for. None = this process cannot.
        """
        self._permitted = permitted
        self._make = operations
        self._made: Operations | None = None

    async def call(self, params: ToolParams) -> Json:
        """Do an operation.

        Args:
            params: The call; its arguments fit the contract's schema.

        Raises:
            AuthorityError: `authority.denied` if the operator, or the bound of the task, forbids it.
            ToolError: `tool.unknown` if this process has no such operations.
            EngineError: As the operation.
        """
        name = str(params.tool.spec.get("operation"))
        if not any(fnmatch.fnmatchcase(name, glob) for glob in self._permitted):
            raise AuthorityError(
                f"tool '{params.tool.name}': tasks may not use '{name}' here",
                hint=f'the operator permits it with `system = ["{name}", …]` under [tools] of everstep.toml',
            )
        if self._make is None or name not in OPERATIONS:
            raise ToolError(
                f"tool '{params.tool.name}': this worker has no operation '{name}'",
                code="tool.unknown",
                hint="workers of a pool have none, and older workers not those of newer versions",
            )
        if self._made is None:
            self._made = self._make()
        fixed = params.tool.spec.get("arguments") or {}
        arguments = {**self._plain(name, params), **fixed}
        return await self._made.run(name, arguments, params.context)

    def _plain(self, operation: str, params: ToolParams) -> dict[str, Any]:
        """Return the arguments under the names that they have here.

        Raises:
            ToolError: `tool.bad_arguments` if what Julep's words mean does not fit the operation.
        """
        names = params.tool.spec.get("names")
        if names is None:
            return params.arguments
        fixed = params.tool.spec.get("arguments") or {}
        arguments = plain_arguments(params.arguments, names)
        problems = value_problems(arguments, OPERATIONS[operation].parameters(fixed))
        if problems:
            raise ToolError(
                f"tool '{params.tool.name}' does not take these arguments: {'; '.join(problems)}",
                code="tool.bad_arguments",
            )
        return arguments
