"""Paths of steps: which op one leads to, what it stands in, and a fingerprint of what a step does. Workflow-safe."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from engine.core.kinds import StepKind
from engine.core.plan.codec import plan_to_json
from engine.core.plan.ir import Plan
from engine.core.plan.ops import (
    AgentOp,
    ForeachOp,
    IfElseOp,
    ListenOp,
    MapReduceOp,
    Op,
    ParallelOp,
    RaceOp,
    SwitchOp,
    UntilOp,
    WhileOp,
    YieldOp,
)
from engine.core.values import Json, canonical_json

FINALLY = "finally"
HANDLERS = ("on_error", "undo")
"""Blocks of a step that run after it, or in its place."""

_STEP = re.compile(r"\.(\d+)((?:[~!]\d+)*)(?=[.\[]|$)")
_MARKS = re.compile(r"[~!]\d+")
_SLOT = re.compile(r"\[(\d+)\](?=\.)")
_NUMBERED = re.compile(r"(case|do|map)\[(\d+)\]")
_IN_TURN = re.compile(r"\.turn\[\d+\]\.\d+(\[\d+\]\.\d+)?")
_REFERENCES = ("then", "otherwise", "do", "map", "on_error", "undo")


def plain_path(path: str) -> str:
    """Return a path without the marks of repeated blocks, also of those that were undone before."""
    return _MARKS.sub("", path)


def steps_around(path: str) -> list[str]:
    """Return the paths of the steps that a step stands in, the outermost first."""
    return [path[: match.end()] for match in _STEP.finditer(path) if match.end() < len(path)]


class Places:
    """Finds the steps of a plan by their paths.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._json: list[dict[str, Any]] | None = None
        self._tools: dict[str, Any] = {}

    def op_at(self, path: str) -> Op | None:
        """Return the op that a path leads to, its marks ignored; None if it leads to none. In a turn it is the agent.

        Numbers of rounds and items may be any, since only an execution knows how many there are.
        """
        found = self._find(plain_path(path))
        return None if found is None else self._plan.blocks[found[0]].ops[found[1]]

    def label_at(self, path: str) -> str:
        """Return the label of the step that a path leads to; empty if it has none, or there is no such step."""
        op = self.op_at(path)
        return "" if op is None else op.label

    def labelled(self, label: str) -> bool:
        """Whether a step of the plan has a label."""
        return bool(label) and any(op.label == label for block in self._plan.blocks for op in block.ops)

    def _find(self, path: str) -> tuple[int, int] | None:
        name, _, _ = path.partition(".")
        names = [item for item in self._plan.workflows if path.startswith(f"{item}.")]
        name = max(names, key=len, default=name)
        block = self._plan.ending if name == FINALLY and self._plan.ending is not None else None
        if block is None:
            block = self._plan.workflows.get(name)
        rest = path[len(name) :]
        while block is not None:
            match = _STEP.match(rest)
            if match is None:
                return None
            index = int(match.group(1))
            ops = self._plan.blocks[block].ops
            if index >= len(ops):
                return None
            rest = rest[match.end() :]
            if not rest or (isinstance(ops[index], AgentOp) and _IN_TURN.fullmatch(rest)):
                # what a turn of an agent runs stands in no plan
                return block, index
            block, rest = self._into(ops[index], rest)
        return None

    def _into(self, op: Op, rest: str) -> tuple[int | None, str]:
        """Return the block of an op that a path goes on into, and what is left of the path."""
        if slot := _SLOT.match(rest):
            number = int(slot.group(1))
            inside = op.branches if isinstance(op, (ParallelOp, RaceOp)) else ()
            return (inside[number] if number < len(inside) else None), rest[slot.end() :]
        rest = rest[1:]
        if isinstance(op, YieldOp) and rest.startswith(f"{op.workflow}."):
            return self._plan.workflows.get(op.workflow), rest[len(op.workflow) :]
        word, _, _ = rest.partition(".")
        return _block_of(op, word), rest[len(word) :]

    # --- fingerprints ----------------------------------------------------------------------------------------------

    def fingerprint(self, path: str) -> str | None:
        """Return a hash of what a step does with all that is inside it; None if a path leads to no step.

        Equal for equal steps of two plans, wherever their blocks stand in them.
        """
        found = self._find(plain_path(path))
        if found is None:
            return None
        names: set[str] = set()
        shown = self._expanded(self._blocks[found[0]]["ops"][found[1]], names)
        lists: dict[str, Json] = {}
        while left := sorted(names - lists.keys()):
            # lists may run each other and themselves, so they stand beside the step and not in it
            lists |= {name: self._block(self._plan.workflows[name], names) for name in left}
        return hashlib.blake2b(canonical_json([shown, lists]).encode(), digest_size=16).hexdigest()

    @property
    def _blocks(self) -> list[dict[str, Any]]:
        if self._json is None:
            body = plan_to_json(self._plan)
            self._json, self._tools = body["blocks"], body.get("tools", {})
        return self._json

    def _block(self, number: int, names: set[str]) -> Json:
        body = self._blocks[number]
        return {**body, "ops": [self._expanded(op, names) for op in body["ops"]]}

    def _expanded(self, op: dict[str, Any], names: set[str]) -> Json:
        """Return an op with its blocks in place of their numbers; note the lists that it runs."""
        shown: dict[str, Any] = dict(op)
        for name in _REFERENCES:
            if isinstance(op.get(name), int):
                shown[name] = self._block(op[name], names)
        if isinstance(op.get("branches"), list):
            shown["branches"] = [self._block(number, names) for number in op["branches"]]
        if isinstance(op.get("cases"), list):
            shown["cases"] = [{**case, "then": self._block(case["then"], names)} for case in op["cases"]]
        if isinstance(op.get("mods"), dict):
            shown["mods"] = self._expanded(op["mods"], names)
        if op.get("op") == StepKind.YIELD:
            names.add(op["workflow"])
        contract = self._tools.get(op["tool"]) if op.get("op") == StepKind.TOOL_CALL else None
        if contract is not None and contract.get("type") == "api_call":
            # what a tool of the task itself does stands in the plan; the operator's have only their name here
            shown["contract"] = contract
        if op.get("op") == StepKind.AGENT:
            offered = {name: self._tools[name] for name in op.get("tools", ()) if name in self._tools}
            shown["contracts"] = {name: item for name, item in offered.items() if item.get("type") == "api_call"}
        return shown


def _block_of(op: Op, word: str) -> int | None:
    if word == "on_error":
        return op.mods.on_error
    if word == "undo":
        return op.mods.undo
    if isinstance(op, IfElseOp):
        return op.then if word == "then" else op.otherwise if word == "else" else None
    match = _NUMBERED.fullmatch(word)
    if match is None:
        return None
    kind, number = match.group(1), int(match.group(2))
    if isinstance(op, SwitchOp) and kind == "case":
        return op.cases[number].then if number < len(op.cases) else None
    if isinstance(op, (ForeachOp, WhileOp, UntilOp, ListenOp)) and kind == "do":
        return op.do
    return op.map if isinstance(op, MapReduceOp) and kind == "map" else None
