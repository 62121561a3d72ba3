"""The command `top`: what the whole server does now, refreshed every second."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import Unavailable
from engine.core.kinds import ExecutionStatus
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, table, write
from engine.edge.cli.values import clip, clock, duration, parse_moment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

REFRESH_S = 1.0
_STATUSES = tuple(status.value for status in ExecutionStatus)
_TITLES = ("ID", "TASK", "STATUS", "AGE", "TOKENS", "COST", "SINCE", "LAST")


def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once and leave.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, max=200, help="Open executions to show.")] = 20,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Show what goes on: executions by status, the open ones with their step, throughput, tokens, cost, workers.

    Refreshes every second on a terminal; -o jsonl prints a line each second for programs, -o json one object.
    """
    from engine.edge.cli.api import Api

    api = Api(address, api_key)
    live = output is Mode.TEXT and sys.stdout.isatty() and not once
    if once or output is Mode.JSON or (output is Mode.TEXT and not live):
        found = api.get("/overview", limit=limit)
        write(as_json(found) if output is Mode.JSON else _text(found, output))
        return
    try:
        if live:
            _live(api, limit)
        else:
            while True:
                write(as_json(api.get("/overview", limit=limit), pretty=False))
                time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def _text(found: Mapping[str, Any], output: Mode) -> str:
    return as_json(found, pretty=False) if output is Mode.JSONL else "\n".join(overview_lines(found, 10_000))


def _live(api: Api, limit: int) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    shown = Text("…")
    with Live(shown, console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            size = shutil.get_terminal_size()
            try:
                lines = list(overview_lines(api.get("/overview", limit=limit), size.columns))
            except Unavailable as error:
                # a restart of the API is nothing to leave for
                lines = [f"{time.strftime('%H:%M:%S')}  {error.message}; trying again"]
            live.update(Text("\n".join(lines[: size.lines]), no_wrap=True, overflow="ellipsis"), refresh=True)
            time.sleep(REFRESH_S)


def overview_lines(found: Mapping[str, Any], width: int) -> Iterator[str]:
    """Return an overview as lines.

    Args:
        found: What `GET /api/overview` answers.
        width: Characters of a line; the last column is cut to fit.
    """
    counts = found["counts"]
    by_status = counts["by_status"]
    told = "  ".join(f"{status} {by_status[status]:,}" for status in _STATUSES if by_status.get(status))
    stuck = f"  stuck {found['stuck']:,}" if found["stuck"] else ""
    yield f"{clock(found['at'])[:8]}  executions {counts['total']:,}{f'  {told}' if told else ''}{stuck}"
    yield from _while_lines(found)
    if found["processes"] is not None:
        yield _processes(found["processes"])
    if not found["open"]:
        yield "nothing is open"
        return
    now = parse_moment(found["at"])
    rows = [_row(item, now) for item in found["open"]]
    yield ""
    for line in table(_TITLES, rows).splitlines():
        yield line if len(line) <= width else f"{line[: width - 1]}…"


def _while_lines(found: Mapping[str, Any]) -> Iterator[str]:
    from engine.edge.cli.storytext import usage_line

    for name, word in (("last_minute", "last minute"), ("last_hour", "last hour")):
        part = found[name]
        ended = sum(part["ended"].values())
        failed = part["ended"].get("failed", 0)
        bad = f" ({failed:,} failed)" if failed else ""
        used = usage_line(part["usage"])
        yield f"{word:<11}  started {part['started']:,}  ended {ended:,}{bad}{f'  {used}' if used else ''}"


def _processes(found: list[Mapping[str, Any]]) -> str:
    alive: dict[str, int] = {}
    for pulse in found:
        if pulse["alive"]:
            alive[pulse["kind"]] = alive.get(pulse["kind"], 0) + 1
    words = [f"{kind} {number}" for kind, number in sorted(alive.items())]
    if not alive.get("worker"):
        words.append("NO WORKER")
    return f"processes    {'  '.join(words)}"


def _row(item: Mapping[str, Any], now: Any) -> tuple[str, ...]:
    last, stuck = item.get("last") or {}, item.get("stuck")
    since = last.get("at") or item["updated_at"]
    status = "stuck" if stuck else "retrying" if item["retrying"] else item["status"]
    what = f"{stuck.get('code')}: {stuck.get('message')}" if stuck else last.get("what") or ""
    where = last.get("path") or ""
    return (
        item["id"],
        clip(item["task_name"], 24),
        status,
        _age(item["created_at"], now),
        f"{item['total_tokens']:,}" if item["total_tokens"] else "-",
        f"${item['cost']}" if item["cost"] is not None else "-",
        _age(since, now),
        clip(f"{where}  {what}" if where else what, 160),
    )


def _age(at: str, now: Any) -> str:
    return duration(max(0.0, (now - parse_moment(at)).total_seconds()))
