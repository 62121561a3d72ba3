"""Tells an error of one execution from a Temporal or a store that does not answer, which all executions share."""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, OperationalError
from temporalio.service import RPCError, RPCStatusCode

from engine.control.describing import is_namespace_missing
from engine.core.errors import Unavailable

_AWAY = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
    }
)


def is_shared(error: Exception) -> bool:
    """Whether an error would meet any other execution as well, so that there is no use in going on with the next one.

    Args:
        error: What work on one execution raised.
    """
    if isinstance(error, RPCError):
        return error.status in _AWAY or is_namespace_missing(error)
    return isinstance(error, OSError | OperationalError | InterfaceError | Unavailable)
