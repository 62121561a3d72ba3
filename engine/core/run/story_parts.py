"""What the story of an execution is made of: steps, the bodies they run, attempts, waits, usage. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from engine.core.run.usage import TOKENS, UsageSums
from engine.core.values import Json, compact_json

MORE = "…"
"""Stands where something was cut off."""
_KEY_COSTS = 4


class StepState(StrEnum):
    """Where a step stands."""

    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_end(self) -> bool:
        """Whether nothing more is expected of the step."""
        return self not in (StepState.RUNNING, StepState.WAITING, StepState.RETRYING)


# --- values --------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """A value that an event told.

    Attributes:
        seq: Number of the event.
        member: Member of its body.
        value: The value, or what is left of it.
        cut: Whether something was left out.
    """

    seq: int
    member: str
    value: Json
    cut: bool


def clipped(value: Json, budget: int) -> tuple[Json, bool]:
    """Shorten a JSON value, but keep its shape: long texts and long lists lose their ends.

    Args:
        value: The value.
        budget: About how many characters may stay.

    Returns:
        The value and whether anything was left out.
    """
    left = [budget]
    short = _clip(value, left)
    return short, left[0] < 0


def _clip(value: Json, left: list[int]) -> Json:
    if isinstance(value, str):
        return _clip_text(value, left)
    if isinstance(value, dict):
        return _clip_object(value, left)
    if isinstance(value, list):
        kept: list[Json] = []
        for number, item in enumerate(value):
            if left[0] <= 0:
                left[0] = -1
                kept.append(f"{MORE} {len(value) - number} more")
                break
            left[0] -= 1
            kept.append(_clip(item, left))
        return kept
    left[0] -= len(compact_json(value))
    # a number that is over the budget stays: half of it would be another one
    left[0] = max(left[0], 0)
    return value


def _clip_text(text: str, left: list[int]) -> str:
    room = max(left[0], 0)
    if len(text) <= room:
        left[0] -= len(text)
        return text
    left[0] = -1
    return f"{text[:room]}{MORE}"


def _clip_object(value: dict[str, Json], left: list[int]) -> Json:
    kept: dict[str, Json] = {}
    for number, (key, item) in enumerate(value.items()):
        if left[0] <= 0:
            left[0] = -1
            kept[MORE] = f"{len(value) - number} more"
            break
        left[0] -= len(key) + _KEY_COSTS
        kept[key] = _clip(item, left)
    return kept


def told(seq: int, member: str, value: Json, limit: int | None, *, body_chars: int) -> Told:
    """Note a value of an event.

    Args:
        seq: Number of the event.
        member: Member of its body.
        value: The value.
        limit: Characters to keep; None = all.
        body_chars: Length of the whole body, which tells of most values that they are short enough.
    """
    if limit is None or body_chars <= limit:
        return Told(seq, member, value, cut=False)
    short, cut = clipped(value, limit)
    return Told(seq, member, short, cut)


# --- usage ---------------------------------------------------------------------------------------------------------


def add_usage(total: UsageSums, other: UsageSums) -> None:
    """Add what a step inside used to the sum of the step around it."""
    total.llm_calls += other.llm_calls
    total.tool_calls += other.tool_calls
    total.failed_attempts += other.failed_attempts
    for name in TOKENS:
        setattr(total, name, getattr(total, name) + getattr(other, name))
    total.unpriced_calls += other.unpriced_calls
    if other.cost_nano is not None:
        total.cost_nano = other.cost_nano + (total.cost_nano or 0)


# --- steps ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class AttemptStory:
    """One call of an attempt, or an attempt that made none.

    Attributes:
        effect_id: Id of the call; empty = the attempt made none.
        kind: Kind of the step.
        attempt: Number of the attempt, from 1.
        round: Repair round of the attempt, from 0.
        name: Tool, asked model, or task.
        started_seq: Number of the event of its beginning; 0 = there is none.
        started_us: When it began; 0 = that is not known.
        request: What was asked: messages, model and settings, or arguments.
        outcome: running, ok, failed, cancelled; `unknown` if its step went on and no event tells.
        ended_seq: Number of the event of its end; 0 = there is none.
        ended_us: When it ended; 0 = not yet.
        took_s: How long the backend or tool took, by its own count.
        deliveries: How often it was handed to a worker; more than once after a lost worker.
        cached: Whether nothing was called, since the outcome was kept from an equal call.
        model: Model that answered.
        backend: Backend that answered.
        finish_reason: Why the model stopped.
        usage: Its tokens.
        cost: Its price in dollars as text; None = not known.
        reply: The model's message.
        error: {code, message, …} of a failure, also of a reply that was not good enough.
        pause_s: Pause before the next attempt; None = there was none.
        child_id: The execution that it started.
        task_version: Version of that execution's task; 0 = it started none.
    """

    effect_id: str
    kind: str
    attempt: int
    round: int = 0
    name: str = ""
    started_seq: int = 0
    started_us: int = 0
    request: Told | None = None
    outcome: str = "running"
    ended_seq: int = 0
    ended_us: int = 0
    took_s: float | None = None
    deliveries: int = 1
    cached: bool = False
    model: str = ""
    backend: str = ""
    finish_reason: str = ""
    usage: dict[str, Json] | None = None
    cost: str | None = None
    reply: Told | None = None
    error: dict[str, Json] | None = None
    pause_s: float | None = None
    child_id: str = ""
    task_version: int = 0


@dataclass(slots=True, eq=False)
class Refusal:
    """An answer that a wait did not take."""

    seq: int
    at_us: int
    actor: str
    code: str
    message: str


@dataclass(slots=True, eq=False)
class WaitStory:
    """A place where a step waited for an answer or an event.

    Attributes:
        wait_id: Its id.
        opened_seq: Number of the event that opened it; 0 = it is not there.
        opened_us: When it was opened.
        deadline_us: When it gives up; None = never.
        info: What the person who answers is told.
        schema: JSON Schema of the answer.
        outcome: answered, expired (its default was taken, or nothing was), stopped; empty = it is open.
        closed_us: When it ended; 0 = not yet.
        actor: Who answered.
        key: Key of the answer, or id of the event.
        event: Name of the event that ended it; empty = none did.
        answer: The answer, or the default.
        refused: Answers that were not taken.
    """

    wait_id: str
    opened_seq: int = 0
    opened_us: int = 0
    deadline_us: int | None = None
    info: Told | None = None
    schema: Told | None = None
    outcome: str = ""
    closed_us: int = 0
    actor: str = ""
    key: str = ""
    event: str = ""
    answer: Told | None = None
    refused: list[Refusal] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class StepStory:
    """One visit of a step.

    Attributes:
        path: Its path with the counters of loops, such as `main.3.do[17].0`.
        block: The body it stands in.
        index: Its position there.
        depth: Number of steps around it.
        kind: Its kind; empty until an event tells it.
        label: Its label.
        name: Tool, asked model, or task.
        state: Where it stands.
        began_us: When it began; 0 = that is not known.
        ended_us: When it ended; 0 = not yet.
        input: What it ran on; None if the event that tells it is missing.
        output: What it handed on.
        error: {code, message, step, …} with which it failed, or that `on_error` took.
        caught: Whether `on_error` took its error.
        log: What it wrote into the log.
        recorded: Whether its output is that of the execution which this one was forked from: nothing was run.
        attempts: Its calls and failed attempts in order.
        retry_at_us: When the next attempt begins, while it is `retrying`.
        waits: Its waits in order.
        blocks: The bodies it ran: branches, rounds, lists, `on_error`, `undo`.
        child_ids: Executions that it started.
        usage: What its own calls used.
        open: Bodies in which something still runs.
    """

    path: str
    block: BlockStory
    index: int
    depth: int
    kind: str = ""
    label: str = ""
    name: str = ""
    state: StepState = StepState.RUNNING
    began_us: int = 0
    ended_us: int = 0
    input: Told | None = None
    output: Told | None = None
    error: dict[str, Json] | None = None
    caught: bool = False
    log: str | None = None
    recorded: bool = False
    attempts: list[AttemptStory] = field(default_factory=list)
    retry_at_us: int = 0
    waits: list[WaitStory] = field(default_factory=list)
    blocks: list[BlockStory] = field(default_factory=list)
    child_ids: list[str] = field(default_factory=list)
    usage: UsageSums = field(default_factory=UsageSums)
    open: dict[str, BlockStory] = field(default_factory=dict)

    @property
    def attempt(self) -> int:
        """Number of the latest attempt; 1 if none is told of."""
        return self.attempts[-1].attempt if self.attempts else 1


@dataclass(slots=True, eq=False)
class BlockStory:
    """One run of a body: a named list, a branch, a round of a loop, `on_error`, `undo`.

    Attributes:
        path: Its path, such as `main.3.do[17]`.
        owner: The step that runs it; None for `main` and `finally`.
        construct: What it is: main, finally, yield, `if_else.then`, `foreach[2]`, undo, …
        of: How many bodies the loop or fan runs in all; 0 = that is not told.
        state: running, done, failed, cancelled.
        began_us: When it began.
        ended_us: When it ended; 0 = not yet.
        input: What it was given.
        error: {code, message, …} with which it failed.
        taken: What became of its failure: collect, skip, race, undo; empty = it was passed on.
        steps: Its steps in order of their visits.
        open: Those of them that run, or inside which something does, by path.
    """

    path: str
    owner: StepStory | None
    construct: str = ""
    of: int = 0
    state: StepState = StepState.RUNNING
    began_us: int = 0
    ended_us: int = 0
    input: Told | None = None
    error: dict[str, Json] | None = None
    taken: str = ""
    steps: list[StepStory] = field(default_factory=list)
    open: dict[str, StepStory] = field(default_factory=dict)


def walk(blocks: list[BlockStory]) -> Iterator[StepStory]:
    """Yield all steps of some bodies and those inside them, each before those inside it.

    Not recursive, since a list may call itself a thousand levels deep.
    """
    stack = [iter(block.steps) for block in reversed(blocks)]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            continue
        yield step
        stack.extend(iter(block.steps) for block in reversed(step.blocks))
