"""Random programs for tests: small tasks of every kind, made from a seed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.core.errors import ToolError
from engine.tooling import ToolContext, tool

MODULE = "tests.support.programs"
MODULUS = 1009
ANSWER = {"n": 5}
"""Every wait gets this answer, so that the result does not depend on which answer reaches which wait."""

Step = dict[str, Any]


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
    """

    text: str
    given: int
    waits: bool
    kinds: frozenset[str]


class _Maker:
    """Makes steps that turn a number into a number.

    Args:
        chance: Source of all decisions.
        waits: Whether steps may wait for answers.
        clock: Whether steps may depend on the clock.
        most_effects: About how many calls, timers and waits there may be.
    """

    def __init__(self, chance: random.Random, *, waits: bool, clock: bool, most_effects: int) -> None:
        self.chance = chance
        self.left = most_effects
        self.waits = False
        self.kinds: set[str] = set()
        self._leaves: list[Callable[[], list[Step]]] = [
            self._pure,
            self._tool,
            self._tool,
            self._retried,
            self._settled,
            self._prompt,
            self._sleep,
            self._state,
            self._drawn,
        ]
        if waits:
            self._leaves += [self._wait, self._wait]
        if clock:
            self._leaves += [self._clock, self._hurried]
        if waits and clock:
            self._leaves.append(self._expiring)

    def steps(self, depth: int, most: int) -> list[Step]:
        """Make a list of steps."""
        made: list[Step] = []
        for _ in range(self.chance.randint(1, most)):
            if depth > 0 and self.left > 2 and self.chance.random() < 0.5:
                blocks = [self._parallel, self._map, self._foreach, self._if, self._yield, self._retried_block]
                made += self.chance.choice(blocks)(depth - 1)
            elif self.left > 0:
                self.left -= 1
                made += self.chance.choice(self._leaves)()
            else:
                made += self._pure()
        return made

    # --- leaves ------------------------------------------------------------------------------------------------

    def _note(self, kind: str, *steps: Step) -> list[Step]:
        self.kinds.add(kind)
        return list(steps)

    def _pure(self) -> list[Step]:
        return self._note("pure", {"evaluate": f"$ (_ * {self.chance.randint(1, 9)} + 1) % {MODULUS}"})

    def _tool(self) -> list[Step]:
        ms = self.chance.choice([0, 0, 0, 5, 30])
        return self._note("tool", {"tool": "step_tool", "arguments": {"n": "$ _", "ms": ms}})

    def _retried(self) -> list[Step]:
        failures = self.chance.randint(1, 2)
        retry = {"attempts": failures + 1, "initial": 0.01, "factor": 1}
        return self._note("retry", {"tool": "flaky", "arguments": {"n": "$ _", "failures": failures}, "retry": retry})

    def _settled(self) -> list[Step]:
        step = {
            "tool": "flaky",
            "arguments": {"n": "$ _", "failures": 9},
            "retry": {"attempts": self.chance.randint(1, 2), "initial": 0.01},
            "on_error": [{"evaluate": "$ len(error.code) + _"}],
        }
        return self._note("on_error", step)

    def _prompt(self) -> list[Step]:
        return self._note("prompt", {"prompt": "number {{ _ }}", "unwrap": True}, {"evaluate": f"$ len(_) % {MODULUS}"})

    def _sleep(self) -> list[Step]:
        return self._note("sleep", {"sleep": {"seconds": self.chance.choice([0.02, 0.05, 0.1])}})

    def _state(self) -> list[Step]:
        return self._note("state", {"set": {"k": "$ _"}}, {"evaluate": "$ _.k + 1"}, {"get": "k"})

    def _drawn(self) -> list[Step]:
        return self._note("random", {"evaluate": f"$ (_ + random.randint(0, 50) + len(str(uuid()))) % {MODULUS}"})

    def _clock(self) -> list[Step]:
        return self._note("clock", {"evaluate": "$ [_, now().isoformat()]"}, {"evaluate": "$ _[0]"})

    def _hurried(self) -> list[Step]:
        step = {
            "parallel": [[{"tool": "step_tool", "arguments": {"n": "$ _", "ms": self.chance.choice([1, 40, 120])}}]],
            "timeout": self.chance.choice([0.02, 0.06]),
            "on_error": [{"evaluate": "$ [_]"}],
        }
        return self._note("timeout", step, {"evaluate": "$ _[0]"})

    def _wait(self) -> list[Step]:
        self.waits = True
        schema = {"type": "object", "required": ["n"]}
        wait = {"wait_for_input": {"info": {"n": "$ _"}, "schema": schema}}
        return self._note("wait", wait, {"evaluate": f"$ _.n % {MODULUS}"})

    def _expiring(self) -> list[Step]:
        self.waits = True
        wait = {"wait_for_input": {"info": {}}, "timeout": self.chance.choice([0.05, 0.2]), "on_error": {"evaluate": 3}}
        return self._note("wait.timeout", wait, {"evaluate": "$ 4"})

    # --- blocks ------------------------------------------------------------------------------------------------

    def _parallel(self, depth: int) -> list[Step]:
        branches = [self.steps(depth, 2) for _ in range(self.chance.randint(2, 3))]
        return self._note("parallel", {"parallel": branches}, {"evaluate": f"$ sum(_) % {MODULUS}"})

    def _map(self, depth: int) -> list[Step]:
        size = self.chance.randint(0, 4)
        self.left -= size
        step = {
            "over": f"$ list(range(_, _ + {size}))",
            "parallelism": self.chance.randint(1, 3),
            "map": self.steps(depth, 2),
            "reduce": f"$ (results * 3 + _) % {MODULUS}",
            "initial": 1,
        }
        return self._note("map", step)

    def _foreach(self, depth: int) -> list[Step]:
        size = self.chance.randint(0, 3)
        self.left -= size
        loop = {"in": f"$ [_ + i for i in range({size})]", "do": self.steps(depth, 2)}
        return self._note("foreach", {"foreach": loop}, {"evaluate": f"$ sum(_) % {MODULUS}"})

    def _if(self, depth: int) -> list[Step]:
        return self._note("if", {"if": "$ _ % 2 == 0", "then": self.steps(depth, 2), "else": self.steps(depth, 1)})

    def _yield(self, depth: int) -> list[Step]:
        del depth
        self.left -= 1
        return self._note("yield", {"workflow": "sub", "arguments": "$ _ + 1"})

    def _retried_block(self, depth: int) -> list[Step]:
        """Repeat a whole block once: its last step fails as long as the state does not know better."""
        inner = self.steps(depth, 1)
        fails = {"tool": "flaky", "arguments": {"n": "$ _", "failures": 1}}
        block = {"if": "$ True", "then": [*inner, fails], "retry": {"attempts": 2, "initial": 0.01}}
        return self._note("retry.block", {**block, "on_error": [{"evaluate": 8}]})


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
    maker = _Maker(chance, waits=waits, clock=clock, most_effects=most_effects)
    main = maker.steps(2, 4)
    if at_least_s:
        tail = [{"sleep": {"seconds": at_least_s}}, *maker.steps(1, 3), *maker._tool(), *maker._tool()]
        main = [{"parallel": [main, tail]}, {"evaluate": f"$ sum(_) % {MODULUS}"}, *maker._tool()]
        maker.kinds.add("long")
    sub = [*maker._pure(), *maker._tool()]
    task = {"name": f"program_{seed}", "main": main, "sub": sub}
    return Program(json.dumps(task), chance.randint(0, 99), maker.waits, frozenset(maker.kinds))
