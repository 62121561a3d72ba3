"""Times that callers send: within what can be reckoned with, and as Unix microseconds."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_FIRST: Final = dt.datetime(1, 1, 2, tzinfo=dt.UTC)
_LAST: Final = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)


def _within(moment: dt.datetime) -> dt.datetime:
    # a time near the ends is one of the year 0 or 10000 in another zone
    if not _FIRST <= moment <= _LAST:
        raise ValueError("a time before the year 1 or after the year 9999 in some zone")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_within)]
"""A time with its zone."""


def to_us(moment: dt.datetime) -> int:
    """Return a time in Unix microseconds."""
    return (moment - _EPOCH) // _MICROSECOND
