"""Ids of spans, made of the place they stand for: restarts, replays and new runs give the same ones. Workflow-safe."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


@dataclass(frozen=True, slots=True)
class Traceparent:
    """A place in a trace, as W3C Trace Context writes it.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: Whether the spans of this trace are kept.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def read_traceparent(text: str) -> Traceparent | None:
    """Read a traceparent; None if it is empty or none."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found[1] == _NO_TRACE or found[2] == _NO_SPAN:
        return None
    return Traceparent(found[1], found[2], bool(int(found[3], 16) & 1))


def span_id(execution_id: str, path: str) -> str:
    """Return the id of the span of a step; an empty path means the execution itself."""
    return hashlib.blake2b(f"{execution_id}\n{path}".encode(), digest_size=8).hexdigest()


def below(trace: str, execution_id: str, path: str) -> str:
    """Return the traceparent for what happens inside a step.

    Args:
        trace: Traceparent of what started the execution; empty = there is no trace.
        execution_id: The execution.
        path: Path of the step.
    """
    parent = read_traceparent(trace)
    return "" if parent is None else str(Traceparent(parent.trace_id, span_id(execution_id, path), parent.sampled))
