"""The commands `hook create`, `ls`, `on`, `off`, `rm`, and `emit`: events from outside."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, InputFile, InputJson, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

hook = typer.Typer(
    name="hook",
    help="Let other services send events: make, list, switch off.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the hook.")]


def emit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the event.")],
    key: Annotated[str, typer.Option("--key", help="Its key, as JSON; text that is no JSON stands for itself.")] = "",
    input_json: InputJson = None,
    input_file: InputFile = None,
    event_id: Annotated[str, typer.Option("--id", help="Its id; an event is taken once.")] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Send an event to all executions that wait for it, and start the tasks that it triggers."""
    import uuid

    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import LONG_S
    from engine.edge.cli.values import json_or_text, read_input

    body: dict[str, Any] = {"name": name, "id": event_id or str(uuid.uuid4()), "actor": actor}
    if key:
        body["key"] = json_or_text(key)
    if input_json is not None or input_file is not None:
        body["value"] = read_input(input_json, input_file)
    view = Api(address, api_key).post("/events", body, timeout_s=LONG_S)
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    if view["repeated"]:
        note("an event with this id came before; this is what it did")
    for item in view["delivered"]:
        said = "was sent the event" if item["outcome"] == "sent" else f"refused it: {item['message']}"
        write(f"execution {item['execution_id']} {said}")
    for item in view["started"]:
        began = item["outcome"] == "started"
        said = f"started as {item['execution_id']}" if began else f"refused it: {item['message']}"
        write(f"task {item['task_name']} {said}")
    if not view["delivered"] and not view["started"]:
        write("nobody waits for it, and no task is triggered by it")


@hook.command("create")
def create_hook(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    event: Annotated[str, typer.Option("--event", "-e", help="Name of the events that come by it.")],
    key: Annotated[str, typer.Option("--key", help="Expression over the body: _.order.id; gives events a key.")] = "",
    only_if: Annotated[str, typer.Option("--if", help="Expression that must hold of the body.")] = "",
    kind: Annotated[
        str, typer.Option("--kind", help="How callers are known: key, github or standard (Standard Webhooks).")
    ] = "key",
    secret: Annotated[str, typer.Option("--secret", help="For signatures: the secret that the caller has.")] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Make a hook and print its key or secret, this once."""
    from engine.edge.cli.api import Api

    body = {
        "name": name,
        "event": event,
        "key": key,
        "only_if": only_if,
        "kind": kind,
        "secret": secret,
        "actor": actor,
    }
    api = Api(address, api_key)
    made = api.post("/hooks", body)
    if output is not Mode.TEXT:
        write(as_json(made, pretty=output is Mode.JSON))
        return
    note(f"others post to {api.address}{made['path']}; its {'key' if kind == 'key' else 'secret'} is not shown again")
    write(str(made["secret"]))


@hook.command("ls")
def list_hooks(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List hooks."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip, moment

    found = all_items(Api(address, api_key), "/hooks")
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["id"],
            item["name"],
            item["event"],
            clip(item["key"] or "-", 40),
            item["kind"],
            "on" if item["active"] else "off",
            str(item["taken"]),
            str(item["refused"]),
            moment(item["last_at"]),
        )
        for item in found
    ]
    write(table(("ID", "NAME", "EVENT", "KEY", "KIND", "STATE", "TAKEN", "REFUSED", "LAST"), rows))


@hook.command("on")
def switch_on(
    hook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Let a hook take events again."""
    _switch(hook_id, True, address, api_key, output)


@hook.command("off")
def switch_off(
    hook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Let a hook take nothing for now."""
    _switch(hook_id, False, address, api_key, output)


def _switch(hook_id: str, active: bool, address: str, api_key: str | None, output: Mode) -> None:
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    view = Api(address, api_key).patch(f"/hooks/{segment(hook_id)}", {"active": active})
    tell(view, f"the hook '{view['name']}' is {'on' if active else 'off'}", output)


@hook.command("rm")
def remove_hook(
    hook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Remove a hook."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    Api(address, api_key).delete(f"/hooks/{segment(hook_id)}")
    tell({"removed": hook_id}, f"the hook {hook_id} is removed", output)
