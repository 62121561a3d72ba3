"""Tells those who read along what a model writes in a call of this worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import activity

from activities.backends.base import Tell, tell_nobody
from engine.broker.publishing import TokenPublisher
from engine.core.contracts.activities import CallContext


@contextmanager
def told(tokens: TokenPublisher | None, context: CallContext, failed: int = 0) -> Iterator[Tell]:
    """Yield what takes the characters of a call; nothing of it can slow the call down or make it fail.

    Args:
        tokens: Where they go; None = nowhere.
        context: Who calls.
        failed: How many backends broke this call off before, whose characters are void.
    """
    if tokens is None:
        yield tell_nobody
        return
    info = activity.info()
    call = tokens.call(
        tenant=context.tenant,
        execution_id=context.execution_id,
        path=context.path,
        # the interpreter's id of the call is the activity's
        effect_id=info.activity_id,
        attempt=context.attempt,
        delivery=info.attempt + failed,
    )
    try:
        yield call.tell
    finally:
        call.close()
