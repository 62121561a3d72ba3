"""A step of a running execution and the bodies that it runs: what the tree of `run` and `describe` is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.core.run.usage import nano_to_cost

FANS = ("map_reduce", "parallel", "race", "foreach", "while", "until", "listen")
"""Kinds whose bodies are counted, not listed."""
UNKNOWN = object()
"""Output of a step that has none."""


class State(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Step:
    """One step.

    Attributes:
        path: Its path, such as `main.3.then.0`.
        title: What a person calls it.
        kind: Its step kind; empty until an event tells it.
        state: Where it stands.
        started_s: Unix seconds at which it started; 0 = not yet.
        ended_s: Unix seconds at which it ended; 0 = not yet.
        attempt: The present attempt, from 1.
        repair: The repair round of the attempt, from 1; 0 = its first reply.
        note: Why it is retried or failed, what it waits for, or what it wrote into the log.
        caught: The error that its `on_error` took; empty if there was none.
        output: What it handed on, once it is done; UNKNOWN until then.
        child: The execution that it started, if it runs another task.
        branches: The bodies it runs, by the name in their path.
        total: How many branches it will run; 0 = unknown.
        tokens: Tokens that it and the steps inside it used.
        cost_nano: What they cost, in thousand-millionths of a dollar; None = not known.
        cached: Whether its last call was none, since its outcome was kept from an equal one.
    """

    path: str
    title: str
    kind: str = ""
    state: State = State.PENDING
    started_s: float = 0.0
    ended_s: float = 0.0
    attempt: int = 1
    repair: int = 0
    note: str = ""
    caught: str = ""
    output: Any = UNKNOWN
    child: str = ""
    branches: dict[str, Branch] = field(default_factory=dict)
    total: int = 0
    tokens: int = 0
    cost_nano: int | None = None
    cached: bool = False

    @property
    def usage(self) -> str:
        """`3 tries  1,200 tokens  $0.0021`, as far as there is something to tell."""
        tries = f"{self.attempt} tries" if self.attempt > 1 and self.state is State.DONE else ""
        kept = "cached" if self.cached else ""
        return "  ".join(part for part in (tries, kept, usage_text(self.tokens, self.cost_nano)) if part)

    @property
    def progress(self) -> str:
        """`12/50` for a map or loop that runs or ran, else an empty text."""
        if self.kind not in FANS or not self.branches:
            return ""
        ended = sum(1 for branch in self.branches.values() if branch.state not in (State.RUNNING, State.PENDING))
        return f"{ended}/{self.total or len(self.branches)}"


@dataclass(slots=True)
class Branch:
    """One body of a step: `then`, `map[3]`, a named list."""

    name: str
    state: State = State.RUNNING
    started_s: float = 0.0
    ended_s: float = 0.0
    note: str = ""
    steps: dict[int, Step] = field(default_factory=dict)


def usage_text(tokens: int, cost_nano: int | None, parts: str = "") -> str:
    """Return `1,200 tokens (800 cached)  $0.0021`; empty if there are neither."""
    cost = "" if cost_nano is None else f"${nano_to_cost(cost_nano)}"
    told = f"{tokens:,} tokens{f' ({parts})' if parts else ''}" if tokens else ""
    return "  ".join(part for part in (told, cost) if part)


def asked(info: Mapping[str, Any]) -> str:
    """Return on one line what a tool call that waits asks for: a person's word, or to be made by the client."""
    said = f"{info['info']}: " if info.get("info") else ""
    words = "may it be called with" if info.get("kind") == "approval" else "to be called with"
    return f"{said}{words} {json.dumps(info.get('arguments'), ensure_ascii=False)}"


def told(error: Any) -> str:
    """Return code and message of an error on one line."""
    error = error if isinstance(error, Mapping) else {}
    return f"{error.get('code', 'error')}: {error.get('message', '')}"
