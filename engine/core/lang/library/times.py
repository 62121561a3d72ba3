"""Times of the library: now, timedelta, the modules datetime and time, on the workflow clock. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from engine.core.lang.context import Frame
from engine.core.lang.dates import format_date, parse_date, read_time
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Doc, Function, module, need_int, need_number, need_text

STRPTIME_UNITS: Final = 60
"""A pattern is built and matched for each call."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _now(frame: Frame) -> dt.datetime:
    return frame.context.now


def _now_in(frame: Frame, tz: Any = dt.UTC) -> dt.datetime:
    return frame.context.now.astimezone(_zone(tz))


def _today(frame: Frame) -> dt.date:
    return frame.context.now.date()


def _timedelta(*numbers: Any, **parts: Any) -> dt.timedelta:
    for part in (*numbers, *parts.values()):
        if not isinstance(part, (int, float)):
            raise wrong_type(f"timedelta() takes numbers, not {type_name(part)}")
    return dt.timedelta(*numbers, **parts)


def _zone(value: Any) -> dt.timezone:
    if isinstance(value, dt.timezone):
        return value
    hint = "write datetime.timezone.utc, or datetime.timezone(timedelta(hours=2)); names depend on the machine"
    raise wrong_type(f"a zone is needed, not {type_name(value)}", hint)


def _timezone(offset: Any) -> dt.timezone:
    if not isinstance(offset, dt.timedelta):
        raise wrong_type(f"a zone is made of a duration, not of {type_name(offset)}", "such as timedelta(hours=2)")
    return dt.timezone(offset)


def _datetime(
    year: Any,
    month: Any,
    day: Any,
    hour: Any = 0,
    minute: Any = 0,
    second: Any = 0,
    microsecond: Any = 0,
    tzinfo: Any = dt.UTC,
) -> dt.datetime:
    for part in (year, month, day, hour, minute, second, microsecond):
        need_int(part, "a part of a time")
    return dt.datetime(year, month, day, hour, minute, second, microsecond, _zone(tzinfo))


def _date(year: Any, month: Any, day: Any) -> dt.date:
    return dt.date(need_int(year, "the year"), need_int(month, "the month"), need_int(day, "the day"))


def _fromtimestamp(seconds: Any, tz: Any = dt.UTC) -> dt.datetime:
    # counted from 1970, since the C library's limits differ from machine to machine
    return (_EPOCH + dt.timedelta(seconds=need_number(seconds, "the seconds"))).astimezone(_zone(tz))


def _date_of(text: Any) -> dt.date:
    source = need_text(text, "the date")
    try:
        return dt.date.fromisoformat(source.strip())
    except ValueError as error:
        raise fail("value", f"{source[:80]!r} is not a date", "such as 2026-01-02") from error


def _strptime(frame: Frame, text: Any, format: Any) -> dt.datetime:
    frame.fuel.charge(STRPTIME_UNITS)
    return parse_date(text, format)


def _time(frame: Frame) -> float:
    return frame.context.now.timestamp()


def _strftime(frame: Frame, spec: Any) -> str:
    frame.fuel.charge(5 + (len(need_text(spec, "the date format")) >> 1))
    return format_date(frame.context.now, spec)


# --- the tables ----------------------------------------------------------------------------------------------------

_DURATIONS: Final = ("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks")

NOW: Final = Function(
    "now",
    _now,
    0,
    0,
    framed=True,
    doc=Doc("now()", "The time of the workflow, in UTC; the same again in a replay.", "now() == now()", True),
)
TIMEDELTA: Final = Function(
    "timedelta",
    _timedelta,
    0,
    7,
    keywords=_DURATIONS,
    doc=Doc(
        "timedelta(days=0, hours=0, minutes=0, seconds=0, …)",
        "A duration; it is added to and taken from times.",
        "timedelta(hours=1, minutes=30).total_seconds()",
        5400.0,
    ),
)

