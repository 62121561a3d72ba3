"""The protocol by which the interpreter asks the world for what is not pure, and what comes back. Workflow-safe.

The interpreter never waits: it starts effects by id and is told later how they ended. So the same walk runs in a
Temporal workflow, in memory (tests, dry run) and in replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.core.contracts.activities import ChatParams, ToolParams
from engine.core.contracts.children import ChildParams, ResolveParams
from engine.core.contracts.lookups import EmbedParams, SearchParams
from engine.core.contracts.patches import Patch
from engine.core.errors import RunError
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to the outside.

    Attributes:
        id: Effect id, unique among the calls that are under way.
        params: What to call.
        summary: What a person would call it, at most 200 characters.
        repeatable: Whether it may be made again when its outcome was lost.
        timeout_s: Longest time of one call in seconds.
        tool: The tool whose call runs a task; empty = it is no such call.
    """

    id: str
    params: ChatParams | ToolParams | ResolveParams | ChildParams | EmbedParams | SearchParams
    summary: str
    repeatable: bool
    timeout_s: float
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Ok:
    """A call returned, or a branch ended with a value.

    Attributes:
        value: What came back.
        took_s: How long a model or a tool took.
        deliveries: How often Temporal handed the call to a worker.
        cached: Whether it was kept from an equal call.
    """

    value: Json
    took_s: float = 0.0
    deliveries: int = 1
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A call, or a branch, ended with an error."""

    error: RunError


@dataclass(frozen=True, slots=True)
class Stopped:
    """A call, or a branch, ended because the interpreter cancelled it."""


CallOutcome = Ok | Failed | Stopped


class Effects(Protocol):
    """What the interpreter needs from its surroundings; none of these methods may block or raise."""

    def now_us(self) -> int:
        """Return the time of the present activation, in Unix microseconds; constant within an activation."""
        ...

    def emit(self, seq: int, event_type: str, body: str) -> None:
        """Take an event: its number in the execution, the value of its EventType and the JSON text of its body."""
        ...

    def start_call(self, call: Call) -> None:
        """Start a call; `Machine.call_done` is called once with its outcome."""
        ...

    def cancel_call(self, call_id: str) -> None:
        """Ask for the end of a call; its outcome is reported all the same."""
        ...

    def start_timer(self, timer_id: str, deadline_us: int, summary: str) -> None:
        """Call `Machine.timer_fired` at the deadline."""
        ...

    def cancel_timer(self, timer_id: str) -> None:
        """Forget a timer; it must not fire afterwards."""
        ...

    def patched(self, patch: Patch) -> bool:
        """Whether this run takes the new way of a patch, and not the one that its history began with."""
        ...

    def set_paused(self, *, paused: bool) -> None:
        """Learn whether the execution stands still now, whatever it waits for (for lists by status)."""
        ...

    def set_waiting(self, wait_ids: tuple[str, ...]) -> None:
        """Learn which waits are open now, the oldest first (for lists by status and for Temporal's own UI)."""
        ...
