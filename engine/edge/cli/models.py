"""The commands `models ls`, `show`, `add`, `rm`, `pull`, `pulls`, `cancel` and `prune`, and `groups …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

models = typer.Typer(
    name="models",
    help="Models of backends: declare, fetch, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
groups = typer.Typer(
    name="groups",
    help="Several models under one name.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Backend = Annotated[str, typer.Argument(metavar="BACKEND", help="Name of the backend.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model there.")]
Group = Annotated[str, typer.Argument(metavar="NAME", help="Name of the group.")]
Policy = Annotated[
    str, typer.Option("--policy", help="order, least_loaded, cheapest, fastest or round_robin; that of [routing] else.")
]
PRUNE_S = 35.0


def _path(backend: str, model: str) -> str:
    from engine.edge.cli.values import segment

    return f"/backends/{segment(backend)}/models/{segment(model)}"


def _size(count: int | None) -> str:
    if not count:
        return "-"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


# --- models ----------------------------------------------------------------------------------------------------------


@models.command("ls")
def list_models(
    backend: Annotated[str, typer.Option("--backend", "-b", help="Only those of a backend.")] = "",
    declared: Annotated[
        bool | None, typer.Option("--declared/--undeclared", help="Only those; all by default.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List the models that are declared, and those that backends say they have."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items

    wanted = None if declared is None else str(declared).lower()
    found = all_items(Api(address, api_key), "/models", backend=backend, declared=wanted)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    write(table(("BACKEND", "MODEL", "DECLARED", "THERE", "CONTEXT", "CAN", "PRICE"), [_row(item) for item in found]))


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    known, price = item["capabilities"], item["price"]
    return (
        item["backend"],
        item["model"],
        "yes" if item["declared"] else "-",
        "yes" if item["found"] else "-",
        str(known.get("context") or "-"),
        ", ".join(name for name, value in known.items() if value is True) or "-",
        f"{price['input']}/{price['output']}" if price else "-",
    )


@models.command("show")
def show_model(
    backend: Backend,
    model: Model,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Show a model of a backend."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of

    view = Api(address, api_key).get(_path(backend, model))
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    names = ("BACKEND", "MODEL", "DECLARED", "THERE", "CONTEXT", "CAN", "PRICE")
    pairs = dict(zip((name.lower() for name in names), _row(view), strict=True))
    write(lines_of({**pairs, **view["details"]}))


@models.command("add")
def add_model(
    backend: Backend,
    model: Model,
    price_in: Annotated[float | None, typer.Option("--price-in", help="Dollars for a million tokens read.")] = None,
    price_out: Annotated[float | None, typer.Option("--price-out", help="Dollars for a million written.")] = None,
    price_cached: Annotated[float | None, typer.Option("--price-cached", help="The same, read from a cache.")] = None,
    context: Annotated[int | None, typer.Option("--context", help="Most tokens of request and reply.")] = None,
    can: Annotated[
        list[str] | None, typer.Option("--can", help="chat, tools, vision, json_schema, stream, embed; repeatable.")
    ] = None,
    cannot: Annotated[list[str] | None, typer.Option("--cannot", help="The same of what it cannot do.")] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Declare a model at a backend, or change what is declared of it."""
    from engine.core.errors import InvalidInput
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell

    body: dict[str, Any] = {}
    prices = {"input": price_in, "output": price_out, "cached_input": price_cached}
    if any(value is not None for value in prices.values()):
        if price_in is None or price_out is None:
            raise InvalidInput("a price has two parts", code="usage", hint="give --price-in and --price-out")
        body["price"] = {name: value for name, value in prices.items() if value is not None}
    known: dict[str, Any] = dict.fromkeys(can or (), True) | dict.fromkeys(cannot or (), False)
    if context is not None:
        known["context"] = context
    if known:
        body["capabilities"] = known
    view = Api(address, api_key).put(_path(backend, model), body)
    tell(view, f"the model {view['model']} is declared at {view['backend']}", output)


