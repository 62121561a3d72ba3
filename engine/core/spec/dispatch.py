"""The `dispatch` block as its author wrote it: what starts executions of a task, and which are let in. Workflow-safe.

It stands beside the plan: changing it changes no plan. Durations are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.core.spec.nodes import Node, ScalarNode

Busy = Literal["queue", "skip", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """An event that starts an execution.

    Attributes:
        event: Name of the event.
        condition: What must hold of the event's value `_`; None = always.
        input: The input, made of the event's value `_`; None = that value.
        path: Its place in the structure.
    """

    event: ScalarNode
    condition: Node | None = None
    input: Node | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronSpec:
    """Times at which executions start.

    Attributes:
        at: The five fields of a cron, or a word such as `@daily`.
        timezone: Name of a time zone; None = UTC.
        input: The input; None = {}.
        path: Its place in the structure.
    """

    at: ScalarNode
    timezone: ScalarNode | None = None
    input: Node | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceSpec:
    """Of starts in quick succession only the last one counts.

    Attributes:
        wait_s: How long nothing must have come.
        at_most_s: After which time one starts all the same; None = never.
        key: What starts must have in common, made of the input `_`; None = nothing.
    """

    wait_s: float
    at_most_s: float | None = None
    key: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSpec:
    """Starts are gathered into one execution, whose input is the list of theirs.

    Attributes:
        wait_s: How long the first one waits for others.
        size: How many are enough not to wait any longer.
        key: As of `DebounceSpec`.
    """

    wait_s: float
    size: int = 100
    key: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SingletonSpec:
    """At most one execution runs at a time.

    Attributes:
        busy: What becomes of a start while one runs: it waits, it is dropped, or it takes the other's place.
        key: As of `DebounceSpec`.
    """

    busy: Busy = "queue"
    key: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencySpec:
    """So many executions run at a time, others wait for their turn.

    Attributes:
        limit: Of the task; None = any number.
        per_key: Of those with the same key; None = any number.
        key: What those have in common that `per_key` counts, made of the input `_`.
    """

    limit: int | None = None
    per_key: int | None = None
    key: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSpec:
    """`dispatch`.

    Attributes:
        triggers: Events that start an execution.
        crons: Times at which one starts.
        debounce: See `DebounceSpec`.
        collect: See `CollectSpec`.
        singleton: See `SingletonSpec`.
        concurrency: See `ConcurrencySpec`.
        priority: 1 (first) to 5 (last); None = 3.
        labels: Words by which all executions of the task are found.
    """

    triggers: tuple[TriggerSpec, ...] = ()
    crons: tuple[CronSpec, ...] = ()
    debounce: DebounceSpec | None = None
    collect: CollectSpec | None = None
    singleton: SingletonSpec | None = None
    concurrency: ConcurrencySpec | None = None
    priority: int | None = None
    labels: tuple[str, ...] = ()
