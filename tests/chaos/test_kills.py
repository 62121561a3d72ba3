"""A worker that is killed with SIGKILL changes nothing: not the result, not what was done outside, not the events.

All cases run once, side by side, before the first test looks at them. The short form kills at two seeded points, the
long one at every event of the history.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.killing import Case, Killer, at_event, run_case, spare, while_called

# the cases run inside the first test's set-up
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SEED = 20261
SHORT_KILLS = 2
KILLS_OF_ONE_CALL = 2
SHORT_RANGE = 70
"""The example's history has some more events than that."""
AT_ONCE = 14
EFFECT_STEPS = 1 + 1 + 3 + 1 + 4 * 2


@dataclass(frozen=True, slots=True)
class Cases:
    """What was run.

    Attributes:
        undisturbed: The example with idempotent tools, left alone.
        killed: The same, its worker killed once each.
        charge: The example with a tool that is not idempotent, its worker killed once each.
        during_charge: The same, killed while the call was under way.
        long: One long call that loses several workers.
    """

    undisturbed: Case
    killed: list[Case]
    charge: list[Case]
    during_charge: Case
    long: Case


async def _run_all(address: str, folder: Path, full: bool) -> Cases:
    gate, opening = asyncio.Semaphore(AT_ONCE), asyncio.Lock()

    async def run(name: str, example: str, killer: Killer = spare) -> Case:
        async with gate:
            return await run_case(name, example, killer, address=address, folder=folder, opening=opening)

    async with asyncio.TaskGroup() as group:
        long = group.create_task(run("long", "long.yaml", while_called(KILLS_OF_ONE_CALL)))
        during = group.create_task(run("during-charge", "charge.yaml", while_called(1)))
        undisturbed = group.create_task(run("undisturbed", "effects.yaml"))
        if full:
            uncharged = group.create_task(run("uncharged", "charge.yaml"))
            points = list(range(1, (await undisturbed).history + 1))
            charge_points = list(range(1, (await uncharged).history + 1))
        else:
            chance = random.Random(SEED)
            points = sorted(chance.sample(range(1, SHORT_RANGE), SHORT_KILLS))
            charge_points = [2]
        killed = [group.create_task(run(f"effects-{n}", "effects.yaml", at_event(n))) for n in points]
        charge = [group.create_task(run(f"charge-{n}", "charge.yaml", at_event(n))) for n in charge_points]
    return Cases(
        undisturbed.result(),
        [task.result() for task in killed],
        [task.result() for task in charge],
        during.result(),
        long.result(),
    )


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, temporal_address: str, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """All cases, after their end."""
    full = request.config.getoption("--chaos") == "full"
    return asyncio.run(_run_all(temporal_address, tmp_path_factory.mktemp("kills"), full))


def test_the_example_makes_one_call_for_every_effect_step_when_nobody_kills(cases: Cases):
    calls = cases.undisturbed.calls
    assert len(calls) == EFFECT_STEPS
    # the only step that is called twice is the one that fails first
    assert {key: count for key, count in calls.items() if count != 1} == {"main.4": 2}


def test_workers_were_really_killed(cases: Cases):
    assert cases.undisturbed.history >= SHORT_RANGE
    # how many events there are depends a little on the speed: a run may end before the last of the points
    assert sum(case.kills for case in cases.killed) >= len(cases.killed) * 0.9


def test_the_result_is_the_same_wherever_the_worker_is_killed(cases: Cases):
    expected = cases.undisturbed.ended.output
    assert expected["shaky"] == "attempt 2"
    for case in cases.killed:
        assert case.ended.output == expected, case.name


def test_a_step_whose_completion_is_in_the_history_is_never_called_again(cases: Cases):
    for case in cases.killed:
        for key in case.completed_at_kill:
            assert case.calls[key] == case.calls_at_kill[key], f"{case.name}: {key}"
    assert any(case.completed_at_kill for case in cases.killed)


def test_a_repeated_call_carries_the_key_of_the_first_so_that_there_are_as_many_keys_as_steps(cases: Cases):
    for case in cases.killed:
        assert set(case.calls) == set(cases.undisturbed.calls), case.name


def test_a_kill_repeats_at_most_the_calls_that_were_under_way(cases: Cases):
    for case in cases.killed:
        # two branches of the map at one time
        repeated = case.calls.total() - cases.undisturbed.calls.total()
        assert 0 <= repeated <= 2, f"{case.name}: {case.calls}"


def test_after_the_repair_the_events_are_those_of_an_undisturbed_run(cases: Cases):
    for case in [cases.undisturbed, *cases.killed]:
        assert case.proved, case.name
        assert case.events == cases.undisturbed.events, case.name


def test_several_kills_do_not_use_up_the_authors_attempts(cases: Cases):
    assert cases.long.kills == KILLS_OF_ONE_CALL
    assert cases.long.ended.output == 1, "the call still is the first of its two attempts"
    assert cases.long.calls == {"main.0": KILLS_OF_ONE_CALL + 1}
    assert ("attempt.failed", "main.0") not in cases.long.events


def test_a_call_that_must_not_be_repeated_is_made_once_at_most(cases: Cases):
    for case in [cases.during_charge, *cases.charge]:
        assert case.calls.total() <= 1, f"{case.name}: {case.calls}"
        assert case.proved, case.name


def test_a_call_that_was_lost_with_its_worker_ends_as_outcome_unknown_and_on_error_settles_it(cases: Cases):
    unknown = {"charged": {"settled": "effect.outcome_unknown", "attempts": 1}}
    assert cases.during_charge.calls == {"main.1": 1}
    assert cases.during_charge.ended.output == unknown
    for case in cases.charge:
        assert case.ended.output in (unknown, {"charged": "done"}), case.name
