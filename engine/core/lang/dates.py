"""Dates, times and durations: reading and writing them, their methods and fields. Workflow-safe.

A time always has a zone, UTC if none is given, so that nothing depends on the zone of the machine. Names of days and
months are English everywhere.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from engine.core.lang.context import Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Function, need_int, need_text, table
from engine.core.values import to_json_value

MAX_FORMAT_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 400
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
DIRECTIVES: Final = "%Y %m %d %H %I %M %S %f %p %A %a %B %b %j %y %U %W %V %G %u %w %z %Z"

_FORMAT: Final = re.compile(r"(?:[^%]|%[YmdHIMSfpAaBbjyUuwWVGzZ%])*", re.DOTALL)
_NAMED: Final[Mapping[str, Callable[[Any], str]]] = MappingProxyType(
    {
        "%A": lambda value: DAYS[value.weekday()],
        "%a": lambda value: DAYS[value.weekday()][:3],
        "%B": lambda value: MONTHS[value.month - 1],
        "%b": lambda value: MONTHS[value.month - 1][:3],
        "%p": lambda value: "PM" if getattr(value, "hour", 0) >= 12 else "AM",
        "%Y": lambda value: f"{value.year:04d}",
    }
)
"""Directives whose text depends on the machine's language or, for years before 1000, on its C library."""


def format_date(value: Any, spec: Any) -> str:
    """Return a date or time in a form such as `%Y-%m-%d`.

    Raises:
        ExpressionError: `expression.value` for a directive that is not known.
    """
    text = need_text(spec, "the date format")
    if len(text) > MAX_FORMAT_CHARS or not _FORMAT.fullmatch(text):
        raise fail("value", "unknown directive in a date format", f"there are {DIRECTIVES}")

    def named(match: re.Match[str]) -> str:
        name = _NAMED.get(match[0])
        return match[0] if name is None else name(value)

    return str(value.strftime(re.sub(r"%.", named, text, flags=re.DOTALL)))


# --- reading -------------------------------------------------------------------------------------------------------

_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%Y": r"(?P<year>[0-9]{4})",
        "%m": r"(?P<month>[0-9]{1,2})",
        "%d": r"(?P<day>[0-9]{1,2})",
        "%H": r"(?P<hour>[0-9]{1,2})",
        "%I": r"(?P<half_hour>[0-9]{1,2})",
        "%p": r"(?P<half>[AaPp][Mm])",
        "%M": r"(?P<minute>[0-9]{1,2})",
        "%S": r"(?P<second>[0-9]{1,2})",
        "%f": r"(?P<fraction>[0-9]{1,6})",
        "%B": rf"(?P<month_name>{'|'.join(MONTHS)})",
        "%b": rf"(?P<month_short>{'|'.join(name[:3] for name in MONTHS)})",
        "%A": rf"(?:{'|'.join(DAYS)})",
        "%a": rf"(?:{'|'.join(name[:3] for name in DAYS)})",
        "%y": r"(?P<short_year>[0-9]{2})",
        "%j": r"(?P<day_of_year>[0-9]{1,3})",
        "%z": r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})",
        "%Z": r"(?:UTC|GMT|Z)",
        "%%": "%",
    }
)


def parse_date(text: Any, spec: Any) -> dt.datetime:
    """Return the time that a text tells in a form such as `%d %B %Y`.

    Raises:
        ExpressionError: `expression.value` if the text has another form.
    """
    source, form = need_text(text, "the date"), need_text(spec, "the date format")
    if len(source) > MAX_TEXT_CHARS or len(form) > MAX_FORMAT_CHARS:
        raise fail("too_large", "the date or its format is too long")
    pattern, seen = "", []
    for part in re.findall(r"%.|\s+|[^%\s]+|%", form, flags=re.DOTALL):
        if part[0] != "%":
            pattern += r"\s+" if part.isspace() else re.escape(part)
        elif part == "%%" or (part in _PARTS and part not in seen):
            seen.append(part)
            pattern += _PARTS[part]
        else:
            raise fail("value", f"directive {part!r} cannot be read in a date format", f"there are {' '.join(_PARTS)}")
    match = re.fullmatch(pattern, source.strip(), flags=re.IGNORECASE)
    if match is None:
        raise fail("value", f"{source[:80]!r} does not have the form {form[:80]!r}")
    return _from_parts({name: found for name, found in match.groupdict().items() if found is not None})


