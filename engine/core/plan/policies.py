"""The policies of a plan: attempts, time limits, checks, cache, undoing, and what holds unsaid. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.core.plan.computed import Expr, Value


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When an attempt that ended with an error is repeated.

    Attributes:
        attempts: Most attempts in all, the first included.
        initial_s: Pause after the first failure, in seconds.
        factor: What the pause is multiplied with after each failure.
        max_s: Longest pause in seconds.
        on: Error codes (or their first words) to retry on; empty = errors marked retryable.
    """

    attempts: int = 1
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 30.0
    on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold of a step's result (`_`), and what is done if it does not.

    Attributes:
        condition: What must hold.
        message: Evaluates to what is wrong otherwise.
        on_fail: `repair` sends the message back to the model, `error` ends the attempt with `check.failed`, `ask` lets
            a person accept or replace the result.
    """

    condition: Expr
    message: Value
    on_fail: Literal["repair", "error", "ask"] = "error"


@dataclass(frozen=True, slots=True)
class Cache:
    """How long the output of a step is used again for the same step and key.

    Attributes:
        ttl_s: For how many seconds.
        key: Evaluates to what else must be the same, beside the call itself.
    """

    ttl_s: float
    key: Value | None = None


@dataclass(frozen=True, slots=True)
class Modifiers:
    """What an author may add to a step: when → on_error(retry(timeout per attempt(cache))), total_timeout around all.

    Attributes:
        when: Condition; false passes the input through.
        cache: Whether the outcome of an equal call is taken instead of making the call.
        retry: The author's own retry policy, or None for the default of the step's kind.
        timeout_s: Seconds for one attempt.
        total_timeout_s: Seconds for all attempts, pauses and `on_error` together.
        on_error: Block that runs with `error` when the step failed; its last output becomes the step's output.
        checks: What must hold of the result of a prompt, a tool or an agent.
        undo: Block that runs on the step's output if, later, what surrounds the step fails or is stopped.
    """

    when: Expr | None = None
    cache: Cache | None = None
    retry: RetryPolicy | None = None
    timeout_s: float | None = None
    total_timeout_s: float | None = None
    on_error: int | None = None
    checks: tuple[Check, ...] = ()
    undo: int | None = None


NO_MODIFIERS = Modifiers()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where the author says nothing.

    It stands in each plan and not in the interpreter alone: these are timers of running executions, so a later engine
    may choose otherwise for the plans that it makes, and runs this one as it began.

    Attributes:
        retry: Policy of model calls, of reads and of idempotent tools: attempts on transient errors.
        chat_timeout_s: Longest time of one model call in seconds.
        clean_up_s: Longest time, in seconds, of the `finally` steps, and of the undoing of one block: a cancel must
            come to an end.
    """

    retry: RetryPolicy = RetryPolicy(attempts=4, initial_s=1.0, factor=2.0, max_s=30.0)
    chat_timeout_s: float = 600.0
    clean_up_s: float = 600.0


USUAL = Defaults()
