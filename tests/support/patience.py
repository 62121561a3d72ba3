"""How long tests wait for what must come: only to stop hanging, so a machine may be many times slower than ours."""

from __future__ import annotations

PATIENCE_S = 55.0
"""For one thing to happen. Shorter than the minute and more that tests let something last which must be stopped: so
"it was stopped" and "it ran to its end" stay two things."""
START_S = 120.0
"""For a process to start, or a program to run to its end."""
