"""Random programs, stopped before every step or paused at any moment: they end as if nobody had touched them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from engine.core.contracts.execution import ControlSignal
from engine.core.kinds import EventType
from engine.core.plan.lists import step_places
from engine.core.run.breaks import MOST_BREAKS
from engine.core.run.machine import Machine
from engine.dryrun.running import DryRun
from tests.support.lab import plan_of
from tests.support.program_runs import in_memory, outcome_of
from tests.support.programs import TOOLS, Program, make_program

EXECUTION = "00000000-0000-4000-8000-00000000000a"
SEEDS = range(120)
OF_THE_CLOCK = frozenset(
    {"timeout", "timeout.close", "total_timeout", "total_timeout.hit", "wait.timeout", "deadline"}
    | {"race", "race.take", "race.stagger"}
)
"""Kinds whose outcome depends on how long something takes, or on what ends first: a pause changes that."""


def program_of(seed: int) -> Program:
    """Make a program without a time limit of its own, which a pause would not stop."""
    program = make_program(seed, clock=False)
    task = json.loads(program.text)
    task.get("limits", {}).pop("time", None)
    return replace(program, text=json.dumps(task))


def run(seed: int, keys: list[str], **options: Any) -> DryRun:
    return in_memory(program_of(seed), EXECUTION, keys, **options)


def same_end(seed: int, steer: Callable[[Machine], None], **options: Any) -> DryRun:
    """Run a program twice, and compare outcome and calls if no clock decides about them."""
    expected: list[str] = []
    plain = run(seed, expected)
    keys: list[str] = []
    steered = run(seed, keys, steer=steer, **options)
    assert steered.finished is not None, "it does not end"
    if not OF_THE_CLOCK & program_of(seed).kinds:
        assert outcome_of(steered) == outcome_of(plain)
        assert sorted(keys) == sorted(expected)
    return steered


def test_most_programs_are_compared() -> None:
    assert sum(not OF_THE_CLOCK & program_of(seed).kinds for seed in SEEDS) > len(SEEDS) / 3


@pytest.mark.parametrize("carry_every", [None, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_execution_that_stops_before_every_step_ends_as_ever(seed: int, carry_every: int | None) -> None:
    number = count()

    def go_on(machine: Machine) -> None:
        if machine.paused:
            machine.control(ControlSignal(kind="continue", key=f"c{next(number)}"))

    places = [path for path, _ in step_places(plan_of(program_of(seed).text, TOOLS))]
    steered = same_end(seed, go_on, breaks=tuple(places[:MOST_BREAKS]), carry_every=carry_every)
    stops = [event.body["at"] for event in steered.events if event.type == EventType.EXECUTION_PAUSED]
    assert stops
    assert len(stops) == len(set(stops))


@pytest.mark.parametrize("carry_every", [None, 1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_execution_that_is_paused_at_any_moment_ends_as_ever(seed: int, carry_every: int | None) -> None:
    chance, number = random.Random(seed), count()

    def steer(machine: Machine) -> None:
        kind: Any = "continue" if machine.paused else "pause"
        if chance.random() < 0.4:
            machine.control(ControlSignal(kind=kind, key=f"c{next(number)}"))

    same_end(seed, steer, carry_every=carry_every)
