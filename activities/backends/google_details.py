"""Reads what Google's servers say beside the message of an error: short codes, used-up quotas, and how long to wait."""

from __future__ import annotations

import re
from typing import Any

USED_UP = "quota_of_the_day"
"""Mark of a quota that comes back next day only; Google names some seconds of waiting for it, too."""

BAD_KEY = "API_KEY_INVALID"


def google_details(problem: Any) -> tuple[set[str], float | None]:
    """Return the marks in an error's `details`, and the seconds that it asks to wait; None = it does not say.

    Args:
        problem: The object `error` of an answer, of whatever server.
    """
    marks: set[str] = set()
    wait_s: float | None = None
    details = problem.get("details") if isinstance(problem, dict) else None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if isinstance(reason := detail.get("reason"), str):
            marks.add(reason)
        if any("perday" in quota.lower() for quota in _quotas(detail)):
            marks.add(USED_UP)
        if (found := _seconds(detail.get("retryDelay"))) is not None:
            wait_s = found
    return marks, wait_s


def _quotas(detail: dict[str, Any]) -> list[str]:
    told = detail.get("violations")
    violations = [item for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    return [quota for item in violations if isinstance(quota := item.get("quotaId"), str)]


def _seconds(delay: Any) -> float | None:
    """Read a duration of protocol buffers, `17s` or `0.5s`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)s", delay) if isinstance(delay, str) else None
    return float(found.group(1)) if found else None
