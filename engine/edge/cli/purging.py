"""The commands `purge`, which removes ended executions for good, and `keys encryption`, which makes a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.core.kinds import ExecutionStatus
from engine.core.values import duration_seconds
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, write
from engine.edge.cli.values import metadata_of, segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

PAGE = 200
SHOWN_KEPT = 20


def purge(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These executions.")] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Those that ended so long ago: 12h, 30d.")
    ] = "",
    status: Annotated[
        list[ExecutionStatus] | None, typer.Option("--status", help="Only those that ended like this; repeatable.")
    ] = None,
    task: Annotated[str, typer.Option("--task", help="Only executions of this task (id or name).")] = "",
    agent: Annotated[str, typer.Option("--agent", help="Only executions of this agent (id).")] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Only those with this label; repeatable, all must be there.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Only those with this metadata; a dot goes into an object."),
    ] = None,
    error: Annotated[str, typer.Option("--error", help="Failed with this code; backend = all backend.… codes.")] = "",
    terminate: Annotated[
        bool, typer.Option("--terminate", help="Stop those that have not ended, and purge them too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and purge nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Purge ended executions, and what they started: rows, histories in Temporal, large payloads.

    Nothing of them can be read or brought back afterwards; only that there was one is remembered. Temporal deletes in
    the background, and the repair process goes on until nothing is left.
    """
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import task_id_of

    if not ids and not older_than:
        raise InvalidInput(
            "a purge needs --older-than or ids", code="usage", hint="everstep purge --older-than 30d --dry-run"
        )
    api = Api(address, api_key)
    wanted: dict[str, Any] = {
        # a purge knows whole ids only, the path of an execution also how they begin
        "ids": [str(api.get(f"/executions/{segment(one)}")["id"]) if 6 <= len(one) < 36 else one for one in ids or ()],
        "older_than_s": _age_of(older_than) if older_than else None,
        "status": [item.value for item in status or ()],
        "task_id": task_id_of(api, task) if task else None,
        "agent_id": agent or None,
        "label": label or [],
        "metadata": metadata_of(meta or (), None),
        "error_code": error or None,
        "terminate": terminate,
        "actor": actor,
    }
    if not dry_run and not yes and output is Mode.TEXT:
        count = sum(page["purged"] for page in _pages(api, {**wanted, "dry_run": True}))
        if count and not typer.confirm(f"purge {count} executions for good?", err=True):
            raise typer.Abort
    told: dict[str, Any] = {"dry_run": dry_run, "purged": 0, "ids": [], "pending": [], "kept": []}
    for page in _pages(api, {**wanted, "dry_run": dry_run}):
        told["purged"] += page["purged"]
        told["ids"] += page["ids"]
        told["pending"] += page["pending"]
        told["kept"] += page["kept"]
    _show(told, output)


def encryption_key(
    name: Annotated[str, typer.Argument(metavar="ID", help="Name of the key, such as 2026-11.")],
) -> None:
    """Make a key for EVERSTEP_ENCRYPTION_KEYS and print it as `ID:BASE64`.

    The first key of the list encrypts what Temporal is given, all of them decrypt. For a rotation put the new one
    at the end of every process's list, then at the front; the old one stays until no history needs it any more.
    """
    from engine.control.sealing import new_key, read_ring

    key = new_key(name)
    read_ring(key)
    write(key)


def _pages(api: Api, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = api.post("/purge", {**wanted, "limit": PAGE, "cursor": cursor})
        yield page
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _age_of(text: str) -> float:
    found = duration_seconds(text)
    if found is None:
        raise InvalidInput(f"'{text}' is no age", code="usage", hint="give 30m, 12h, 30d")
    return float(found)


def _show(told: dict[str, Any], output: Mode) -> None:
    if output is not Mode.TEXT:
        write(as_json(told, pretty=output is Mode.JSON))
        return
    verb = "would be purged" if told["dry_run"] else "purged"
    write(f"{told['purged']} executions {verb}")
    for item in told["kept"][:SHOWN_KEPT]:
        note(f"kept {item['id']}: {item['message']}")
    if len(told["kept"]) > SHOWN_KEPT:
        note(f"kept {len(told['kept']) - SHOWN_KEPT} more")
