"""Stage: what the model calls of an execution use up, and the limits `tokens` and `cost` of the task. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from engine.core.contracts.activities import CallLimits, Keep
from engine.core.errors import LimitExceeded
from engine.core.plan.ir import Limits
from engine.core.plan.policies import Cache
from engine.core.run.state import Branch
from engine.core.run.usage import cost_to_nano, nano_to_cost, tokens_of
from engine.core.run.walker import Walker
from engine.core.values import Json

_NANO = 1_000_000_000


def count_reply(walker: Walker, result: Mapping[str, Json]) -> None:
    """Add what a model's reply used to what the execution used.

    Args:
        walker: The walker.
        result: ChatResult as JSON; a price that is not known counts as nothing here, and is refused where it matters.
    """
    walker.state.tokens_used += tokens_of(result.get("usage"), "total_tokens") or 0
    walker.state.cost_nano_used += cost_to_nano(result.get("cost")) or 0


def check_may_spend(walker: Walker) -> None:
    """Refuse a model call that is certain to go beyond a limit.

    Raises:
        LimitExceeded: `limit.tokens` or `limit.cost`.
    """
    limits, state = walker.plan.limits, walker.state
    if limits.tokens is not None and state.tokens_used >= limits.tokens:
        raise _beyond_tokens(state.tokens_used, limits.tokens)
    most_nano = cost_limit_of(limits)
    if most_nano is not None and state.cost_nano_used >= most_nano:
        raise _beyond_cost(state.cost_nano_used, most_nano)


def check_spent(walker: Walker) -> None:
    """Refuse to go on after a reply that went beyond a limit.

    Raises:
        LimitExceeded: `limit.tokens` or `limit.cost`.
    """
    limits, state = walker.plan.limits, walker.state
    if limits.tokens is not None and state.tokens_used > limits.tokens:
        raise _beyond_tokens(state.tokens_used, limits.tokens)
    most_nano = cost_limit_of(limits)
    if most_nano is not None and state.cost_nano_used > most_nano:
        raise _beyond_cost(state.cost_nano_used, most_nano)


def limits_of_calls(walker: Walker) -> CallLimits | None:
    """Return what a model call is told of the limits, so that it is compared before it is made; None = there are none.

    Args:
        walker: The walker.
    """
    limits, state = walker.plan.limits, walker.state
    most_nano = cost_limit_of(limits)
    if limits.tokens is None and most_nano is None:
        return None
    return CallLimits(
        tokens=limits.tokens,
        cost_nano=most_nano,
        tokens_used=state.tokens_used,
        cost_nano_used=state.cost_nano_used,
    )


def cost_limit_of(limits: Limits) -> int | None:
    """Return the limit `cost` in thousand-millionths of a dollar."""
    return None if limits.cost_usd is None else int(Decimal(repr(limits.cost_usd)) * _NANO)


def keep_of(walker: Walker, branch: Branch, cache: Cache | None, path: str, given: Json, attempt: int) -> Keep | None:
    """Return whether the outcome of a step's call may be a kept one.

    Args:
        walker: The walker.
        branch: The branch of the step.
        cache: The modifier of the step.
        path: The step's path.
        given: Its input.
        attempt: Number of the attempt: what the first one got did not do, so that a later one asks anew.

    Raises:
        RunError: `expression.…` if the key cannot be computed.
    """
    if cache is None:
        return None
    key = None if cache.key is None else walker.evaluator.evaluate(cache.key, branch, f"{path}/cache", given)
    return Keep(ttl_s=cache.ttl_s, key=key, is_fresh=attempt > 1)


def _beyond_tokens(used: int, limit: int) -> LimitExceeded:
    return LimitExceeded(
        f"the execution has used {used} of its {limit} tokens",
        code="limit.tokens",
        hint="raise limits.tokens of the task",
    )


def _beyond_cost(used_nano: int, limit_nano: int) -> LimitExceeded:
    return LimitExceeded(
        f"the model calls of the execution have cost ${nano_to_cost(used_nano)} of its ${nano_to_cost(limit_nano)}",
        code="limit.cost",
        hint="raise limits.cost of the task, or use a cheaper model",
    )
