"""Exit codes of the command line, and which one an error means."""

from __future__ import annotations

from enum import IntEnum

from engine.core.errors import DefinitionError, EngineError, InvalidInput, NotFound, Unavailable


class Exit(IntEnum):
    """What the exit code of `everstep` says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    TIMEOUT = 124
    INTERRUPTED = 130


_BY_CLASS: tuple[tuple[type[EngineError], Exit], ...] = (
    (DefinitionError, Exit.USAGE),
    (InvalidInput, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (Unavailable, Exit.UNREACHABLE),
)

_BY_STATUS = {"succeeded": Exit.OK, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}


class TimedOut(EngineError):
    """The user's --timeout passed; the execution goes on."""

    default_code = "timeout"


def exit_of(error: EngineError) -> Exit:
    """Return the exit code that an error means."""
    if isinstance(error, TimedOut):
        return Exit.TIMEOUT
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    return Exit.FAILED


def exit_of_status(status: str) -> Exit:
    """Return the exit code that the end of an execution means; FAILED for a status that is not an end."""
    return _BY_STATUS.get(status, Exit.FAILED)
