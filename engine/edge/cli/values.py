"""Reads what users give on the command line: JSON values, files, durations; and prints times for people."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.core.errors import InvalidInput
from engine.core.values import duration_seconds
from engine.source.python_paths import split_name


def parse_json(text: str, *, option: str) -> Any:
    """Read a JSON value.

    Args:
        text: The text.
        option: The option it came from, for the message.

    Returns:
        The value.

    Raises:
        InvalidInput: `input.not_json` with the place of the mistake.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InvalidInput(
            f"{option} is not JSON: {error}",
            code="input.not_json",
            hint="""give JSON, such as '{"name": "Ada"}'; a text needs its own quotes: '"hello"'""",
        ) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def read_input(text: str | None, file: Path | None) -> Any:
    """Return the value of `--input` or `--input-file`; an empty object if neither is given.

    Raises:
        InvalidInput: Both are given, or the text is not JSON.
    """
    if text is not None and file is not None:
        raise InvalidInput("--input and --input-file exclude each other", code="usage", hint="give one of them")
    if file is not None:
        return parse_json(read_file(file), option=f"--input-file {file}")
    return {} if text is None else parse_json(text, option="--input")


def metadata_of(pairs: Sequence[str], text: str | None) -> dict[str, Any]:
    """Return the metadata that `--metadata` and `--meta` give.

    Args:
        pairs: KEY=VALUE; a dot in the key goes into an object, and a value is JSON if it can be, else text.
        text: A JSON object; None = none.

    Raises:
        InvalidInput: `usage` for a pair that is none, `input.not_json` for a text that is no JSON object.
    """
    found = {} if text is None else parse_json(text, option="--metadata")
    if not isinstance(found, dict):
        raise InvalidInput("--metadata is no JSON object", code="input.not_json", hint="""such as '{"customer": 42}'""")
    for pair in pairs:
        key, value = key_and_value(pair)
        *path, last = key.split(".")
        place = found
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise InvalidInput(f"--meta {pair!r} goes into a value that is no object", code="usage")
        place[last] = json_or_text(value)
    return found


def key_and_value(pair: str) -> tuple[str, str]:
    """Return both sides of KEY=VALUE.

    Raises:
        InvalidInput: `usage` if it is none.
    """
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--meta {pair!r} is no KEY=VALUE", code="usage", hint="such as --meta customer=42")
    return key, value


def json_or_text(text: str) -> Any:
    """Return a JSON value, or the text itself if it is none."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def read_file(path: Path) -> str:
    """Read a text file; `-` is standard input, and of `task.py:name` the file counts.

    Raises:
        InvalidInput: `file.unreadable` with the reason.
    """
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return split_name(path)[0].read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text", code="file.unreadable", hint="save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", code="file.unreadable") from error


def segment(text: str) -> str:
    """Return a text as one segment of a URL path, so that no id a user types can lead elsewhere."""
    return quote(text, safe="")


def moment(text: str | None) -> str:
    """Return an RFC 3339 time as local time to the second; `-` for none."""
    if not text:
        return "-"
    return parse_moment(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(text: str) -> str:
    """Return an RFC 3339 time as local time of day with milliseconds."""
    return parse_moment(text).astimezone().strftime("%H:%M:%S.%f")[:-3]


def parse_moment(text: str) -> dt.datetime:
    """Read an RFC 3339 time."""
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


def point_in_time(text: str, *, option: str) -> str:
    """Return a point in time as RFC 3339 text in UTC; empty text stays empty.

    Args:
        text: `2h`, `1d 12h` (so long ago), or a time; one without an offset is local.
        option: The option it came from, for the message.

    Raises:
        InvalidInput: `usage` if it is neither.
    """
    # imported late: most commands name no time
    from engine.client.asking import moment_text

    if not text:
        return ""
    try:
        return moment_text(text, option) or ""
    except InvalidInput as error:
        raise InvalidInput(
            f"{option} {text!r} is no time", code="usage", hint="such as 30m, 2h, 7d or 2026-11-22T08:00:00Z"
        ) from error


def span_of(text: str) -> float | str | None:
    """Return a number of seconds, or a duration such as `15m`, as the API takes them; None for other texts."""
    if text.replace(".", "", 1).isdigit():
        return float(text)
    return None if duration_seconds(text) is None else text


def future_time(text: str, option: str) -> str:
    """Return a point in time as RFC 3339 text; one without a zone is of this machine.

    Raises:
        InvalidInput: `usage` if it is none.
    """
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(
            f"{option} {text!r} is no time", code="usage", hint="write it as 2026-12-24T18:00, in local time"
        ) from error


def duration(seconds: float) -> str:
    """Return a time span for people: `40 ms`, `3.2 s`, `2 min 05 s`, `3 h 10 min`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clip(value: Any, width: int) -> str:
    """Return a value on one line, cut to a width."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def clip_start(text: str, width: int) -> str:
    """Return the end of a text on one line, cut to a width."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"…{text[-max(0, width - 1) :]}"
