"""Times as views show them. Workflow-safe."""

from __future__ import annotations

import datetime as dt


def iso_time(us: int) -> str:
    """Return Unix microseconds as RFC 3339 text in UTC."""
    seconds, rest = divmod(us, 1_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.replace(microsecond=rest).isoformat().replace("+00:00", "Z")
