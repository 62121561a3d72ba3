"""The commands `keys create`, `ls` and `revoke`: who may call the API."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

keys = typer.Typer(
    name="keys",
    help="API keys: make, list, revoke; keys for encryption.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_UNITS = {"m": 60, "h": 3_600, "d": 86_400}
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Another tenant; only the key of EVERSTEP_API_KEY may name one.")
]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", "-s", help="read, run, define or admin, each with those before it; read by default."),
    ] = None,
    tenant: Tenant = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="When it ends: 30m, 12h, 90d or a time with zone.")
    ] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Write to the store of the settings, without the API: for the first key.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Make a key and print it, this once."""
    from engine.edge.cli.api import Api

    ends = _end_of(expires) if expires else None
    if local:
        made = _create_local(name, scope or ["read"], tenant, ends)
    else:
        body = {"name": name, "scopes": scope or ["read"], "tenant": tenant}
        made = Api(address, api_key).post("/keys", {**body, "expires_at": None if ends is None else ends.isoformat()})
    if output is not Mode.TEXT:
        write(as_json(made, pretty=output is Mode.JSON))
        return
    note(
        f"the key '{made['name']}' of tenant '{made['tenant']}' may {', '.join(made['scopes'])}; it is not shown again"
    )
    write(str(made["key"]))


@keys.command("ls")
def list_keys(
    tenant: Tenant = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List keys, the oldest first, revoked ones included."""
    from engine.edge.cli.api import Api

    api = Api(address, api_key)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get("/keys", tenant=tenant, limit=500, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [_row(key) for key in found]
    write(table(("ID", "NAME", "SCOPES", "STATE", "CREATED", "LAST USED"), rows))


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `keys ls` shows it.")],
    tenant: Tenant = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Revoke a key: at once in the process that is asked, within five seconds in others."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    where = f"?tenant={segment(tenant)}" if tenant else ""
    revoked = Api(address, api_key).delete(f"/keys/{segment(key_id)}{where}")
    if output is not Mode.TEXT:
        write(as_json(revoked, pretty=output is Mode.JSON))
        return
    write(f"revoked {revoked['name']} ({revoked['id']})")


def _create_local(name: str, scopes: list[str], tenant: str | None, ends: dt.datetime | None) -> dict[str, Any]:
    import asyncio

    from pydantic import ValidationError

    from engine.control.keys import KeyService
    from engine.core.ids import DEFAULT_TENANT
    from engine.edge.native.keys import KeyBody, key_view
    from engine.settings import Settings
    from engine.store.database import open_database
    from engine.store.keys import KeyStore

    try:
        body = KeyBody.model_validate({"name": name, "scopes": scopes, "tenant": tenant, "expires_at": ends})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        raise InvalidInput(f"the key is not right: {told}", code="usage") from error

    async def create() -> dict[str, Any]:
        database = await open_database(Settings().store_url)
        try:
            made = await KeyService(KeyStore(database)).create(
                tenant=body.tenant or DEFAULT_TENANT,
                name=body.name,
                scopes=list(dict.fromkeys(body.scopes)),
                expires_us=None if ends is None else int(ends.timestamp() * 1e6),
                actor="local",
            )
        finally:
            await database.close()
        return {**key_view(made.facts), "key": made.text}

    return asyncio.run(create())


def _end_of(text: str) -> dt.datetime:
    """Read `--expires`: a length of time from now, or a moment.

    Raises:
        InvalidInput: `usage`.
    """
    length = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if length is not None:
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=int(length[1]) * _UNITS[length[2]])
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInput(
            f"'{text}' is no time", code="usage", hint="give 30m, 12h, 90d, or a time with zone: 2027-01-31T12:00:00Z"
        )
    return moment


def _row(key: Mapping[str, Any]) -> tuple[str, ...]:
    from engine.edge.cli.values import moment

    ended = key["expires_at"] is not None and dt.datetime.fromisoformat(key["expires_at"]) <= dt.datetime.now(dt.UTC)
    state = "revoked" if key["revoked_at"] else "expired" if ended else "good"
    used = moment(key["last_used_at"]) if key["last_used_at"] else "never"
    return key["id"], key["name"], ", ".join(key["scopes"]), state, moment(key["created_at"]), used
