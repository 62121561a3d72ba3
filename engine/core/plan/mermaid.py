"""Writes the graph of a plan as a Mermaid flowchart. Workflow-safe."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import Final

from engine.core.kinds import StepKind
from engine.core.plan.graph import Graph, GraphEdge, GraphGroup, GraphNode

_BOX: Final = ("[", "]")
_ROUND: Final = ("(", ")")
_PILL: Final = ("([", "])")
_DIAMOND: Final = ("{", "}")
_HEXAGON: Final = ("{{", "}}")
_DOUBLE: Final = ("[[", "]]")
_SLANTED: Final = ("[/", "/]")
_FLAG: Final = (">", "]")
_DRUM: Final = ("[(", ")]")

SHAPES: Final = MappingProxyType(
    {
        "start": _PILL,
        "end": _PILL,
        StepKind.PROMPT: _ROUND,
        StepKind.AGENT: _ROUND,
        StepKind.SEARCH: _DRUM,
        StepKind.IF_ELSE: _DIAMOND,
        StepKind.SWITCH: _DIAMOND,
        StepKind.WHILE: _DIAMOND,
        StepKind.UNTIL: _DIAMOND,
        StepKind.FOREACH: _HEXAGON,
        StepKind.MAP_REDUCE: _HEXAGON,
        StepKind.PARALLEL: _HEXAGON,
        StepKind.RACE: _HEXAGON,
        StepKind.YIELD: _DOUBLE,
        StepKind.TASK: _DOUBLE,
        StepKind.WAIT_FOR_INPUT: _SLANTED,
        StepKind.APPROVE: _SLANTED,
        StepKind.WAIT_FOR_EVENT: _SLANTED,
        StepKind.LISTEN: _SLANTED,
        StepKind.RETURN: _PILL,
        StepKind.ERROR: _FLAG,
    }
)
"""Opening and closing marks of a node by kind; kinds that are not here get a box."""

# what has a meaning even inside quotes: the quote itself, entity codes, HTML, Markdown, links, comments, style lines
_SPECIAL: Final = frozenset('"#&<>`\\%:*~@')
_MARKS: Final = re.compile(r"^[-+=]|(?<=\])\(|(?<=www)\.|(?:(?<=^\d)|(?<=^\d\d)|(?<=^\d\d\d))[.)](?=\s)")


def render_mermaid(graph: Graph) -> str:
    """Return a graph as Mermaid text.

    Args:
        graph: The graph.

    Returns:
        A flowchart, top down, named lists and bodies as subgraphs; without a newline at the end.
    """
    children: dict[str, list[GraphGroup]] = {}
    for group in graph.groups:
        children.setdefault(group.parent, []).append(group)
    members: dict[str, list[GraphNode]] = {}
    for node in graph.nodes:
        members.setdefault(node.group, []).append(node)
    # a JSON text is a YAML text as well, whatever the name of the task holds
    lines = ["---", f"title: {json.dumps(graph.task)}", "---", "flowchart TD"]
    for group in children.get("", []):
        lines += _group(group, children, members, "  ")
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    return "\n".join(lines)


def mermaid_id(path: str) -> str:
    """Return the id of a node or group in Mermaid; different paths have different ids.

    The prefix keeps names such as `end` apart from Mermaid's own words.
    """
    return "n_" + "".join(_id_part(char) for char in path)


def escape_label(text: str) -> str:
    """Return a text as one line of a quoted label in which nothing is read as markup.

    Mermaid reads labels as Markdown, and puts an error in place of those with lists or links; `1. fetch` would be one.
    """
    line = " ".join(text.split())
    marked = {found.start() for found in _MARKS.finditer(line)}
    return "".join(
        f"#{ord(char)};" if char in _SPECIAL or ord(char) < 32 or at in marked else char for at, char in enumerate(line)
    )


def _id_part(char: str) -> str:
    if char.isascii() and char.isalnum():
        return char
    return {".": "_", "_": "__"}.get(char, f"_{ord(char):x}_")


def _group(
    group: GraphGroup, children: dict[str, list[GraphGroup]], members: dict[str, list[GraphNode]], indent: str
) -> list[str]:
    lines = [f'{indent}subgraph {mermaid_id(group.id)}["{escape_label(group.title)}"]']
    lines += [f"{indent}  {_node(node)}" for node in members.get(group.id, [])]
    for inner in children.get(group.id, []):
        lines += _group(inner, children, members, f"{indent}  ")
    return [*lines, f"{indent}end"]


def _node(node: GraphNode) -> str:
    opening, closing = SHAPES.get(node.kind, _BOX)
    parts = [node.label, node.title, f"when {node.when}" if node.when else ""]
    text = "<br/>".join(escape_label(part) for part in parts if part)
    return f'{mermaid_id(node.id)}{opening}"{text}"{closing}'


def _edge(edge: GraphEdge) -> str:
    line = "-.->" if edge.aside else "-->"
    label = f'|"{escape_label(edge.label)}"|' if edge.label else ""
    return f"{mermaid_id(edge.source)} {line}{label} {mermaid_id(edge.target)}"
