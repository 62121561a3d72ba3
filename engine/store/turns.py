"""Chooses which of the starts that wait are let in next: fair between tenants, then between lanes. Knows no store."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Group(NamedTuple):
    """Starts that wait and do not differ in anything that decides whose turn it is.

    Attributes:
        tenant: Their tenant.
        lane: What takes turns with others of the tenant.
        priority: 1 (first) to 5.
        task_id: Their task.
        limit_key: Their key of `concurrency`.
        single_key: Their key of `singleton`.
        busy: Empty = any number of them may run.
        task_limit: How many executions of the task may run; None = any number.
        key_limit: How many with this key may run.
        waiting: How many they are.
        oldest_us: Since when the oldest of them waits.
    """

    tenant: str
    lane: str
    priority: int
    task_id: str
    limit_key: str
    single_key: str
    busy: str
    task_limit: int | None
    key_limit: int | None
    waiting: int
    oldest_us: int


class Holder(NamedTuple):
    """Executions that hold places, and do not differ in what they are counted by; `n` is how many they are."""

    tenant: str
    task_id: str
    limit_key: str
    single_key: str
    busy: str
    n: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator permits.

    Attributes:
        running: Most executions that run in all; None = any number.
        per_tenant: Most of one tenant.
    """

    running: int | None = None
    per_tenant: int | None = None

    @property
    def are_set(self) -> bool:
        """Whether there are any."""
        return self.running is not None or self.per_tenant is not None


@dataclass(slots=True)
class Held:
    """How many places are taken, by what they are counted by."""

    total: int = 0
    tenants: Counter[str] = field(default_factory=Counter)
    tasks: Counter[tuple[str, str]] = field(default_factory=Counter)
    keys: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    single: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @staticmethod
    def of(holders: Iterable[Holder]) -> Held:
        """Count places."""
        held = Held()
        for holder in holders:
            held.add(holder, holder.n)
        return held

    def add(self, who: Holder | Group, n: int = 1) -> None:
        """Count places more."""
        self.total += n
        self.tenants[who.tenant] += n
        self.tasks[who.tenant, who.task_id] += n
        self.keys[who.tenant, who.task_id, who.limit_key] += n
        if who.busy:
            self.single[who.tenant, who.task_id, who.single_key] += n

    def blocks(self, group: Group, limits: Limits) -> str:
        """Return what keeps a group from being let in; empty = nothing.

        Returns:
            `singleton`, `key`, `task`, `tenant` or `installation`.
        """
        task = (group.tenant, group.task_id)
        if group.busy and self.single[*task, group.single_key]:
            return "singleton"
        if _is_full(self.keys[*task, group.limit_key], group.key_limit):
            return "key"
        if _is_full(self.tasks[task], group.task_limit):
            return "task"
        if _is_full(self.tenants[group.tenant], limits.per_tenant):
            return "tenant"
        return "installation" if _is_full(self.total, limits.running) else ""


def _is_full(taken: int, limit: int | None) -> bool:
    return limit is not None and taken >= limit


def is_unbound(group: Group, limits: Limits) -> bool:
    """Whether nothing bounds how many of a group run, so that it needs no turn."""
    return not (limits.are_set or group.busy or group.task_limit is not None or group.key_limit is not None)


def choose(
    groups: Iterable[Group], held: Held, limits: Limits, turns: Mapping[tuple[str, str], int], *, most: int
) -> list[Group]:
    """Return whose turn it is, one after another.

    The tenant that was served longest ago comes first; of its groups the one with the highest priority, of equal ones
    the lane that was served longest ago, and of one lane the oldest.

    Args:
        groups: What waits.
        held: The places taken; counts those that are given here as well.
        limits: The operator's limits.
        turns: When a tenant (with an empty lane) or a lane was last served, in any unit; missing = never.
        most: Most to return.
    """
    lines: dict[str, list[tuple[int, int, int, int, Group]]] = {}
    left: dict[Group, int] = {}
    for number, group in enumerate(groups):
        left[group] = group.waiting
        turn = turns.get((group.tenant, group.lane), 0)
        lines.setdefault(group.tenant, []).append((group.priority, turn, group.oldest_us, number, group))
    for line in lines.values():
        heapq.heapify(line)
    tenants = [(turns.get((name, ""), 0), min(item[2] for item in line), name) for name, line in lines.items()]
    heapq.heapify(tenants)
    clock = max(turns.values(), default=0)
    chosen: list[Group] = []
    while tenants and len(chosen) < most:
        _, oldest_us, tenant = heapq.heappop(tenants)
        line = lines[tenant]
        # what is full stays full until this is over
        while line and held.blocks(line[0][-1], limits):
            heapq.heappop(line)
        if not line:
            continue
        priority, _, since_us, number, group = heapq.heappop(line)
        chosen.append(group)
        held.add(group)
        left[group] -= 1
        clock += 1
        if left[group]:
            heapq.heappush(line, (priority, clock, since_us, number, group))
        heapq.heappush(tenants, (clock, oldest_us, tenant))
    return chosen
