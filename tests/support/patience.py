"""How long tests wait for what must come: only to stop hanging, so a machine may be many times slower than ours."""

from __future__ import annotations

import asyncio
import time

PATIENCE_S = 55.0
"""For one thing to happen. Shorter than the minute and more that tests let something last which must be stopped: so
"it was stopped" and "it ran to its end" stay two things."""
START_S = 120.0
"""For a process to start, or a program to run to its end."""


async def rest_since(began: float, *, least_s: float = 0.03) -> None:
    """Rest between two looks at what is waited for, four times as long as the look took.

    What is waited for often happens in this very process, and gets no time while somebody looks.

    Args:
        began: `time.monotonic()` when the look began.
        least_s: How long at least.
    """
    await asyncio.sleep(max(least_s, 4 * (time.monotonic() - began)))
