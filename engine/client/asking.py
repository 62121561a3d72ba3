"""What callers may say of executions, times and sums, and how it is written into a query."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypedDict, get_args

from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.core.kinds import ExecutionStatus

Status = (
    ExecutionStatus
    | Literal["queued", "starting", "running", "awaiting_input", "paused", "succeeded", "failed", "cancelled"]
)
Stream = Literal["transitions", "events", "status", "tokens"]
UsageBy = Literal["model", "backend", "task", "agent", "day", "label"]
Time = dt.datetime | str
"""A time, RFC 3339 text, or how long ago: `30m`, `2h`, `7d`. One without a zone is of this machine."""

_SPAN = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIMES = ("_after", "_before")


class Filters(TypedDict, total=False):
    """Which executions are meant; what is left out does not matter.

    `label` asks for all of several, `status` for any; in `metadata`, a dot in a name goes into an object
    (`{"order.id": "A1"}`); `error_code="tool.*"` means all codes that begin so.
    """

    task_id: str
    task_name: str
    agent_id: str
    parent_id: str
    status: Status | Sequence[Status]
    label: str | Sequence[str]
    metadata: Mapping[str, Any]
    created_after: Time
    created_before: Time
    updated_after: Time
    updated_before: Time
    closed_after: Time
    closed_before: Time
    error_code: str
    model: str
    backend: str
    actor: str
    cost_min: Decimal | float
    cost_max: Decimal | float
    stuck: bool
    root_only: bool
    sort_by: Literal["created_at", "updated_at", "closed_at", "cost", "total_tokens"]
    direction: Literal["asc", "desc"]


def queries(filters: Filters) -> dict[str, Any]:
    """Return filters as the queries of a list.

    Raises:
        InvalidInput: `request.invalid` for a name that is no filter, and for a time or metadata that are none.
    """
    params: dict[str, Any] = {}
    for name, value in dict[str, Any](filters).items():
        check_filter(name)
        if value is None:
            continue
        if name == "metadata":
            params["metadata_filter"] = json.dumps(nested(filters["metadata"]))
        elif name.endswith(_TIMES):
            params[name] = moment_text(value, name)
        elif isinstance(value, bool):
            params[name] = "true" if value else "false"
        elif isinstance(value, str) or not isinstance(value, Sequence):
            params[name] = str(value)
        else:
            params[name] = [str(item) for item in value]
    return params


def check_filter(name: str) -> None:
    """Refuse what is no filter.

    Raises:
        InvalidInput: `request.invalid`.
    """
    if name not in Filters.__annotations__:
        hint = did_you_mean(name, Filters.__annotations__) or f"filters are {', '.join(Filters.__annotations__)}"
        raise InvalidInput(f"there is no filter '{name}'", code="request.invalid", hint=hint)


def check_stream(what: str) -> None:
    """Refuse what is no stream.

    Raises:
        InvalidInput: `request.invalid`.
    """
    if what not in get_args(Stream):
        raise InvalidInput(
            f"there is no stream '{what}'", code="request.invalid", hint=f"streams are {', '.join(get_args(Stream))}"
        )


def nested(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata whose dotted names have become objects: {"order.id": 1} means {"order": {"id": 1}}.

    Raises:
        InvalidInput: `request.invalid` if a name leads into a value that is no object.
    """
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        place = found
        *path, last = str(key).split(".")
        for name in path:
            inner = place.setdefault(name, {})
            if not isinstance(inner, dict):
                raise InvalidInput(f"metadata {key!r} leads into a value that is no object", code="request.invalid")
            place = inner
        before = place.get(last)
        # a copy: what the caller gave is not changed by the next name
        place[last] = {**(before if isinstance(before, dict) else {}), **value} if isinstance(value, Mapping) else value
    return found


def moment(value: Time, name: str) -> dt.datetime:
    """Return a point in time.

    Args:
        value: What the caller gave.
        name: What the caller calls it, for the message.

    Raises:
        InvalidInput: `request.invalid` if it is none.
    """
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC)
    text = str(value).strip()
    try:
        spans = _SPAN.findall(text)
        if spans and not _SPAN.sub("", text).strip():
            ago = sum((dt.timedelta(**{_UNITS[unit]: int(number)}) for number, unit in spans), dt.timedelta())
            return dt.datetime.now(dt.UTC) - ago
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name}={value!r} is no time",
            code="request.invalid",
            hint="give a datetime, RFC 3339 text (2026-11-22T08:00:00Z), or how long ago: 30m, 2h, 7d",
        ) from error


def moment_text(value: Time | None, name: str) -> str | None:
    """Return a point in time as RFC 3339 text in UTC; None stays None.

    Raises:
        InvalidInput: `request.invalid` if it is none.
    """
    return None if value is None else moment(value, name).isoformat().replace("+00:00", "Z")
