"""Calls the operator's Python functions: async ones in the event loop, ordinary ones in threads or processes."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

from activities.effects import note_progress
from activities.tools.processes import ProcessCalls
from engine.core.contracts.activities import ToolParams
from engine.core.diagnostics import did_you_mean
from engine.core.errors import ToolError
from engine.core.values import Json
from engine.tooling.calls import call_arguments, call_failure, call_result
from engine.tooling.catalog import ToolCatalog
from engine.tooling.definition import Tool

PROCESSES = 8
"""Calls in processes of their own that run at one time."""


class PythonTools:
    """Calls tools of a catalog; satisfies `ToolAdapter`."""

    def __init__(self, catalog: ToolCatalog, *, threads: int, processes: int = PROCESSES) -> None:
        """Bind the catalog.

        Args:
            catalog: The operator's tools.
            threads: Most ordinary functions that run at one time, those left behind by a cancel included.
            processes: Most calls of tools with `process=True` that run at one time.
        """
        self._catalog = catalog
        self._slots = asyncio.Semaphore(threads)
        self._processes = ProcessCalls(catalog, processes)

    async def call(self, params: ToolParams) -> Json:
        """Call a tool.

        Args:
            params: The call; its arguments fit the contract's schema.

        Returns:
            What the function returned, as JSON.

        Raises:
            ToolError: tool.unknown, tool.bad_arguments, tool.bad_result, tool.failed, or a `tool.…` error that the
                function raised itself; tool.crashed and tool.too_large of a process.
        """
        tool = self._find(params.tool.name)
        if tool.process:
            return await self._processes.call(tool, params, note_progress)
        arguments = call_arguments(tool, params, note_progress)
        try:
            if inspect.iscoroutinefunction(tool.function):
                result = await tool.function(**arguments)
            else:
                result = await self._in_thread(lambda: tool.function(**arguments))
                if inspect.isawaitable(result):  # an async function behind an ordinary wrapper
                    result = await result
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise call_failure(tool, error) from error
        except (Exception, SystemExit) as error:  # a SystemExit would end the worker
            raise call_failure(tool, error) from error
        return call_result(tool, result)

    def _find(self, name: str) -> Tool[..., Any]:
        tool = self._catalog.get(name)
        if tool is None:
            known = sorted(self._catalog.tools)
            listed = f"known tools: {', '.join(known)}" if known else "no tool modules stand in everstep.toml"
            raise ToolError(
                f"this worker has no Python tool '{name}'",
                code="tool.unknown",
                hint=" ".join(part for part in (did_you_mean(name, known), listed) if part),
            )
        return tool

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        # Daemon threads rather than an executor: a function that hangs cannot be stopped, and must neither keep the
        # worker from ending nor, once its call is cancelled, have its late result taken for anything.
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: Exception | None) -> None:
            self._slots.release()
            if outcome.done():
                return
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)

        def run() -> None:
            result: Any = None
            error: Exception | None = None
            try:
                result = context.run(function)
            except StopIteration as raised:  # a future cannot hold it
                error = _wrapped(raised)
            except Exception as raised:
                error = raised
            except BaseException as raised:  # the likes of SystemExit would end the worker
                error = _wrapped(raised)
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:  # the loop has closed: nobody waits any more
                return

        try:
            threading.Thread(target=run, name="everstep-tool", daemon=True).start()
        except RuntimeError:
            self._slots.release()
            raise
        return await outcome


def _wrapped(raised: BaseException) -> RuntimeError:
    error = RuntimeError(f"the function raised {type(raised).__name__}: {raised}")
    return error.with_traceback(raised.__traceback__)