_DATETIME_CLASS: Final = module(
    "datetime.datetime",
    Function(
        "datetime.datetime.fromisoformat",
        read_time,
        1,
        1,
        doc=Doc(
            "datetime.datetime.fromisoformat(text)",
            "The time of an RFC 3339 text; without a zone it is UTC.",
            "datetime.datetime.fromisoformat('2026-01-02T03:04:05+02:00').hour",
            3,
        ),
    ),
    Function(
        "datetime.datetime.fromtimestamp",
        _fromtimestamp,
        1,
        2,
        keywords=("tz",),
        doc=Doc(
            "datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)",
            "The time so many seconds after 1970 began.",
            "datetime.datetime.fromtimestamp(0)",
            "1970-01-01T00:00:00Z",
        ),
    ),
    Function(
        "datetime.datetime.now",
        _now_in,
        0,
        1,
        keywords=("tz",),
        framed=True,
        doc=Doc(
            "datetime.datetime.now(tz=datetime.timezone.utc)",
            "As now(), in another zone if wanted.",
            "datetime.datetime.now() == now()",
            True,
        ),
    ),
    Function(
        "datetime.datetime.strptime",
        _strptime,
        2,
        2,
        framed=True,
        doc=Doc(
            "datetime.datetime.strptime(text, format)",
            "The time that a text tells in that form; names are English.",
            "datetime.datetime.strptime('2 Jan 2026', '%d %b %Y')",
            "2026-01-02T00:00:00Z",
        ),
    ),
    Function(
        "datetime.datetime.utcnow",
        _now,
        0,
        0,
        framed=True,
        doc=Doc("datetime.datetime.utcnow()", "As now().", "datetime.datetime.utcnow() == now()", True),
    ),
    call=Function(
        "datetime.datetime",
        _datetime,
        3,
        8,
        keywords=("hour", "minute", "second", "microsecond", "tzinfo"),
        doc=Doc(
            "datetime.datetime(year, month, day, hour=0, minute=0, second=0, microsecond=0, tzinfo=…)",
            "A time, in UTC if no zone is given.",
            "datetime.datetime(2026, 1, 2, 3, minute=4)",
            "2026-01-02T03:04:00Z",
        ),
    ),
)

_DATE_CLASS: Final = module(
    "datetime.date",
    Function(
        "datetime.date.fromisoformat",
        _date_of,
        1,
        1,
        doc=Doc(
            "datetime.date.fromisoformat(text)",
            "The day of a text such as 2026-01-02.",
            "datetime.date.fromisoformat('2026-01-02').isoweekday()",
            5,
        ),
    ),
    Function(
        "datetime.date.today",
        _today,
        0,
        0,
        framed=True,
        doc=Doc("datetime.date.today()", "The day of now(), in UTC.", "datetime.date.today() == now().date()", True),
    ),
    call=Function(
        "datetime.date",
        _date,
        3,
        3,
        doc=Doc("datetime.date(year, month, day)", "A day.", "datetime.date(2026, 1, 2)", "2026-01-02"),
    ),
)

_TIMEZONE_CLASS: Final = module(
    "datetime.timezone",
    call=Function(
        "datetime.timezone",
        _timezone,
        1,
        1,
        doc=Doc(
            "datetime.timezone(duration)",
            "A zone with a fixed distance to UTC; datetime.timezone.utc is UTC itself.",
            "datetime.datetime.fromtimestamp(0, datetime.timezone(timedelta(hours=2)))",
            "1970-01-01T02:00:00+02:00",
        ),
    ),
    utc=dt.UTC,
)

DATETIME: Final = module(
    "datetime",
    Function(
        "datetime.timedelta",
        _timedelta,
        0,
        7,
        keywords=_DURATIONS,
        doc=Doc(
            "datetime.timedelta(days=0, hours=0, …)",
            "As timedelta.",
            "datetime.date(2026, 1, 1) + datetime.timedelta(days=31)",
            "2026-02-01",
        ),
    ),
    UTC=dt.UTC,
    date=_DATE_CLASS,
    datetime=_DATETIME_CLASS,
    timezone=_TIMEZONE_CLASS,
)

TIME: Final = module(
    "time",
    Function(
        "time.strftime",
        _strftime,
        1,
        1,
        framed=True,
        doc=Doc(
            "time.strftime(format)",
            "now() in a form such as %Y-%m-%d.",
            "time.strftime('%Y') == str(now().year)",
            True,
        ),
    ),
    Function(
        "time.time",
        _time,
        0,
        0,
        framed=True,
        doc=Doc("time.time()", "The seconds of now() since 1970.", "time.time() == now().timestamp()", True),
    ),
)
