"""Shows what the executions used that steps of another one started, which its own sums leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.core.run.usage import PARTS, cost_to_nano, nano_to_cost
from engine.edge.cli.storytext import pages, usage_line
from engine.edge.cli.values import segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

MOST_ASKED = 1_000
MOST_SHOWN = 20
_SUMMED = ("llm_calls", "tool_calls", "total_tokens", *PARTS, "unpriced_calls")


def children_of(api: Api, execution_id: str) -> list[dict[str, Any]]:
    """Return the executions that one started, in the order in which it did, at most a thousand."""
    # the list knows whole ids only, the path of an execution also how they begin
    whole = str(api.get(f"/executions/{segment(execution_id)}")["id"])
    return list(pages(api, "/executions", most=MOST_ASKED, parent_id=whole, direction="asc"))


def child_words(child: Mapping[str, Any]) -> str:
    """Say how a child stands and what it used."""
    return ", ".join(part for part in (child["status"], usage_line(child.get("usage"))) if part)


def child_lines(children: Sequence[Mapping[str, Any]], execution_id: str) -> Iterator[str]:
    """Return a line for each child, or for the first of many, and one for all."""
    for child in children[:MOST_SHOWN]:
        yield f"{child.get('parent_path') or '-'} ran execution {child['id']}: {child_words(child)}"
    if len(children) > MOST_SHOWN:
        yield f"and {len(children) - MOST_SHOWN} more: everstep ls --parent {execution_id} --all"


def with_children(own: Mapping[str, Any] | None, children: Sequence[Mapping[str, Any]]) -> str:
    """Return what an execution used, and that with its children; empty if nobody used anything."""
    used = usage_line(own)
    if not children:
        return used
    sums = [own or {}, *(child.get("usage") or {} for child in children)]
    total: dict[str, Any] = {name: sum(int(item.get(name) or 0) for item in sums) for name in _SUMMED}
    prices = [price for item in sums if (price := cost_to_nano(item.get("cost"))) is not None]
    total["cost"] = nano_to_cost(sum(prices)) if prices else None
    number = f"{len(children)} children" if len(children) > 1 else "its child"
    many = f"the first {MOST_ASKED:,} children" if len(children) == MOST_ASKED else number
    together = usage_line(total)
    return f"{used or 'nothing'} (with {many}: {together})" if together else ""
