"""An agent whose worker is killed in the middle of its loop: no tool call that finished is made again.

The short form kills at two seeded points, the long one at every event of the history.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from tests.chaos.killing import Case, Killer, at_event, run_case, spare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SEED = 20261122
SHORT_KILLS = 2
SHORT_RANGE = 100
"""The history has some more events than that."""
AT_ONCE = 14
TURNS = 10
WIDE = (3, 7)
"""Turns in which the model asks for three calls at one time."""
CALLS = TURNS + 2 * len(WIDE)


def script(url: str) -> MockScript:
    """Return what the model says: tool calls in ten turns, then an answer."""
    rules: list[MockRule] = []
    for turn in range(TURNS):
        count = 3 if turn in WIDE else 1
        notes = [{"url": url, "n": 10 * turn + number} for number in range(count)]
        calls = [MockToolCall(name="note", id=f"c{turn}-{number}", arguments=n) for number, n in enumerate(notes)]
        rules.append(MockRule(turn=turn, tool_calls=calls))
    return MockScript(rules=[*rules, MockRule(reply="all of them are written down")])


@dataclass(frozen=True, slots=True)
class Cases:
    """What was run: the agent left alone, and the same with its worker killed once each."""

    undisturbed: Case
    killed: list[Case]


async def _run_all(address: str, folder: Path, full: bool) -> Cases:
    gate, opening = asyncio.Semaphore(AT_ONCE), asyncio.Lock()

    async def run(name: str, killer: Killer = spare) -> Case:
        async with gate:
            return await run_case(
                name, "agent.yaml", killer, address=address, folder=folder, opening=opening, script=script
            )

    async with asyncio.TaskGroup() as group:
        undisturbed = group.create_task(run("undisturbed"))
        if full:
            points = list(range(1, (await undisturbed).history + 1))
        else:
            points = sorted(random.Random(SEED).sample(range(1, SHORT_RANGE), SHORT_KILLS))
        killed = [group.create_task(run(f"agent-{n}", at_event(n))) for n in points]
    return Cases(undisturbed.result(), [task.result() for task in killed])


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, temporal_address: str, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """All cases, after their end."""
    full = request.config.getoption("--chaos") == "full"
    return asyncio.run(_run_all(temporal_address, tmp_path_factory.mktemp("agents"), full))


def test_an_agent_that_nobody_disturbs_makes_each_call_once(cases: Cases):
    calls = cases.undisturbed.calls
    assert cases.undisturbed.ended.output == "all of them are written down"
    assert set(calls.values()) == {1}
    assert len(calls) == CALLS + TURNS + 1
    assert cases.undisturbed.history >= SHORT_RANGE


def test_workers_of_agents_were_really_killed(cases: Cases):
    assert sum(case.kills for case in cases.killed) >= len(cases.killed) * 0.9


def test_an_agent_says_the_same_wherever_its_worker_is_killed(cases: Cases):
    for case in cases.killed:
        assert case.ended.output == cases.undisturbed.ended.output, case.name


def by_step(calls: Counter[str]) -> Counter[str]:
    """Count calls by step; what the key of a tool call says of its arguments, behind a slash, is left out."""
    counted: Counter[str] = Counter()
    for key, count in calls.items():
        counted[key.partition("/")[0]] += count
    return counted


def test_a_tool_call_whose_completion_is_in_the_history_is_never_made_again(cases: Cases):
    seen = 0
    for case in cases.killed:
        before, after = by_step(case.calls_at_kill), by_step(case.calls)
        for key in case.completed_at_kill:
            assert after[key] == before[key] >= 1, f"{case.name}: {key}"
            seen += ".1[" in key
    assert seen > 0, "some of them were tool calls"


def test_a_repeated_tool_call_carries_the_same_key(cases: Cases):
    for case in cases.killed:
        assert set(by_step(case.calls)) == set(by_step(cases.undisturbed.calls)), case.name
        assert len(case.calls) == len(by_step(case.calls)), "as many keys as steps"


def test_a_kill_repeats_at_most_the_calls_of_one_turn(cases: Cases):
    for case in cases.killed:
        repeated = case.calls.total() - cases.undisturbed.calls.total()
        assert 0 <= repeated <= 3, f"{case.name}: {case.calls}"


def test_after_the_repair_the_events_of_an_agent_are_those_of_an_undisturbed_one(cases: Cases):
    for case in [cases.undisturbed, *cases.killed]:
        assert case.proved, case.name
        assert case.events == cases.undisturbed.events, case.name
