"""Random programs, forked at random steps: nothing recorded is called again, and the end is the same."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from engine.control.forkpoints import Survey
from engine.control.recorded import Recorder, before, turns_before
from engine.control.steppaths import position
from engine.core.contracts.execution import Fork
from engine.core.plan.paths import plain_path
from engine.core.run.effects import Call
from engine.core.run.events import EventRecord
from engine.core.run.walker import Identity
from engine.core.values import compact_json
from engine.dryrun.effects import Answered
from engine.dryrun.running import DryRun, run_in_memory
from tests.support.forks import can_be_point, ends_of, fork_at, is_inside
from tests.support.lab import TENANT, plan_of
from tests.support.program_runs import MOST_EVENTS, answer_call, answer_wait, outcome_of
from tests.support.programs import TOOLS, Program, events_for_all, make_program

ORIGIN = "00000000-0000-4000-8000-00000000000a"
COPY = "00000000-0000-4000-8000-00000000000b"
SEEDS = range(120)
POINTS = 4
_REPEATED = re.compile(r"[~!]\d")


def run(program: Program, called: list[str], identity: Identity, carry_every: int | None = None) -> DryRun:
    """Run a program in memory; `called` gets the key of every call, in the order of their starts."""

    def handler(call: Call) -> Answered:
        called.append(call.params.context.key)
        return answer_call(call)

    outside = events_for_all(MOST_EVENTS) if "event" in program.kinds else ()
    return run_in_memory(
        plan_of(program.text, TOOLS),
        program.given,
        handler,
        answerer=answer_wait,
        outside=outside,
        identity=identity,
        carry_every=carry_every,
    )


def points_of(origin: DryRun, seed: int) -> list[str]:
    """Choose some steps that ended, by the paths of their last visits."""
    last = {plain_path(event.body["path"]): event.body["path"] for event in ends_of(origin.events)}
    paths = [raw for raw in last.values() if can_be_point(raw)]
    return random.Random(seed).sample(paths, min(POINTS, len(paths)))


def in_race(origin: DryRun, path: str) -> bool:
    """Whether a step stands in a branch of a race, whose winner is a question of time."""
    races = {event.body["path"] for event in origin.events if str(event.body.get("construct")).startswith("race")}
    return any(path == race or path.startswith(f"{race}.") for race in races)


def is_part(path: str, step: str) -> bool:
    """Whether a path is that of a step or lies inside it."""
    return path == step or is_inside(path, step)


def plain_fork(origin: DryRun, path: str) -> Fork | None:
    """Build a fork as the reference does."""
    return fork_at(origin.events, path, ORIGIN)


def engines_fork(origin: DryRun, path: str) -> Fork | None:
    """Build a fork as the engine does; None if it refuses, because something before the step was undone."""
    point = plain_path(path)
    told = origin.events
    events = [EventRecord(ORIGIN, "r", item.seq, item.now_us, item.type, compact_json(item.body)) for item in told]
    survey = Survey()
    for event in events:
        survey.apply(event)
    if any(position(undone, point) == "before" for undone in survey.undone):
        return None
    recorder = Recorder(point, frozenset(survey.undone))
    for event in events:
        recorder.apply(event)
    recorded = before(recorder, point, frozenset(recorder.undone))
    return Fork(
        kind="retry",
        execution_id=ORIGIN,
        path=point,
        seed=ORIGIN,
        keys=ORIGIN,
        began_us=recorder.first_us,
        recorded=recorded,
        turns=turns_before(recorder, point),
    )


@pytest.mark.parametrize("build", [plain_fork, engines_fork])
@pytest.mark.parametrize("carry_every", [None, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fork_calls_nothing_that_was_recorded_and_ends_as_the_first_run(
    seed: int, carry_every: int | None, build: Callable[[DryRun, str], Fork | None]
) -> None:
    program = make_program(seed, clock=False)
    known: list[str] = []
    origin = run(program, known, Identity(execution_id=ORIGIN, tenant=TENANT))
    for path in points_of(origin, seed):
        fork = build(origin, path)
        if fork is None:
            continue
        called: list[str] = []
        copy = run(program, called, Identity(execution_id=COPY, tenant=TENANT, fork=fork), carry_every)
        places = [key.partition(":")[2] for key in called]
        assert not [place for place in places if any(is_part(place, taken) for taken in fork.recorded)], path
        # a fork does not count the rounds that it takes over
        counts = outcome_of(origin)[1] != "limit.rounds"
        if counts and not _REPEATED.search(path) and not in_race(origin, path):
            assert outcome_of(copy) == outcome_of(origin), path
            assert set(called) <= set(known), path


def test_the_programs_are_forked_inside_of_everything() -> None:
    inside: set[str] = set()
    for seed in SEEDS:
        program = make_program(seed, clock=False)
        origin = run(program, [], Identity(execution_id=ORIGIN, tenant=TENANT))
        for path in points_of(origin, seed):
            inside |= {re.sub(r"[\[\]\d~!]+", "", part) or part for part in path.split(".")}
            inside |= {"recorded"} if fork_at(origin.events, path, ORIGIN).recorded else set()
    assert inside >= {"recorded", "do", "map", "then", "else", "sub"}