@models.command("rm")
def remove_model(
    backend: Backend,
    model: Model,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Declare a model no more; the backend keeps it."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell

    Api(address, api_key).delete(_path(backend, model))
    tell({"removed": model}, f"the model {model} is not declared at {backend} any more", output)


# --- fetches ---------------------------------------------------------------------------------------------------------


@models.command("pull")
def pull_model(
    backend: Backend,
    model: Model,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Let an Ollama server fetch a model; `models pulls` shows how far it is."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import LONG_S, tell

    view = Api(address, api_key).post("/pulls", {"backend": backend, "model": model}, timeout_s=LONG_S)
    tell(view, f"{model} is {view['state']} at {backend}: {view['id']}", output)


@models.command("pulls")
def list_pulls(
    state: Annotated[str, typer.Option("--state", help="Only queued, running, done, failed or cancelled.")] = "",
    backend: Annotated[str, typer.Option("--backend", "-b", help="Only those of a backend.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Most to show.")] = 100,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List the models that are fetched or were, the latest first."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip, moment

    found = all_items(Api(address, api_key), "/pulls", most=limit, state=state, backend=backend)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["id"],
            item["backend"],
            item["model"],
            item["state"],
            f"{_size(item['done_bytes'])} of {_size(item['total_bytes'])}",
            moment(item["updated_at"]),
            clip(item["error"]["message"] if item["error"] else item["status"] or "", 50),
        )
        for item in found
    ]
    write(table(("ID", "BACKEND", "MODEL", "STATE", "THERE", "HEARD OF", "STATUS"), rows))


@models.command("cancel")
def cancel_pull(
    pull: Annotated[str, typer.Argument(metavar="ID", help="Id of the fetch (`models pulls`).")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Cancel a fetch; what is there already stays at the server."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    view = Api(address, api_key).post(f"/pulls/{segment(pull)}/cancel", {})
    tell(view, f"the fetch of {view['model']} is cancelled", output)


@models.command("prune")
def prune_models(
    backend: Backend,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Only this one; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which they are.")] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Delete the models that an Ollama server has and nobody declared."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    body = {"models": model or [], "dry_run": dry_run}
    view = Api(address, api_key).post(f"/backends/{segment(backend)}/prune", body, timeout_s=PRUNE_S)
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    for name in view["undeclared"] if dry_run else view["deleted"]:
        write(name)
    if dry_run:
        note(f"{len(view['undeclared'])} would be deleted from {backend}")
    else:
        note(f"{len(view['deleted'])} deleted from {backend}")


# --- groups ----------------------------------------------------------------------------------------------------------


@groups.command("ls")
def list_groups(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List groups."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items

    found = all_items(Api(address, api_key), "/groups")
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [(item["name"], item["source"], item["policy"] or "-", ", ".join(item["models"])) for item in found]
    write(table(("NAME", "DECLARED IN", "POLICY", "MODELS"), rows))


@groups.command("show")
def show_group(
    name: Group, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show a group."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import segment

    view = Api(address, api_key).get(f"/groups/{segment(name)}")
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    pairs = {"name": view["name"], "declared in": view["source"], "policy": view["policy"]}
    write(lines_of({**pairs, "models": ", ".join(view["models"])}))


@groups.command("add")
def add_group(
    name: Group,
    members: Annotated[list[str], typer.Argument(metavar="MEMBER...", help="BACKEND/MODEL, or MODEL; in order.")],
    policy: Policy = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Declare a group."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell

    body = {"name": name, "models": members, **({"policy": policy} if policy else {})}
    view = Api(address, api_key).post("/groups", body)
    tell(view, f"the group {view['name']} is declared: {', '.join(view['models'])}", output)


@groups.command("set")
def set_group(
    name: Group,
    members: Annotated[list[str] | None, typer.Argument(metavar="[MEMBER...]", help="All members anew.")] = None,
    policy: Policy = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Change the members or the policy of a group."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    body = {**({"models": members} if members else {}), **({"policy": policy} if policy else {})}
    view = Api(address, api_key).patch(f"/groups/{segment(name)}", body)
    tell(view, f"the group {view['name']} is changed", output)


@groups.command("rm")
def remove_group(
    name: Group, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Remove a group; its models stay."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    Api(address, api_key).delete(f"/groups/{segment(name)}")
    tell({"removed": name}, f"the group {name} is removed", output)
