"""How a call of a Python tool begins and ends; the same in a worker and in tests."""

from __future__ import annotations

import dataclasses
import inspect
import re
import traceback
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from engine.core.contracts.activities import ToolParams
from engine.core.contracts.failures import clip
from engine.core.errors import ExpressionError, ToolError
from engine.core.values import Json, to_json_value
from engine.tooling.definition import MAX_MESSAGE_CHARS, Tool, ToolContext

_OWN_CODE = re.compile(r"tool\.\S+\Z")


def call_arguments(
    tool: Tool[..., Any], params: ToolParams, report: Callable[[str | float], None] | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of a call.

    Args:
        tool: The tool.
        params: The call.
        report: Takes what the tool says of its progress.

    Raises:
        ToolError: `tool.bad_arguments` if they do not fit the function.
    """
    try:
        return tool.bind(params.arguments, ToolContext.of(params.context, report))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "/".join(str(part) for part in first["loc"]) or "arguments"
        raise ToolError(
            f"tool '{tool.name}' does not take these arguments: {place}: {clip(first['msg'], MAX_MESSAGE_CHARS)}",
            code="tool.bad_arguments",
        ) from error


def call_result(tool: Tool[..., Any], returned: Any) -> Json:
    """Return as JSON what a function returned: pydantic models and dataclasses are dumped, wherever they stand.

    Raises:
        ToolError: `tool.bad_result` if JSON cannot hold it.
    """
    try:
        return to_json_value(_plain(returned), where=f"the result of tool '{tool.name}'")
    except (ExpressionError, RecursionError) as error:
        raise ToolError(
            str(error) or f"the result of tool '{tool.name}' is nested without end",
            code="tool.bad_result",
            hint="return text, numbers, lists, objects, dataclasses or pydantic models",
        ) from error


def call_failure(tool: Tool[..., Any], raised: BaseException) -> ToolError:
    """Return the error of a call whose function raised something.

    Args:
        tool: The tool.
        raised: A ToolError with a code of its own below `tool.` keeps it; everything else becomes `tool.failed`.
    """
    told = clip(raised.message if isinstance(raised, ToolError) else str(raised), MAX_MESSAGE_CHARS)
    if isinstance(raised, ToolError) and _OWN_CODE.match(raised.code):
        # the tool's own words, but bounded, and with details that can travel
        try:
            details = to_json_value(raised.details)
        except ExpressionError as reason:
            details = {"dropped": reason.message}
        return ToolError(told, code=raised.code, hint=raised.hint, retryable=raised.retryable, details=details)
    facts = {
        "exception": type(raised).__name__,
        "traceback": clip("".join(_frames(tool, raised)[-5:])),
    }
    if isinstance(raised, ToolError):
        # other first words belong to other speakers: a tool must not pass for a limit or a model
        code = clip(str(raised.code), 100)
        return ToolError(
            f"tool '{tool.name}' raised an error with the code '{code}', which does not begin with 'tool.': {told}",
            code="tool.failed",
            hint=f"raise ToolError with a code such as 'tool.{re.sub(r'[^A-Za-z0-9_]+', '_', code)}'",
            details={**facts, "code": code},
        )
    return ToolError(f"tool '{tool.name}' failed: {type(raised).__name__}: {told}", code="tool.failed", details=facts)


def _frames(tool: Tool[..., Any], raised: BaseException) -> list[str]:
    """Return the frames of a traceback as text, from the tool's own function on: those around it are ours."""
    frames = list(traceback.walk_tb(raised.__traceback__))
    own = inspect.unwrap(tool.function).__code__
    first = next((number for number, (frame, _) in enumerate(frames) if frame.f_code is own), 0)
    return traceback.format_list(traceback.StackSummary.extract(iter(frames)))[first:]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value
