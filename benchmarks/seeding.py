"""Fills a store with executions as workers would have written them: made-up events, through the real writer."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.core.errors import EngineError
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord, roll_digest
from engine.core.values import compact_json
from engine.store.ends import MOST_AT_ONCE, ExecutionEnd
from engine.store.projection import ProjectionStore

T0_US = 1_780_000_000_000_000
SPREAD_US = 60_000_000
"""Time between the beginnings of two executions: 100,000 of them are two months and nine days."""

TASKS = tuple((str(uuid.UUID(int=0xA000 + number)), f"task_{number}") for number in range(25))
AGENTS = tuple(str(uuid.UUID(int=0xB000 + number)) for number in range(8))
MODELS = (("small-1", "local"), ("large-2", "local"), ("small-1", "cloud"), ("odd-9", "cloud"))
CODES = (
    "tool.failed",
    "backend.rate_limited",
    "backend.unreachable",
    "input.rejected",
    "step.timeout",
    "expression.type",
)
TEAMS = ("search", "billing", "support", "growth")
ENDS = (ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.RUNNING,
        ExecutionStatus.AWAITING_INPUT)  # fmt: skip
END_WEIGHTS = (87, 7, 2, 3, 1)
BATCH = 250
WORDS = ("model", "reads", "what", "it", "is", "told", "and", "says", "found", "in", "the", "papers", "of", "house")


@dataclass(slots=True)
class Made:
    """A made-up execution.

    Attributes:
        id: Its id.
        tenant: Its tenant.
        records: Its events in order.
        end: How it ended; None = it has not.
    """

    id: str
    tenant: str
    records: list[EventRecord] = field(default_factory=list)
    end: ExecutionEnd | None = None


class Maker:
    """Makes executions up, the same ones for the same seed.

    Args:
        seed: Seed of the random numbers.
        words: Words in a prompt and in a reply, about.
    """

    def __init__(self, seed: int = 1, *, words: int = 40) -> None:
        self._random = random.Random(seed)
        self._words = words

    def execution(self, number: int, *, steps: int | None = None, tenant: str = "default") -> Made:
        """Make one execution.

        Args:
            number: Its number; later ones begin later.
            steps: How many steps it has; each of the first three calls a model or a tool. None = one to three.
            tenant: Its tenant.
        """
        chance = self._random
        made = Made(str(uuid.UUID(int=chance.getrandbits(128), version=4)), tenant)
        log = _Log(made, str(uuid.UUID(int=chance.getrandbits(128), version=4)), T0_US + number * SPREAD_US)
        task_id, task = TASKS[min(int(chance.expovariate(0.25)), len(TASKS) - 1)]
        status = chance.choices(ENDS, END_WEIGHTS)[0]
        log.emit(EventType.INIT, 0, **self._init(task_id, task, tenant, log.now_us))
        count = steps if steps is not None else chance.randint(1, 3)
        for index in range(count):
            self._step(log, index, last=index == count - 1, call=index < 3)
        self._end(log, made, status)
        return made

    def _init(self, task_id: str, task: str, tenant: str, now_us: int) -> dict[str, Any]:
        chance = self._random
        labels = [f"team:{chance.choice(TEAMS)}"]
        if chance.random() < 0.2:
            labels.append("nightly")
        if chance.random() < 0.001:
            labels.append("vip")
        return {
            "workflow": "main",
            "scope": "",
            "input": {"topic": self._text(6), "number": chance.randrange(10_000)},
            "task": task,
            "task_id": task_id,
            "version": 1,
            "agent_id": chance.choice(AGENTS),
            "tenant": tenant,
            "metadata": {
                "customer": f"c-{chance.randrange(2_000)}",
                "priority": chance.randint(1, 5),
                "order": {"region": chance.choice(("eu", "us", "asia")), "express": chance.random() < 0.1},
            },
            "labels": labels,
            "actor": chance.choice(("alice", "bob", "")),
            "created_us": now_us - 2_000,
        }

    def _step(self, log: _Log, index: int, *, last: bool, call: bool) -> None:
        path, chance = f"main.{index}", self._random
        output: Any = {"text": self._text(8), "n": index}
        kind = "evaluate"
        if call:
            kind = "prompt" if index % 2 == 0 else "tool_call"
            self._call(log, path, kind)
        place = {"path": path, "workflow": "main", "index": index, "scope": "", "kind": kind, "label": ""}
        log.emit(EventType.STEP, chance.randint(100, 900), **place, output=output, next=None if last else index + 1)

    def _call(self, log: _Log, path: str, kind: str) -> None:
        chance = self._random
        effect = {"path": path, "effect_id": f"{path}#1", "kind": kind, "attempt": 1}
        if kind == "tool_call":
            request: dict[str, Any] = {"tool": "look_up", "arguments": {"query": self._text(5)}}
            log.emit(EventType.EFFECT_STARTED, 500, **effect, name="look_up", request=request)
            log.emit(EventType.EFFECT_FINISHED, chance.randint(5_000, 80_000), **effect, outcome="ok", took_s=0.04)
            return
        model, backend = chance.choices(MODELS, (60, 20, 15, 5))[0]
        request = {"model": model, "messages": [{"role": "user", "content": self._text(self._words)}]}
        log.emit(EventType.EFFECT_STARTED, 500, **effect, name=model, request=request)
        prompt, completion = chance.randint(20, 2_000), chance.randint(5, 600)
        priced = model != "odd-9"
        log.emit(
            EventType.EFFECT_FINISHED,
            chance.randint(100_000, 4_000_000),
            **effect,
            outcome="ok",
            took_s=1.5,
            model=model,
            backend=backend,
            finish_reason="stop",
            usage={
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "cached_tokens": prompt // 2,
            },
            cost=f"{(prompt * 3 + completion * 15) / 1e7:.9f}" if priced else None,
            reply={"role": "assistant", "content": self._text(self._words)},
        )

    def _end(self, log: _Log, made: Made, status: ExecutionStatus) -> None:
        chance = self._random
        output, error = None, None
        if status is ExecutionStatus.RUNNING:
            return
        if status is ExecutionStatus.AWAITING_INPUT:
            wait = {"path": "main.9", "workflow": "main", "index": 9, "scope": "", "label": "ask", "wait_id": "main.9"}
            log.emit(EventType.WAIT, 300, **wait, info={"question": self._text(5)}, schema=None)
            return
        if status is ExecutionStatus.SUCCEEDED:
            output = {"text": self._text(10)}
            log.emit(EventType.FINISH, 300, workflow="main", index=0, scope="", output=output)
        elif status is ExecutionStatus.FAILED:
            code = chance.choices(CODES, (40, 30, 15, 10, 4, 1))[0]
            error = EngineError("it did not work out", code=code).to_json()
            log.emit(EventType.ERROR, 300, error=error)
        else:
            error = {"code": "cancelled", "message": "Workflow Cancelled", "reason": "no longer needed"}
            log.emit(EventType.CANCELLED, 300, reason="no longer needed", actor="alice")
        made.end = ExecutionEnd(
            made.id, status, log.now_us + 1_500, output=output, error=error, events=log.seq, digest=log.digest
        )

    def _text(self, words: int) -> str:
        return " ".join(self._random.choices(WORDS, k=words))


class _Log:
    """The events of one execution as they are emitted."""

    def __init__(self, made: Made, run_id: str, now_us: int) -> None:
        self._made = made
        self._run_id = run_id
        self.now_us = now_us
        self.seq = 0
        self.digest = ""

    def emit(self, type_: EventType, later_us: int, /, **body: Any) -> None:
        self.seq += 1
        self.now_us += later_us
        text = compact_json(body)
        self.digest = roll_digest(self.digest, self.seq, type_.value, text)
        self._made.records.append(EventRecord(self._made.id, self._run_id, self.seq, self.now_us, type_.value, text))


def made_executions(count: int, *, seed: int = 1, tenant: str = "default", words: int = 40) -> Iterator[Made]:
    """Yield made-up executions, the oldest first."""
    maker = Maker(seed, words=words)
    for number in range(count):
        yield maker.execution(number, tenant=tenant)


async def write_made(store: ProjectionStore, executions: Sequence[Made]) -> int:
    """Write some executions as the live path does: their events in one batch, then the ends of those that ended.

    Args:
        store: Where to.
        executions: At most `MOST_AT_ONCE`.

    Returns:
        The number of events.
    """
    records = [record for made in executions for record in made.records]
    await store.append_events(records)
    ends = [made.end for made in executions if made.end is not None]
    if ends:
        await store.settle(ends)
    return len(records)


async def seed_store(store: ProjectionStore, count: int, *, seed: int = 1, words: int = 40) -> tuple[list[str], int]:
    """Fill a store.

    Args:
        store: Where to.
        count: How many executions.
        seed: Seed of the random numbers.
        words: Words in a prompt and in a reply, about.

    Returns:
        Ids of the executions, the oldest first, and the number of events.
    """
    assert BATCH <= MOST_AT_ONCE
    ids: list[str] = []
    events = 0
    batch: list[Made] = []
    for made in made_executions(count, seed=seed, words=words):
        ids.append(made.id)
        batch.append(made)
        if len(batch) == BATCH:
            events += await write_made(store, batch)
            batch = []
    if batch:
        events += await write_made(store, batch)
    return ids, events


async def seed_long(store: ProjectionStore, transitions: int, *, seed: int = 2) -> str:
    """Write one execution with so many transitions, and return its id."""
    maker = Maker(seed, words=5)
    made = maker.execution(0, steps=transitions - 2)
    while made.end is None or made.end.status is not ExecutionStatus.SUCCEEDED:
        made = maker.execution(0, steps=transitions - 2)
    for begin in range(0, len(made.records), BATCH):
        await store.append_events(made.records[begin : begin + BATCH])
    await store.settle([made.end])
    return made.id
