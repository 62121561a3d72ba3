"""Commands over many executions: ls, which lists or counts them, and usage, which sums up what they used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import NotFound
from engine.core.kinds import ExecutionStatus
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows
from engine.edge.cli.values import duration, key_and_value, moment, parse_moment, point_in_time, segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

PAGE = 500
DEFAULT_LIMIT = 20

_NUMBERS = (
    *("calls", "failed_calls", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("completion_tokens", "reasoning_tokens", "total_tokens"),
)
_PARTS = ("CACHED", "WRITTEN", "REASONING")
"""Columns of `usage` that are shown if anything stands in them."""


class SortBy(StrEnum):
    """What `ls` sorts by."""

    CREATED = "created"
    UPDATED = "updated"
    CLOSED = "closed"
    COST = "cost"
    TOKENS = "tokens"


_SORTS = {
    SortBy.CREATED: "created_at",
    SortBy.UPDATED: "updated_at",
    SortBy.CLOSED: "closed_at",
    SortBy.COST: "cost",
    SortBy.TOKENS: "total_tokens",
}


class UsageBy(StrEnum):
    """What makes the lines of `usage`."""

    MODEL = "model"
    BACKEND = "backend"
    TASK = "task"
    AGENT = "agent"
    DAY = "day"
    LABEL = "label"


def list_executions(
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
    status: Annotated[
        list[ExecutionStatus] | None, typer.Option("--status", help="Only those that stand like this; repeatable.")
    ] = None,
    task: Annotated[
        str, typer.Option("--task", help="Only executions of this task (id), or of this name, such as chat.")
    ] = "",
    agent: Annotated[str, typer.Option("--agent", help="Only executions of this agent (id).")] = "",
    parent: Annotated[str, typer.Option("--parent", help="Only executions that this one started.")] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Only those with this label; repeatable, all must be there.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Only those with this metadata; a dot goes into an object."),
    ] = None,
    since: Annotated[str, typer.Option("--since", help="Created since then: 2h, 7d, or a time (RFC 3339).")] = "",
    until: Annotated[str, typer.Option("--until", help="Created before then.")] = "",
    error: Annotated[str, typer.Option("--error", help="Failed with this code; backend = all backend.… codes.")] = "",
    model: Annotated[str, typer.Option("--model", help="Had a reply of this model.")] = "",
    min_cost: Annotated[float | None, typer.Option("--min-cost", min=0, help="Cost at least so many dollars.")] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those that do not go on although they should.")] = False,
    sort: Annotated[
        SortBy, typer.Option("--sort", help="What they are sorted by, the highest first.")
    ] = SortBy.CREATED,
    reverse: Annotated[bool, typer.Option("--reverse", help="The lowest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = DEFAULT_LIMIT,
    everything: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Only say how many, by status.")] = False,
) -> None:
    """List executions, the newest first."""
    from engine.edge.cli.api import Api

    api = Api(address, api_key)
    wanted: dict[str, Any] = {
        "status": [item.value for item in status or ()],
        **(_of_task(api, task) if task else {}),
        "agent_id": api.whole_id("agents", agent),
        # a list knows whole ids only, the path of an execution also how they begin
        "parent_id": api.get(f"/executions/{segment(parent)}")["id"] if 6 <= len(parent) < 36 else parent,
        "label": label or [],
        "created_after": point_in_time(since, option="--since"),
        "created_before": point_in_time(until, option="--until"),
        "error_code": error,
        "model": model,
        "cost_min": None if min_cost is None else f"{min_cost:.9f}",
        "stuck": "true" if stuck else "",
        **_metadata(meta or ()),
    }
    if count:
        _show_counts(api.get("/executions/counts", **wanted), output)
        return
    wanted |= {"sort_by": _SORTS[sort], "direction": "asc" if reverse else "desc"}
    found = _pages(api, wanted, None if everything else limit)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    _show_table(list(found))


def usage(
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
    by: Annotated[UsageBy, typer.Option("--by", help="What makes the lines.")] = UsageBy.MODEL,
    since: Annotated[str, typer.Option("--since", help="Calls since then: 2h, 7d, or a time (RFC 3339).")] = "",
    until: Annotated[str, typer.Option("--until", help="Calls before then.")] = "",
    label: Annotated[str, typer.Option("--label", help="Only executions with this label.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=999, help="At most so many lines.")] = 100,
) -> None:
    """Sum up calls, tokens and cost of all executions.

    An execution that a step started does not take over the labels of its parent, only those that its own task gives in
    `dispatch`: --label and --by label leave its calls out of what the parent's labels used.
    """
    from engine.edge.cli.api import Api

    span = {"from": point_in_time(since, option="--since"), "to": point_in_time(until, option="--until")}
    report = Api(address, api_key).get("/usage", by=by.value, label=label, limit=limit, **span)
    if output is Mode.JSON:
        write(as_json(report))
        return
    if output is Mode.JSONL:
        write_rows(report["items"], output)
        return
    rows = [_usage_row(str(item.get("name") or item["key"] or "-"), item) for item in report["items"]]
    rows.append(_usage_row("total", report["total"]))
    heads = (by.value.upper(), "CALLS", "FAILED", "PROMPT", "CACHED", "WRITTEN", "REPLY", "REASONING", "TOKENS", "COST")
    # not all providers have a cache, or tell what models think with
    shown = [number for number in range(len(heads)) if heads[number] not in _PARTS or rows[-1][number] != "0"]
    write(table([heads[number] for number in shown], [[row[number] for number in shown] for row in rows]))
    if report["truncated"]:
        note(f"there are more than {limit} lines; the total counts them too")
    if report["total"]["unpriced_calls"]:
        note(f"the price of {report['total']['unpriced_calls']} replies is not known: the cost leaves them out")


def _of_task(api: Api, task: str) -> dict[str, str]:
    """Return the filter for a task, or for all executions of a name that several tasks have, or only executions."""
    from engine.edge.cli.tasks import find_task, tasks_of_name

    by_name = {"task_name": task}
    if len(tasks_of_name(api, task)) > 1:
        return by_name
    try:
        return {"task_id": str(find_task(api, task)["id"])}
    except NotFound as error:
        # turns of chats belong to no stored task
        if error.code == "task.not_found" and api.get("/executions", limit=1, **by_name)["items"]:
            return by_name
        raise


def _metadata(pairs: Sequence[str]) -> dict[str, str]:
    return {f"metadata_filter.{key}": value for key, value in map(key_and_value, pairs)}


def _pages(api: Api, wanted: Mapping[str, Any], most: int | None) -> Iterator[dict[str, Any]]:
    """Yield executions page by page, as they are needed."""
    cursor = ""
    while most is None or most > 0:
        size = PAGE if most is None else min(PAGE, most)
        page = api.get("/executions", limit=size, cursor=cursor, **wanted)
        yield from page["items"]
        most = None if most is None else most - len(page["items"])
        cursor = page["next_cursor"]
        if not cursor:
            return


def _show_counts(counts: Mapping[str, Any], output: Mode) -> None:
    if output is not Mode.TEXT:
        write(as_json(counts, pretty=output is Mode.JSON))
        return
    rows = [(status, str(count)) for status, count in sorted(counts["by_status"].items())]
    write(table(("STATUS", "COUNT"), [*rows, ("total", str(counts["total"]))]))


def _show_table(items: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            item["id"],
            item["status"],
            str(item.get("task_name") or item["task_id"]),
            moment(item["created_at"]),
            took(item),
            _cost(item.get("usage") or {}),
            str((item.get("error") or {}).get("code") or "") if item["status"] == ExecutionStatus.FAILED else "",
            str(item.get("parent_id") or ""),
        )
        for item in items
    ]
    titles = ("ID", "STATUS", "TASK", "CREATED", "TOOK", "COST", "ERROR", "PARENT")
    # a column without a word in it would only take room: most executions are nobody's children
    shown = [number for number in range(len(titles)) if number < 5 or any(row[number] for row in rows)]
    write(table([titles[number] for number in shown], [[row[number] for number in shown] for row in rows]))


def _usage_row(name: str, sums: Mapping[str, Any]) -> tuple[str, ...]:
    return (name, *(str(sums[number]) for number in _NUMBERS), _cost(sums) or "-")


def _cost(sums: Mapping[str, Any]) -> str:
    """Return a cost for people; with a mark if there are replies of unknown price, empty if none is known."""
    if sums.get("cost") is None:
        return ""
    return f"${sums['cost']}{'+?' if sums.get('unpriced_calls') else ''}"


def took(view: Mapping[str, Any]) -> str:
    """Return how long an ended execution took; `-` if it has not ended."""
    if not view.get("closed_at"):
        return "-"
    return duration((parse_moment(view["closed_at"]) - parse_moment(view["created_at"])).total_seconds())
