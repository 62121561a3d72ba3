"""Short words of these tests: what is said about a task, its plan's hash, how long a run took, what was asked."""

from __future__ import annotations

from typing import Any

from engine.control.compiling import Compiled, compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError
from engine.core.kinds import Dialect
from engine.core.plan.codec import plan_hash
from engine.core.run.effects import Call
from engine.core.run.machine import Machine, Pace
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, Handler, MemoryEffects
from engine.dryrun.running import DryRun
from tests.support.memory import TOOLS, compiled, echo

CONTRACTS = {tool.contract().name: tool.contract() for tool in TOOLS}


def compile_in(text: str, dialect: Dialect = "everstep") -> Compiled:
    """Compile a task that may use the tools of `tests.support.memory`."""
    return compile_text(text, contracts=CONTRACTS, dialect=dialect)


def findings(text: str, dialect: Dialect = "everstep") -> list[Diagnostic]:
    """Return all that is said about a task, errors and warnings."""
    try:
        return compile_in(text, dialect).warnings
    except DefinitionError as error:
        return list(error.diagnostics)


def codes(text: str, dialect: Dialect = "everstep") -> list[str]:
    """Return the codes of all that is said about a task."""
    return [item.code for item in findings(text, dialect)]


def hash_of(text: str) -> str:
    """Return the hash of a task's plan."""
    return plan_hash(compile_in(text).plan)


def seconds(result: DryRun) -> float:
    """Return how long a run took by the virtual clock, to the nearest tenth."""
    return round((result.events[-1].now_us - result.events[0].now_us) / 1e6, 1)


class Noting:
    """Answers calls by another handler and notes the calls in their order."""

    def __init__(self, handler: Handler = echo) -> None:
        self.handler = handler
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Answered:
        self.calls.append(call)
        return self.handler(call)

    def arguments(self, key: str) -> list[Any]:
        """Return one argument of every tool call."""
        return [dict(call.params.arguments)[key] for call in self.calls]  # type: ignore[union-attr]


def started(text: str, given: Any = None, handler: Handler = echo) -> tuple[Machine, MemoryEffects]:
    """Start a task and run it until it waits for something."""
    effects = MemoryEffects(handler)
    machine = Machine(compiled(text), effects, Identity(execution_id="e"))
    machine.start(given)
    assert machine.run() is Pace.WAITING
    return machine, effects


def finish(machine: Machine, effects: MemoryEffects) -> None:
    """Let everything happen that will, until the execution ends."""
    while machine.run() is not Pace.DONE:
        news = effects.pop()
        assert news is not None, "it waits for ever"
        kind, name, outcome = news
        if kind == "timer":
            machine.timer_fired(name)
        else:
            assert outcome is not None
            machine.call_done(name, outcome)
