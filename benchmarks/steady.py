"""The workloads without a crash: W1 to W4, each measured once on one side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from benchmarks.model import FAST, SLOW
from benchmarks.stand import Cpu, Side, Stand
from benchmarks.tasks import CHAIN_STEPS, Job, chain, fan, pair, pure


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement.

    Attributes:
        value: The figure, in the unit of its measure.
        cpu_ms: CPU milliseconds of worker and server per unit of work; None if not measured.
        facts: Further figures by name.
    """

    value: float
    cpu_ms: float | None = None
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    Attributes:
        repeats: Executions of a sequential workload in one sample.
        executions: Concurrent executions of W2 and W7.
        items: Items of W3.
        herd: Executions of the herd.
        rounds: Tool calls in each of them before the gate; six history events each.
        calls: Model calls in each of them behind the gate.
    """

    repeats: int
    executions: int
    items: int
    herd: int
    rounds: int
    calls: int


FULL = Size(repeats=10, executions=200, items=200, herd=60, rounds=313, calls=10)
QUICK = Size(repeats=3, executions=40, items=60, herd=8, rounds=40, calls=10)

Measure = Callable[[Stand, Side, Size], Coroutine[Any, Any, Sample]]


def sample_of(value: float, cpu: Cpu) -> Sample:
    """Return a sample with the CPU time of one unit of work, and how it is shared out."""
    facts = {"worker_cpu_ms": cpu.worker_s * 1e3, "server_cpu_ms": cpu.server_s * 1e3}
    return Sample(value, cpu.total_s * 1e3, facts)


async def one_after_another(stand: Stand, side: Side, job: Job, repeats: int) -> tuple[float, Cpu]:
    """Run executions one by one.

    Returns:
        (seconds, CPU time), both per execution.
    """
    await stand.quiet(side)
    cpu = stand.cpu(side)
    began = time.perf_counter()
    for _ in range(repeats):
        await (await stand.start(side, job)).result()
    took = time.perf_counter() - began
    await stand.quiet(side)
    return took / repeats, stand.cpu(side).since(cpu, repeats)


async def all_at_once(stand: Stand, side: Side, job: Job, executions: int) -> tuple[float, Cpu]:
    """Run executions concurrently.

    Returns:
        (seconds from the first start to the last result, CPU time per execution).
    """
    await stand.quiet(side)
    cpu = stand.cpu(side)

    async def one() -> None:
        await (await stand.start(side, job)).result()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(executions)))
    took = time.perf_counter() - began
    await stand.quiet(side)
    return took, stand.cpu(side).since(cpu, executions)


async def w1(stand: Stand, side: Side, size: Size) -> Sample:
    """Milliseconds a step of a chain of ten LLM steps that answer at once."""
    took, cpu = await one_after_another(stand, side, chain(), size.repeats)
    return sample_of(took / CHAIN_STEPS * 1e3, cpu.since(Cpu(0, 0), CHAIN_STEPS))


async def w2_fast(stand: Stand, side: Side, size: Size) -> Sample:
    """Executions a second, LLM 0 ms."""
    took, cpu = await all_at_once(stand, side, pair(FAST), size.executions)
    return sample_of(size.executions / took, cpu)


async def w2_slow(stand: Stand, side: Side, size: Size) -> Sample:
    """Executions a second, LLM 50 ms."""
    took, cpu = await all_at_once(stand, side, pair(SLOW), size.executions)
    return sample_of(size.executions / took, cpu)


async def w3(stand: Stand, side: Side, size: Size) -> Sample:
    """Seconds of one map over LLM calls of 50 ms, 20 at a time, and its fold."""
    took, cpu = await one_after_another(stand, side, fan(size.items), 2)
    return sample_of(took, cpu)


def w4(steps: int) -> Measure:
    """Return the measurement of an execution of so many pure steps, in seconds."""

    async def measure(stand: Stand, side: Side, size: Size) -> Sample:
        took, cpu = await one_after_another(stand, side, pure(steps), size.repeats)
        return sample_of(took, cpu)

    return measure
