"""The command `budgets`: what model calls may use together, and what is used of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, table, write, write_rows

_TITLES = ("BUDGET", "PER", "OF", "COST", "TOKENS", "CALLS", "UNDER WAY", "BEGINS ANEW")


def budgets(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """Show the budgets of everstep.toml, what is used of each now, and when it begins anew."""
    from engine.edge.cli.api import Api

    items = Api(address, api_key).get("/budgets")["items"]
    if output is not Mode.TEXT:
        write_rows(items, output)
    elif items:
        write(table(_TITLES, [row for item in items for row in _rows(item)]))
    else:
        write("there are no budgets; [budgets.NAME] in everstep.toml makes one")


def _rows(budget: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    from engine.edge.cli.values import moment

    ends = moment(budget["resets_at"]) if budget["resets_at"] else "-"
    for used in budget["used"] or [None]:
        whose = [] if used is None else [name for name in (used["tenant"], used["task"]) if name]
        cost, tokens = ("0", 0) if used is None else (used["cost"], used["tokens"])
        under_way = "-"
        if used is not None and (used["reserved_tokens"] or used["reserved_cost"] != "0"):
            under_way = f"${used['reserved_cost']}, {used['reserved_tokens']:,} tokens"
        is_own = budget["per"] == "execution"
        yield (
            budget["name"],
            budget["per"],
            "each" if is_own else "/".join(whose) or "all",
            "-" if budget["cost"] is None else f"${budget['cost']}" if is_own else f"${cost} of ${budget['cost']}",
            "-"
            if budget["tokens"] is None
            else f"{budget['tokens']:,}"
            if is_own
            else f"{tokens:,} of {budget['tokens']:,}",
            "-" if used is None else str(used["calls"]),
            under_way,
            ends,
        )