def _from_parts(parts: Mapping[str, str]) -> dt.datetime:
    year = int(parts.get("year", "1900"))
    if "short_year" in parts:
        # as in Python: 69 to 99 lie in the last century
        short = int(parts["short_year"])
        year = short + (1900 if short >= 69 else 2000)
    month = int(parts.get("month", "1"))
    name = parts.get("month_name") or parts.get("month_short")
    if name:
        month = next(number for number, full in enumerate(MONTHS, 1) if full[:3].lower() == name[:3].lower())
    hour = int(parts.get("hour", "0"))
    if "half_hour" in parts:
        hour = int(parts["half_hour"]) % 12 + (12 if parts.get("half", "").lower() == "pm" else 0)
    value = dt.datetime(
        year,
        month,
        int(parts.get("day", "1")),
        hour,
        int(parts.get("minute", "0")),
        int(parts.get("second", "0")),
        int(parts.get("fraction", "0").ljust(6, "0")),
        tzinfo=_zone(parts.get("zone", "Z")),
    )
    if "day_of_year" in parts:
        value = value.replace(month=1, day=1) + dt.timedelta(days=int(parts["day_of_year"]) - 1)
    return value


def _zone(text: str) -> dt.timezone:
    if text in "Zz":
        return dt.UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return dt.timezone(dt.timedelta(minutes=minutes if text[0] == "+" else -minutes))


def read_time(text: Any) -> dt.datetime:
    """Return the time of an ISO 8601 or RFC 3339 text; without a zone it is UTC."""
    source = need_text(text, "the time")
    if len(source) > MAX_TEXT_CHARS:
        raise fail("too_large", "the text is too long for a time")
    try:
        return with_zone(dt.datetime.fromisoformat(source.strip()))
    except ValueError as error:
        hint = "such as 2026-01-02T03:04:05Z; other forms are read with datetime.datetime.strptime()"
        raise fail("value", f"{source[:80]!r} is not a time", hint) from error


def with_zone(value: dt.datetime) -> dt.datetime:
    """Return the time with a zone: UTC if it has none."""
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value


# --- methods -------------------------------------------------------------------------------------------------------


def _per_format(fuel: Fuel, args: Sequence[Any]) -> None:
    fuel.charge(5 + (len(need_text(args[1], "the date format")) >> 1))


def _per_date(fuel: Fuel, args: Sequence[Any]) -> None:
    fuel.charge(3)


def _replace(value: Any, **parts: Any) -> Any:
    for name, part in parts.items():
        need_int(part, name)
    return value.replace(**parts)


def _astimezone(value: dt.datetime, zone: Any = dt.UTC) -> dt.datetime:
    if not isinstance(zone, dt.timezone):
        hint = "write datetime.timezone.utc, or datetime.timezone(timedelta(hours=2)); names depend on the machine"
        raise wrong_type(f"a zone is needed, not {type_name(zone)}", hint)
    return value.astimezone(zone)


_DAY_PARTS: Final = ("year", "month", "day")
_TIME_PARTS: Final = ("hour", "minute", "second", "microsecond")

_COMMON: Final = (
    Function("isoformat", lambda value: str(to_json_value(value)), 0, 0, _per_date),
    Function("strftime", format_date, 1, 1, _per_format),
    Function("weekday", lambda value: value.weekday(), 0, 0),
    Function("isoweekday", lambda value: value.isoweekday(), 0, 0),
    Function("isocalendar", lambda value: list(value.isocalendar()), 0, 0),
)
DATE_METHODS: Final = table(
    *_COMMON,
    Function("timestamp", lambda value: value.timestamp(), 0, 0),
    Function("date", lambda value: value.date(), 0, 0),
    Function("replace", _replace, 0, 7, keywords=(*_DAY_PARTS, *_TIME_PARTS)),
    Function("astimezone", _astimezone, 0, 1, _per_date),
)
DAY_METHODS: Final = table(*_COMMON, Function("replace", _replace, 0, 3, keywords=_DAY_PARTS))
DATE_FIELDS: Final = frozenset({*_DAY_PARTS, *_TIME_PARTS})
DAY_FIELDS: Final = frozenset(_DAY_PARTS)

DURATION_METHODS: Final = table(Function("total_seconds", lambda value: value.total_seconds(), 0, 0))
DURATION_FIELDS: Final = frozenset({"days", "seconds", "microseconds"})
