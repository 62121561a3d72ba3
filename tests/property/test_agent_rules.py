"""Whatever a model asks for and whatever the rules are: no call is made that they forbid, and each is answered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from engine.control.compiling import compile_text
from engine.core.errors import CompileError
from engine.core.kinds import EventType
from engine.core.run.effects import Ok
from engine.dryrun.running import DryRun, run_in_memory
from tests.support.agents import Model, asks
from tests.support.memory import TOOLS

NAMES = ("lookup", "pay", "book")
ODD = ("", "rm -rf", "Lookup", "look_up")
ARGUMENTS = {"lookup": {"name": "x"}, "pay": {"amount": 1}, "book": {"seat": "a"}}
CONTRACTS = {tool.contract().name: tool.contract() for tool in TOOLS}
MOST_ROUNDS = 6


@dataclass(frozen=True)
class Rule:
    """The rules for one tool."""

    first: bool = False
    next: tuple[str, ...] | None = None
    only_after: tuple[str, ...] = ()
    at_most: int | None = None
    ends: bool = False
    required: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the rules as a task has them."""
        told = {"first": self.first, "ends": self.ends, "required": self.required}
        lists = {"next": self.next, "only_after": self.only_after}
        found: dict[str, Any] = {name: True for name, value in told.items() if value}
        found |= {name: list(value) for name, value in lists.items() if value}
        return found | ({} if self.at_most is None else {"at_most": self.at_most})


names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(tuple)
rules = st.builds(
    Rule,
    first=st.booleans(),
    next=st.none() | names,
    only_after=st.just(()) | names,
    at_most=st.none() | st.integers(1, 2),
    ends=st.booleans(),
    required=st.booleans(),
)
turns = st.lists(st.lists(st.sampled_from([*NAMES, *ODD]), min_size=1, max_size=4), max_size=MOST_ROUNDS)


@dataclass
class Judge:
    """Says whether a call may be made; knows the rules and what was called, and nothing of the engine."""

    rules: dict[str, Rule]
    counts: dict[str, int] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)

    def forbids(self, tool: str, beside: list[str]) -> str:
        """Say why a call must not be made in a turn after others of that turn; empty = it may be."""
        rule = self.rules.get(tool, Rule())
        firsts = [name for name, item in self.rules.items() if item.first]
        if tool not in NAMES:
            return "it does not exist"
        if firsts and not self.counts and tool not in firsts:
            return "another one comes first"
        if rule.at_most is not None and self.counts.get(tool, 0) + beside.count(tool) >= rule.at_most:
            return "it was called often enough"
        if rule.only_after and not set(rule.only_after) & set(self.before):
            return "it comes only after others"
        for name in self.before:
            following = self.rules.get(name, Rule()).next
            if following and tool not in following:
                return f"it may not follow {name}"
        for name in beside:
            if self.rules.get(name, Rule()).next or self.rules.get(name, Rule()).ends:
                return f"nothing is called beside {name}"
        waits = [name for name, item in self.rules.items() if item.required and name not in self.counts]
        if rule.ends and any(name != tool for name in waits):
            return "something else is required before the end"
        return ""

    def made(self, tools: list[str]) -> None:
        """Take what was called in a turn."""
        for name in tools:
            self.counts[name] = self.counts.get(name, 0) + 1
        self.before = tools or self.before


def called_by_turn(result: DryRun) -> dict[int, list[str]]:
    """Return the tools that were called in each turn, in the order of the calls."""
    found: dict[int, list[tuple[int, str]]] = {}
    for item in result.events:
        if item.type == EventType.EFFECT_STARTED and item.body["kind"] == "tool_call":
            _, _, rest = str(item.body["path"]).partition("turn[")
            turn, slot = int(rest.partition("]")[0]), int(rest.rpartition("[")[2].partition("]")[0])
            found.setdefault(turn, []).append((slot, str(item.body["name"])))
    return {turn: [name for _, name in sorted(calls)] for turn, calls in found.items()}


@given(st.dictionaries(st.sampled_from(NAMES), rules, max_size=3), turns, st.none() | st.integers(1, 3))
def test_no_call_is_made_that_the_rules_forbid(
    chosen: dict[str, Rule], asked: list[list[str]], carry_every: int | None
) -> None:
    step = {
        "agent": "x",
        "tools": list(NAMES),
        "max_rounds": MOST_ROUNDS,
        "unwrap": True,
        "rules": {name: rule.to_json() for name, rule in chosen.items() if rule.to_json()},
    }
    try:
        plan = compile_text(json.dumps({"name": "t", "main": [step]}), contracts=CONTRACTS).plan
    except CompileError:
        event("refused by the compiler")
        return
    said = [asks(*((name, ARGUMENTS.get(name, {})) for name in calls)) for calls in asked]
    model = Model(*said, *["done"] * (MOST_ROUNDS + 1))
    result = run_in_memory(plan, None, model, carry_every=carry_every)
    judge = Judge(chosen)
    for turn, tools in sorted(called_by_turn(result).items()):
        beside: list[str] = []
        for name in tools:
            assert judge.forbids(name, beside) == ""
            beside.append(name)
        assert turn < len(asked)
        judge.made(tools)
    _check_end(result, judge, chosen, asked)
    _check_answers(model)


def _check_end(result: DryRun, judge: Judge, chosen: dict[str, Rule], asked: list[list[str]]) -> None:
    assert result.finished is not None
    outcome = result.finished.outcome
    if isinstance(outcome, Ok):
        assert not [name for name, rule in chosen.items() if rule.required and name not in judge.counts]
        ended = any(rule.ends and judge.counts.get(name) for name, rule in chosen.items())
        assert ended or outcome.value == "done"
        event("ended by a tool" if ended else "answered")
    else:
        assert outcome.error.code == "agent.max_rounds"  # type: ignore[union-attr]
        event("out of rounds")


def _check_answers(model: Model) -> None:
    """Every call that a model asked for has exactly one result, which stands behind it."""
    for params in model.asked:
        open_ids: list[str] = []
        for message in params.messages:
            if message["role"] == "tool":
                assert message["tool_call_id"] == open_ids.pop(0)
            else:
                assert open_ids == []
                open_ids = [call["id"] for call in message.get("tool_calls") or ()]
        assert open_ids == []
