"""Random programs for tests: small tasks of every kind, made from a seed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.core.contracts.execution import EventSignal
from engine.core.errors import ToolError
from engine.core.run.projection import is_listening
from engine.tooling import ToolContext, tool
from tests.support.program_blocks import DOWN, SUB, Maker
from tests.support.program_leaves import HOLD, KEY, MODULUS, NOBODY, PING, STOP, Step

MODULE = "tests.support.programs"
ANSWER = {"n": 5, "approved": True, "accept": True}
"""Every wait gets this answer, and every event has it as value, so that the result does not depend on which answer
reaches which wait."""


@tool(effect="read")
async def step_tool(n: int, ms: int = 0) -> int:
    """Turn a number into another one, after some time."""
    if ms:
        await asyncio.sleep(ms / 1000)
    return (n * 7 + 1) % MODULUS


@tool(effect="read")
async def flaky(n: int, failures: int, context: ToolContext) -> int:
    """Fail in the first attempts; the engine's attempts count, so that a repeated call ends as the first did."""
    if context.attempt <= failures:
        raise ToolError(f"attempt {context.attempt} fails", code="tool.failed", retryable=True)
    return (n + 11) % MODULUS


TOOLS = (step_tool, flaky)


@dataclass(frozen=True, slots=True)
class Program:
    """A task.

    Attributes:
        text: The task as JSON.
        given: Its input.
        waits: Whether it waits for answers.
        kinds: Words for what it is made of.
        inboxes: Names of the inboxes whose messages it takes.
    """

    text: str
    given: int
    waits: bool
    kinds: frozenset[str]
    inboxes: frozenset[str]


def make_program(
    seed: int, *, waits: bool = True, clock: bool = True, most_effects: int = 12, at_least_s: float = 0.0
) -> Program:
    """Make a program.

    Args:
        seed: Equal seeds give equal programs.
        waits: Whether it may wait for answers.
        clock: Whether its events may depend on the clock.
        most_effects: About how many calls, timers and waits it may have.
        at_least_s: It sleeps so long beside its other steps, e.g. so that it can continue as new.
    """
    chance = random.Random(seed)
    maker = Maker(chance, waits=waits, clock=clock, most_effects=most_effects)
    main = maker.steps(2, 4)
    if waits and chance.random() < 0.3:
        main += maker.conversation()
    if at_least_s:
        tail = [{"sleep": {"seconds": at_least_s}}, *maker.steps(1, 3), *maker.tool(), *maker.tool()]
        main = [{"parallel": [main, tail]}, {"evaluate": f"$ sum(_) % {MODULUS}"}, *maker.tool()]
        maker.kinds |= {"long", "parallel"}
    if chance.random() < 0.1:
        main += maker.note("failure", {"error": "after {{ _ }}"})
    task: dict[str, Any] = {"name": f"program_{seed}", "main": main, SUB: maker.sub(), DOWN: maker.down()}
    task |= _around(maker)
    return Program(
        json.dumps(task), chance.randint(0, 99), maker.waits, frozenset(maker.kinds), frozenset(maker.inboxes)
    )


ONE_BY_ONE = frozenset({"while", "until", "foreach"})
TOGETHER = frozenset({"parallel", "map", "collect", "skip", "state.branches", "race", "race.take", "race.stagger"})


def _around(maker: Maker) -> dict[str, Any]:
    """Return what a task says beside its steps: an ending, what it requires, its limits."""
    around: dict[str, Any] = {}
    if maker.chance.random() < 0.3:
        maker.kinds.add("finally")
        # after an error there is no output
        first: Step = {"evaluate": "$ (_ or 1) + (1 if error else 0)"}
        around["finally"] = [first, *maker.tool(), {"log": "ended with {{ output }}"}]
    if maker.chance.random() < 0.2:
        maker.kinds.add("require")
        around["require"] = [{"if": "_ >= 0", "message": "{{ _ }} is below zero"}]
    # which of several branches reaches a limit would depend on their pace
    close = bool(ONE_BY_ONE & maker.kinds) and not TOGETHER & maker.kinds
    if maker.chance.random() < (0.7 if close else 0.3):
        maker.kinds.add("limits.rounds" if close else "limits")
        around["limits"] = {"rounds": maker.chance.randint(1, 3) if close else 10_000, "steps": 50_000, "time": "1h"}
    return around


def reply_to(wait: Mapping[str, Any]) -> Literal["answer", "event", "message", "nothing"]:
    """Say what the body of a `wait` event asks for."""
    info = wait["info"]
    if info == NOBODY:
        return "nothing"
    if is_listening(info) or (isinstance(info, dict) and info.get("event") == STOP):
        return "message"
    if isinstance(info, dict) and "event" in info:
        return "event" if info["event"] == PING else "nothing"
    return "answer"


def message_for(wait: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the inbox and the message that the body of a `wait` event asks for."""
    info = wait["info"]
    if not is_listening(info):
        return str(info["key"]), ANSWER
    inbox = str(info["messages"])
    return inbox, {**ANSWER, "hold": True} if inbox.startswith(HOLD) else ANSWER


def events_for_all(count: int) -> list[EventSignal]:
    """Return so many events of each sort that programs wait for."""
    keys = [key for _ in range(count) for key in (None, KEY)]
    return [EventSignal(id=f"{PING}-{number}", name=PING, key=key, value=ANSWER) for number, key in enumerate(keys)]
