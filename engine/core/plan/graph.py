"""Draws a plan as a graph: steps are nodes, ways between them edges, named lists and bodies groups. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.core.plan.ir import Plan
from engine.core.plan.lists import inner_blocks, positions
from engine.core.plan.ops import (
    ErrorOp,
    ForeachOp,
    IfElseOp,
    ListenOp,
    MapReduceOp,
    Op,
    ParallelOp,
    RaceOp,
    ReturnOp,
    SwitchOp,
    UntilOp,
    WhileOp,
    YieldOp,
)
from engine.core.plan.render import op_title

MAX_CONDITION_CHARS = 40


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A step, or the start or end of a named list.

    Attributes:
        id: Path of the step without loop counters, such as `main.3.then.0`; `main.start` and `main.end` for the ends.
        kind: Kind of the step; `start` or `end`.
        label: The author's name for it; empty if there is none.
        title: What it does in a few words.
        when: The condition of its `when`; empty if there is none.
        group: Id of the group in which it stands.
    """

    id: str
    kind: str
    label: str
    title: str
    when: str
    group: str


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """A way from one node to another.

    Attributes:
        source: Id of the node where it starts.
        target: Id of the node where it ends.
        label: When it is taken; empty = always.
        aside: Whether it leads away from the ordinary course: to an error's handler, or into a sub-workflow and back.
    """

    source: str
    target: str
    label: str = ""
    aside: bool = False


