"""What starts executions of a task in Python, and which are let in: the `dispatch` block beside its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.author.step import part
from engine.author.values import Condition, Duration, Value, given, plain, seconds
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """An event that starts an execution.

    Attributes:
        event: Name of the event.
        if_: An expression that must hold; `_` is the event's value.
        input: The input, made of the event's value `_`; None = that value.
    """

    event: str
    if_: Condition | None = None
    input: Value = None

    def plain(self) -> dict[str, Json]:
        """Return the trigger as a task file has it."""
        return {
            "event": plain(self.event, "event"),
            **given(**{"if": plain(self.if_, "if_"), "input": plain(self.input, "input")}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Times at which an execution starts.

    Attributes:
        at: Minute, hour, day of the month, month, day of the week, such as `30 8 * * mon-fri`; or a word such as
            `@daily`.
        timezone: Name of the time zone, such as `Europe/Berlin`; None = UTC.
        input: The input; None = {}.
    """

    at: str
    timezone: str | None = None
    input: Value = None

    def plain(self) -> dict[str, Json]:
        """Return the cron as a task file has it."""
        return {
            "at": plain(self.at, "at"),
            **given(timezone=plain(self.timezone, "timezone"), input=plain(self.input, "input")),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Debounce:
    """Of starts in quick succession only the last one counts.

    Attributes:
        wait: How long nothing must have come.
        at_most: After which time one starts all the same.
        key: What starts must have in common to count together; `_` is the input.
    """

    wait: Duration
    at_most: Duration | None = None
    key: Condition | None = None

    def plain(self) -> dict[str, Json]:
        """Return the rule as a task file has it."""
        return {
            "wait": seconds(self.wait, "wait"),
            **given(
                at_most=None if self.at_most is None else seconds(self.at_most, "at_most"), key=plain(self.key, "key")
            ),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Starts are gathered into one execution, whose input is the list of theirs.

    Attributes:
        wait: How long the first one waits for others.
        size: How many are enough; None = 100.
        key: As of `Debounce`.
    """

    wait: Duration
    size: int | None = None
    key: Condition | None = None

    def plain(self) -> dict[str, Json]:
        """Return the rule as a task file has it."""
        return {
            "wait": seconds(self.wait, "wait"),
            **given(size=plain(self.size, "size"), key=plain(self.key, "key")),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Singleton:
    """At most one execution runs at a time.

    Attributes:
        busy: What becomes of a start while one runs: it waits (`queue`), it is dropped (`skip`), or it takes the other
            one's place (`replace`).
        key: As of `Debounce`.
    """

    busy: Literal["queue", "skip", "replace"] = "queue"
    key: Condition | None = None

    def plain(self) -> dict[str, Json]:
        """Return the rule as a task file has it."""
        return {"busy": plain(self.busy, "busy"), **given(key=plain(self.key, "key"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """So many executions run at a time; others wait for their turn.

    Attributes:
        limit: Of the task; None = any number.
        per_key: Of those with the same key.
        key: What `per_key` counts by; `_` is the input.
    """

    limit: int | None = None
    per_key: int | None = None
    key: Condition | None = None

    def plain(self) -> dict[str, Json]:
        """Return the rule as a task file has it."""
        return given(
            limit=plain(self.limit, "limit"), per_key=plain(self.per_key, "per_key"), key=plain(self.key, "key")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """How executions are started. It stands beside the plan: changing it makes no new plan.

    Attributes:
        triggers: Events that start an execution.
        cron: Times at which one starts.
        debounce: See `Debounce`.
        collect: See `Collect`.
        singleton: See `Singleton`.
        concurrency: See `Concurrency`; a number alone is its `limit`.
        priority: 1 comes first, 5 last.
        labels: Words by which all executions of the task are found.
    """

    triggers: Sequence[Trigger] = ()
    cron: Sequence[Cron | str] = ()
    debounce: Debounce | None = None
    collect: Collect | None = None
    singleton: Singleton | None = None
    concurrency: Concurrency | int | None = None
    priority: int | None = None
    labels: Sequence[str] = ()

    def plain(self) -> dict[str, Json]:
        """Return the block as a task file has it."""
        admission = given(
            debounce=None if self.debounce is None else part(self.debounce, Debounce, "debounce"),
            collect=None if self.collect is None else part(self.collect, Collect, "collect"),
            singleton=None if self.singleton is None else part(self.singleton, Singleton, "singleton"),
            concurrency=_concurrency(self.concurrency),
        )
        members: dict[str, Any] = given(
            triggers=[part(item, Trigger, "triggers") for item in self.triggers] or None,
            cron=[_cron(item) for item in self.cron] or None,
            admission=admission or None,
            priority=plain(self.priority, "priority"),
            labels=plain(self.labels, "labels") or None,
        )
        return members


def _concurrency(rule: Concurrency | int | None) -> Json:
    if rule is None or isinstance(rule, int):
        return rule
    return part(rule, Concurrency, "concurrency")


def _cron(item: Cron | str) -> Json:
    return plain(item, "cron") if isinstance(item, str) else part(item, Cron, "cron")
