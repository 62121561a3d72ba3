"""Golden files of `everstep graph`, and what holds of every graph.

After a wanted change run `EVERSTEP_UPDATE_GOLDEN=1 pytest tests/golden/test_graph.py` and look at the diff.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.kinds import StepKind
from engine.core.plan.graph import Graph, plan_graph
from engine.core.plan.ir import Block, Plan
from engine.core.plan.mermaid import escape_label, mermaid_id, render_mermaid
from engine.core.plan.ops import OpBase
from tests.golden.cases import AGENT, CONTRACTS, FOLDER

GRAPHS = FOLDER / "graphs"
UPDATE = os.environ.get("EVERSTEP_UPDATE_GOLDEN") == "1"
PLANS = sorted(FOLDER.glob("plan_*/task.*"))


def graph_of(path: Path) -> Graph:
    """Return the graph of a task file."""
    text = path.read_text(encoding="utf-8")
    return plan_graph(compile_text(text, file=path.name, contracts=CONTRACTS, agent=AGENT).plan)


@pytest.mark.parametrize("name", ["kinds", "names", "jumps"])
def test_a_task_is_drawn_as_the_golden_file_says(name: str) -> None:
    drawn = render_mermaid(graph_of(GRAPHS / f"{name}.yaml")) + "\n"
    golden = GRAPHS / f"{name}.mmd"
    if UPDATE:
        golden.write_text(drawn, encoding="utf-8")
    assert drawn == golden.read_text(encoding="utf-8")


def test_the_golden_graph_shows_every_kind_of_step() -> None:
    assert {node.kind for node in graph_of(GRAPHS / "kinds.yaml").nodes} - {"start", "end"} == set(StepKind)


@pytest.mark.parametrize("path", [*PLANS, *GRAPHS.glob("*.yaml")], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_graph_hangs_together(path: Path) -> None:
    graph = graph_of(path)
    nodes, groups = [node.id for node in graph.nodes], [group.id for group in graph.groups]
    names = {mermaid_id(name) for name in [*nodes, *groups]}
    assert len(names) == len(nodes) + len(groups)
    assert {end for edge in graph.edges for end in (edge.source, edge.target)} <= set(nodes)
    assert {node.group for node in graph.nodes} <= set(groups)
    assert {group.parent for group in graph.groups if group.parent} <= set(groups)


@pytest.mark.parametrize("path", [*PLANS, *GRAPHS.glob("*.yaml")], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_line_of_mermaid_is_one_of_five_forms(path: Path) -> None:
    name, text = r"n_\w+", r'"[^"\n]*"'
    forms = (
        rf"subgraph {name}\[{text}\]",
        "end",
        rf"{name}[\[\](){{}}>/]+{text}[\[\](){{}}/]+",
        rf"{name} -\.?->(?:\|{text}\|)? {name}",
    )
    lines = render_mermaid(graph_of(path)).split("\n")
    assert lines[0] == lines[2] == "---"
    assert lines[3] == "flowchart TD"
    assert [line for line in lines[4:] if not any(re.fullmatch(form, line.strip(), re.ASCII) for form in forms)] == []
    assert sum(line.strip().startswith("subgraph ") for line in lines) == sum(line.strip() == "end" for line in lines)


def test_ids_do_not_move_when_steps_elsewhere_change() -> None:
    before = compile_text("main: [{evaluate: 1}, {if: _, then: {evaluate: 2}}]", contracts={}).plan
    after = compile_text("main: [{prompt: x, label: new}, {if: _, then: {evaluate: 2}}]", contracts={}).plan
    assert [node.id for node in plan_graph(before).nodes] == [node.id for node in plan_graph(after).nodes]


class LaterKind(StrEnum):
    """A kind that does not exist yet."""

    TELEPORT = "teleport"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeleportOp(OpBase):
    """An op that the drawing has never heard of."""

    op: Any = LaterKind.TELEPORT


def test_a_kind_that_is_not_known_yet_becomes_a_plain_node_on_the_way() -> None:
    plan = compile_text("main: [{evaluate: 1}, {evaluate: 2}, {evaluate: 3}]", contracts={}).plan
    first, _, last = plan.blocks[0].ops
    teleport: Any = TeleportOp(label="away")
    strange: Plan = replace(plan, blocks=(Block("main", (first, teleport, last)),))
    drawn = render_mermaid(plan_graph(strange))
    assert '    n_main_1["away<br/>teleport"]' in drawn
    assert "  n_main_0 --> n_main_1\n  n_main_1 --> n_main_2\n" in drawn


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ('say "hi"', "say #34;hi#34;"),
        ("a #35; b", "a #35;35; b"),
        ("<script>", "#60;script#62;"),
        ("%%{init}%%", "#37;#37;{init}#37;#37;"),
        ("1. first", "1#46; first"),
        ("12) twelfth", "12#41; twelfth"),
        ("- item", "#45; item"),
        ("[text](target)", "[text]#40;target)"),
        ("https://www.example.com", "https#58;//www#46;example.com"),
        ("two\n    lines", "two lines"),
        ("_ > 2 | x[0].y - 1.5", "_ #62; 2 | x[0].y - 1.5"),
    ],
)
def test_nothing_in_a_label_is_read_as_markup(text: str, escaped: str) -> None:
    assert escape_label(text) == escaped


def test_the_jumps_of_a_chain_are_arrows_to_where_they_lead() -> None:
    edges = graph_of(GRAPHS / "jumps.yaml").edges
    jumps = {
        (edge.source.split(".")[1], edge.target.split(".")[1], edge.label, edge.aside)
        for edge in edges
        if edge.source.split(".")[1] != edge.target.split(".")[1]
    }
    assert {(source, target, aside) for source, target, _, aside in jumps} == {
        ("start", "end", False),
        ("start", "urgent", False),
        ("urgent", "start", True),
        ("urgent", "page", False),
        ("urgent", "answer", False),
        ("answer", "start", False),
        ("answer", "end", False),
        ("lost", "end", False),
    }
    assert ("start", "urgent", "otherwise", False) in jumps
    assert ("urgent", "start", "on failure", True) in jumps