@dataclass(frozen=True, slots=True)
class GraphGroup:
    """A named list of the task, or the body of a loop, map, race or parallel step.

    Attributes:
        id: Its path, such as `main` or `main.3.do`.
        title: What it is.
        parent: Id of the group around it; empty for a named list.
    """

    id: str
    title: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A task as a graph; ids depend on the places of the steps only."""

    task: str
    groups: tuple[GraphGroup, ...]
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    def to_json(self) -> dict[str, Any]:
        """Return {task, groups, nodes, edges}; the latter three are lists of objects with the attributes above."""
        return asdict(self)


def plan_graph(plan: Plan) -> Graph:
    """Return a plan as a graph.

    Steps of kinds that this module does not know become a node with an edge to each list inside them.

    Args:
        plan: The plan.

    Returns:
        Groups before those inside them, nodes and edges in the order of the source.
    """
    drawing = _Drawing(plan)
    for name, block in plan.workflows.items():
        drawing.add_workflow(name, block)
    if plan.ending is not None:
        drawing.add_workflow("finally", plan.ending)
    return Graph(plan.task, tuple(drawing.groups), tuple(drawing.nodes), tuple(drawing.edges))


@dataclass(frozen=True, slots=True)
class _Way:
    """A way out of a node that leads to whatever comes next."""

    source: str
    label: str = ""
    aside: bool = False


class _Drawing:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.groups: list[GraphGroup] = []
        self.nodes: list[GraphNode] = []
        self.edges: list[GraphEdge] = []
        self.returns: list[_Way] = []

    def add_workflow(self, name: str, block: int) -> None:
        start, end = f"{name}.start", f"{name}.end"
        self.returns = []
        self.groups.append(GraphGroup(name, name))
        self.nodes.append(GraphNode(start, "start", "", name, "", name))
        found = positions(self.plan, name, block)
        if name in found:
            ways = self.add_block(block, name, name, [_Way(start)])
        else:
            ways = self.add_jumping(name, found, {block: [_Way(start)]})
        if ways or self.returns:
            self.nodes.append(GraphNode(end, "end", "", "end", "", name))
            self.join([*ways, *self.returns], end)

    def add_jumping(self, name: str, found: Mapping[str, int], into: Mapping[int, list[_Way]]) -> list[_Way]:
        """Draw the blocks of a list that jumps, each as a group, and return the ways to the list's end."""
        heads = {number: f"{path}.0" for path, number in found.items()}
        ends: list[_Way] = []
        for path, number in found.items():
            block = self.plan.blocks[number]
            body = f"{path}.steps"
            self.groups.append(GraphGroup(body, block.name, name))
            out = self.add_block(number, path, body, into.get(number, []))
            for place, exit_ in enumerate(block.exits):
                label = "" if exit_.when is None else _condition(exit_.when.source)
                # the first exit that holds is taken
                ways = [_Way(way.source, label or ("otherwise" if place else way.label)) for way in out]
                if exit_.to is None:
                    ends += ways
                else:
                    self.join(ways, heads[exit_.to])
            if block.on_failure is not None:
                told = next((index for index, op in enumerate(block.ops) if op.label), 0)
                self.join([_Way(f"{path}.{told}", "on failure", aside=True)], heads[block.on_failure])
        return ends

    def add_block(self, number: int, path: str, group: str, ways: list[_Way]) -> list[_Way]:
        """Draw a list of steps that starts where the ways end; return the ways out of it."""
        for index, op in enumerate(self.plan.blocks[number].ops):
            ways = self.add_step(op, f"{path}.{index}", group, ways)
        return ways

    def add_step(self, op: Op, path: str, group: str, ways: list[_Way]) -> list[_Way]:
        when = "" if op.mods.when is None else _condition(op.mods.when.source)
        title = op_title(replace(op, label=""))
        self.nodes.append(GraphNode(path, op.op.value, op.label, title, when, group))
        self.join(ways, path)
        out = self.ways_out(op, path, group)
        if op.mods.on_error is not None:
            out += self.inner(op.mods.on_error, path, group, [_Way(path, "on error", aside=True)])
        if op.mods.undo is not None:
            # whatever failed later goes on from there, not these steps
            self.inner(op.mods.undo, path, group, [_Way(path, "undo", aside=True)])
        return out

    def ways_out(self, op: Op, path: str, group: str) -> list[_Way]:
        """Draw what is inside a step, its handler left out, and return the ways that lead on."""
        match op:
            case IfElseOp():
                out = self.inner(op.then, path, group, [_Way(path, "yes")])
                no = [_Way(path, "no")]
                return out + (no if op.otherwise is None else self.inner(op.otherwise, path, group, no))
            case SwitchOp():
                return self.cases(op, path, group)
            case ForeachOp():
                return self.loop(op.do, path, group, "for each item", ("next", "done"))
            case WhileOp():
                return self.loop(op.do, path, group, "each round", ("yes", "no"))
            case UntilOp():
                return self.loop(op.do, path, group, "each round", ("next", "yes"))
            case ListenOp():
                return self.loop(op.do, path, group, "each message", ("message", "done"))
            case MapReduceOp():
                body = self.grouped(op.map, path, group, f"for each item, {op.parallelism} at a time")
                return self.inner(op.map, path, body, [_Way(path)])
            case ParallelOp():
                some = f", {op.parallelism} at a time" if op.parallelism < len(op.branches) else ""
                return self.branches(op.branches, path, group, f"in parallel{some}")
            case RaceOp():
                winners = "one counts" if op.take == 1 else f"{op.take} count"
                return self.branches(op.branches, path, group, f"race, the first {winners}")
            case YieldOp():
                if op.workflow in self.plan.workflows:
                    self.edges.append(GraphEdge(path, f"{op.workflow}.start", "runs", aside=True))
                return [_Way(path)]
            case ReturnOp():
                self.returns.append(_Way(path))
                return []
            case ErrorOp():
                return []
            case _:
                return self.unknown(op, path, group)

    def cases(self, op: SwitchOp, path: str, group: str) -> list[_Way]:
        out: list[_Way] = []
        for case in op.cases:
            label = "otherwise" if case.condition is None else _condition(case.condition.source)
            out += self.inner(case.then, path, group, [_Way(path, label)])
        if all(case.condition is not None for case in op.cases):
            out.append(_Way(path, "otherwise"))
        return out

    def loop(self, block: int, path: str, group: str, title: str, labels: tuple[str, str]) -> list[_Way]:
        """Draw a body that leads back to its step; the labels are those of the ways into it and past it."""
        into, past = labels
        body = self.grouped(block, path, group, title)
        self.join(self.inner(block, path, body, [_Way(path, into)]), path)
        return [_Way(path, past)]

    def branches(self, blocks: Iterable[int], path: str, group: str, title: str) -> list[_Way]:
        body = f"{path}.branches"
        self.groups.append(GraphGroup(body, title, group))
        return [way for block in blocks for way in self.inner(block, path, body, [_Way(path, self.name_of(block))])]

    def unknown(self, op: Op, path: str, group: str) -> list[_Way]:
        own = [block for block in inner_blocks(op) if block not in (op.mods.on_error, op.mods.undo)]
        ways = [self.inner(block, path, group, [_Way(path, self.name_of(block))]) for block in own]
        return [way for found in ways for way in found] if own else [_Way(path)]

    def inner(self, block: int, path: str, group: str, ways: list[_Way]) -> list[_Way]:
        return self.add_block(block, f"{path}.{self.name_of(block)}", group, ways)

    def grouped(self, block: int, path: str, group: str, title: str) -> str:
        """Open a group for a block; return its id."""
        body = f"{path}.{self.name_of(block)}"
        self.groups.append(GraphGroup(body, title, group))
        return body

    def name_of(self, block: int) -> str:
        return self.plan.blocks[block].name

    def join(self, ways: Iterable[_Way], target: str) -> None:
        self.edges.extend(GraphEdge(way.source, target, way.label, way.aside) for way in ways)


def _condition(source: str) -> str:
    line = " ".join(source.split())
    return line if len(line) <= MAX_CONDITION_CHARS else f"{line[: MAX_CONDITION_CHARS - 1]}…"
