"""Calls tools of MCP servers: one request each, with the call's key, told to be cancelled when the call is."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from activities.effects import note_progress
from activities.tools.mcp_sessions import McpSessions
from engine.core.contracts.activities import ToolParams
from engine.core.contracts.failures import clip
from engine.core.errors import ExpressionError, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json, to_json_value
from engine.settings import HttpConfig, McpConfig

if TYPE_CHECKING:
    from mcp import types

    from engine.control.mcp.connecting import Connection
    from engine.control.mcp.definitions import Listing

KEY = "everstep/idempotency-key"
"""Member of `_meta` that holds the key of the call: a repeated call has the same one."""
MAX_TEXT_CHARS = 4_000
"""Of what a tool says about its failure."""
TELL_CANCEL_S = 1.0
"""How long a server may take to read that a call is cancelled; whoever cancels does not wait longer."""

log = structlog.get_logger("everstep.mcp")


class McpTools:
    """Calls tools of servers; satisfies `ToolAdapter`."""

    def __init__(
        self,
        servers: Mapping[str, McpConfig],
        http: HttpConfig,
        *,
        folder: Path = Path(),
        data_dir: Path | None = None,
    ) -> None:
        """Bind the servers; none is asked yet.

        Args:
            servers: How the operator registered them, by name.
            http: Which private addresses may be reached.
            folder: The folder of everstep.toml.
            data_dir: Where it is kept what a server has, whenever a session was opened or that has changed; None =
                nowhere.
        """
        self._data_dir = data_dir
        self._sessions = McpSessions(servers, http, folder=folder, listed=self._keep)

    def _keep(self, name: str, config: McpConfig, listing: Listing) -> None:
        if self._data_dir is not None:
            from engine.control.mcp.keeping import Copies

            Copies(self._data_dir).keep(name, config, listing)

    async def call(self, params: ToolParams) -> Json:
        """Make a call.

        Args:
            params: The call; its arguments fit the contract's schema.

        Returns:
            The structured result if the server gave one; the text if it gave nothing but text; else {text, content,
            structured?} with the parts as the protocol has them.

        Raises:
            ToolError: tool.unknown, .bad_arguments, .credentials, .address_refused, .unreachable, .http_status or
                .too_large, and tool.failed with the tool's own words.
        """
        tool = params.tool
        name = str(tool.spec.get("server"))
        if name not in self._sessions.names():
            known = ", ".join(self._sessions.names()) or "none"
            raise ToolError(
                f"tool '{tool.name}': this worker has no MCP server '{name}'",
                code="tool.unknown",
                hint=f"register it under [tools.mcp.{name}] in the worker's everstep.toml; it has {known}",
            )
        _check_text(params)
        for again in (False, True):
            async with self._sessions.session(name) as connection:
                try:
                    return await _Call(connection, params).make()
                except _SessionForgottenError as refused:
                    # it was refused before anything was done, so that it may be made in another session
                    self._sessions.end(name, connection)
                    if again:
                        raise refused.error from None
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """End all sessions and the programs that were started for them."""
        await self._sessions.aclose()


class _SessionForgottenError(Exception):
    """The server does not know the session any more; the call was not made.

    Attributes:
        error: What is told if that happens again.
    """

    def __init__(self, error: ToolError) -> None:
        super().__init__(error.message)
        self.error = error


class _Call:
    """One call in a session."""

    def __init__(self, connection: Connection, params: ToolParams) -> None:
        self._connection = connection
        self._params = params
        self._number: int | None = None
        self._context = contextvars.copy_context()

    async def make(self) -> Json:
        """Make it and return its output.

        Raises:
            ToolError: See `McpTools.call`.
            _SessionForgottenError: It was not made.
        """
        failures = self._connection.failures
        asking = asyncio.create_task(self._ask())
        over = asyncio.create_task(failures.over.wait())
        try:
            # a session that ends may leave those who wait without a word
            await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                await asyncio.wait({asking}, timeout=TELL_CANCEL_S)
            if not asking.done():
                raise self._lost()
            return self._output(asking.result())
        except asyncio.CancelledError:
            await self._tell_cancel()
            raise
        finally:
            over.cancel()
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asking
            if self._number is not None:
                failures.by_id.pop(self._number, None)
                failures.forgotten.discard(self._number)

    async def _ask(self) -> types.CallToolResult | types.ReadResourceResult | types.GetPromptResult | ToolError:
        from anyio import BrokenResourceError, ClosedResourceError
        from mcp.shared.exceptions import McpError

        session, failures = self._connection.session, self._connection.failures
        request, kind = _request_of(self._params)
        # the SDK has no other way to learn it; a test holds that it is the number of the request
        self._number = session._request_id
        try:
            found: types.CallToolResult | types.ReadResourceResult | types.GetPromptResult
            found = await session.send_request(request, kind, progress_callback=self._progress)
            return found
        except McpError as error:
            own = failures.by_id.get(self._number)
            if self._number in failures.forgotten and own is not None:
                raise _SessionForgottenError(self._told(own)) from None
            return self._told(own) if own is not None else self._refused(error)
        except (BrokenResourceError, ClosedResourceError):
            # the session was over before the request was sent
            failure = ToolError(f"the session with '{self._connection.server}' ended", code="tool.unreachable")
            raise _SessionForgottenError(failure) from None
        except ValueError as error:
            why = self._connection.mask.text(clip(str(error), 500))
            name = self._params.tool.name
            return ToolError(f"tool '{name}': the answer is none of MCP: {why}", code="tool.bad_reply")

    def _told(self, failure: ToolError) -> ToolError:
        tool = self._params.tool
        # what was sent may have been done
        retryable = (
            tool.repeatable if failure.code == "tool.unreachable" and not failure.retryable else failure.retryable
        )
        details = dict(failure.details)
        return ToolError(
            f"tool '{tool.name}': {failure.message}",
            code=failure.code,
            hint=failure.hint,
            retryable=retryable,
            details=details,
        )

    def _refused(self, error: Any) -> ToolError:
        from engine.control.mcp.failing import CONNECTION_CLOSED

        if error.error.code == CONNECTION_CLOSED:
            return self._lost()
        tool, text = self._params.tool, self._connection.mask.text(clip(error.error.message, MAX_TEXT_CHARS))
        return ToolError(
            f"tool '{tool.name}': the MCP server refuses the call: {text}",
            code="tool.failed",
            details={"rpc_code": error.error.code},
        )

    def _lost(self) -> ToolError:
        tool, mask = self._params.tool, self._connection.mask
        why = mask.text(self._connection.failures.ended) or f"the session with '{self._connection.server}' ended"
        return ToolError(
            f"tool '{tool.name}': {why}, and nobody knows whether the call was made",
            code="tool.unreachable",
            hint="" if tool.repeatable else "a tool that may be repeated is: see `idempotent` in everstep.toml",
            retryable=tool.repeatable,
        )

    async def _progress(self, progress: float, total: float | None, message: str | None) -> None:
        part = f"{progress:g} of {total:g}" if total else f"{progress:g}"
        text = self._connection.mask.text(clip(f"{part}: {message}" if message else part, 500))
        # told by the task that reads for all calls of the session
        self._context.run(note_progress, text)

    async def _tell_cancel(self) -> None:
        """Tell the server that nobody wants the answer any more."""
        from mcp import types

        if self._number is None or self._connection.failures.over.is_set():
            return
        word = types.CancelledNotification(
            params=types.CancelledNotificationParams(requestId=self._number, reason="cancelled")
        )
        telling = asyncio.create_task(
            self._connection.session.send_notification(types.ClientNotification(word)), name="mcp-cancel"
        )
        # a second cancel must not keep it from being told
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({telling}, timeout=TELL_CANCEL_S)
        if not telling.done():
            telling.cancel()
            log.warning("mcp server does not take a cancel", server=self._connection.server)
        elif not telling.cancelled() and telling.exception() is not None:
            log.warning("mcp server was not told of a cancel", server=self._connection.server)

    def _output(
        self, result: types.CallToolResult | types.ReadResourceResult | types.GetPromptResult | ToolError
    ) -> Json:
        if isinstance(result, ToolError):
            raise result
        tool = self._params.tool
        # kept as the protocol spells it; `_meta` is for programs between us
        body = self._connection.mask.json(result.model_dump(mode="json", by_alias=True, exclude_none=True))
        body.pop("_meta", None)
        if tool.spec.get("kind") == "tool":
            body = _of_call(tool, body)
        try:
            return to_json_value(body, where=f"the result of tool '{tool.name}'")
        except ExpressionError as error:
            raise ToolError(error.message, code="tool.bad_result", hint=error.hint) from error


def _check_text(params: ToolParams) -> None:
    """Refuse what cannot be sent: a message that cannot be written would end the session of all.

    Raises:
        ToolError: `tool.bad_arguments`.
    """
    try:
        to_json_value(params.arguments, where=f"an argument of tool '{params.tool.name}'")
    except ExpressionError as error:
        raise ToolError(error.message, code="tool.bad_arguments", hint=error.hint) from error


def _request_of(params: ToolParams) -> tuple[types.ClientRequest, Any]:
    from mcp import types

    tool, context = params.tool, params.context
    meta = types.RequestParams.Meta.model_validate({KEY: context.key, **_trace_of(context.trace)})
    match tool.spec.get("kind"):
        case "resource":
            request: Any = types.ReadResourceRequest(
                params=types.ReadResourceRequestParams.model_validate({"uri": params.arguments["uri"], "_meta": meta})
            )
            return types.ClientRequest(request), types.ReadResourceResult
        case "prompt":
            given = {"name": params.arguments["name"], "arguments": params.arguments.get("arguments"), "_meta": meta}
            request = types.GetPromptRequest(params=types.GetPromptRequestParams.model_validate(given))
            return types.ClientRequest(request), types.GetPromptResult
        case _:
            given = {"name": tool.spec["tool"], "arguments": params.arguments, "_meta": meta}
            request = types.CallToolRequest(params=types.CallToolRequestParams.model_validate(given))
            return types.ClientRequest(request), types.CallToolResult


def _trace_of(trace: str) -> dict[str, str]:
    return {"traceparent": trace} if trace else {}


def _of_call(tool: ToolContract, body: dict[str, Any]) -> Any:
    """Return what a tool gave.

    Raises:
        ToolError: `tool.failed` with its own words.
    """
    content: list[dict[str, Any]] = body.get("content") or []
    text = "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
    if body.get("isError"):
        details: dict[str, Any] = {"text": clip(text, MAX_TEXT_CHARS)}
        if body.get("structuredContent") is not None:
            details["structured"] = body["structuredContent"]
        raise ToolError(
            f"tool '{tool.name}' failed: {clip(text, 500) or 'it gave no reason'}", code="tool.failed", details=details
        )
    only_text = all(part.get("type") == "text" for part in content)
    structured = body.get("structuredContent")
    if only_text:
        return text if structured is None else structured
    whole: dict[str, Any] = {"text": text, "content": content}
    return whole if structured is None else {**whole, "structured": structured}
