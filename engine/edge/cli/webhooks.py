"""The commands `webhook add`, `ls`, `show`, `on`, `off`, `rm`, `deliveries`, `resend` and `secret`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

webhook = typer.Typer(
    name="webhook",
    help="Tell other services how executions stand.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the webhook.")]


@webhook.command("add")
def add_webhook(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are posted.")],
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", help="Told of this status; repeatable. Ends and waits by default."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only of this task; repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Only with this label; repeatable.")] = None,
    root_only: Annotated[bool, typer.Option("--root-only", help="Leave out executions that others started.")] = False,
    secret: Annotated[
        str, typer.Option("--secret", help="What to sign with: whsec_BASE64; one is made if absent.")
    ] = "",
    remark: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Register a webhook and print its secret, this once."""
    from engine.edge.cli.api import Api

    body = {
        "url": url,
        "statuses": status or [],
        "tasks": task or [],
        "labels": label or [],
        "root_only": root_only,
        "secret": secret,
        "note": remark,
        "actor": actor,
    }
    made = Api(address, api_key).post("/webhooks", body)
    _tell_secret(made, f"the webhook {made['id']} is told of {', '.join(made['statuses'])}", output)


def _tell_secret(made: dict[str, Any], sentence: str, output: Mode) -> None:
    if output is not Mode.TEXT:
        write(as_json(made, pretty=output is Mode.JSON))
        return
    note(f"{sentence}; its secret is not shown again")
    write(str(made["secret"]))


@webhook.command("ls")
def list_webhooks(
    execution: Annotated[str, typer.Option("--execution", help="Those of one execution.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List webhooks."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip

    found = all_items(Api(address, api_key), "/webhooks", execution_id=execution)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["id"],
            clip(item["url"], 60),
            ", ".join(item["statuses"]),
            ", ".join(item["tasks"]) or "all",
            "on" if item["active"] else clip(f"off: {item['off_reason'] or 'switched off'}", 50),
        )
        for item in found
    ]
    write(table(("ID", "URL", "STATUSES", "TASKS", "STATE"), rows))


@webhook.command("show")
def show_webhook(
    webhook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show a webhook and how many deliveries it has in each state."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import moment, segment

    view = Api(address, api_key).get(f"/webhooks/{segment(webhook_id)}")
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    counts = ", ".join(f"{count} {state}" for state, count in sorted(view["deliveries"].items()))
    write(
        lines_of(
            {
                "id": view["id"],
                "url": view["url"],
                "state": "on" if view["active"] else f"off: {view['off_reason'] or 'switched off'}",
                "statuses": ", ".join(view["statuses"]),
                "tasks": ", ".join(view["tasks"]),
                "labels": ", ".join(view["labels"]),
                "execution": view["execution_id"],
                "note": view["note"],
                "created": moment(view["created_at"]),
                "deliveries": counts or "none",
            }
        )
    )


@webhook.command("on")
def switch_on(
    webhook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Switch a webhook on."""
    _switch(webhook_id, True, address, api_key, output)


@webhook.command("off")
def switch_off(
    webhook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Switch a webhook off; what happens meanwhile it is never told."""
    _switch(webhook_id, False, address, api_key, output)


def _switch(webhook_id: str, active: bool, address: str, api_key: str | None, output: Mode) -> None:
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    view = Api(address, api_key).patch(f"/webhooks/{segment(webhook_id)}", {"active": active})
    tell(view, f"the webhook {view['id']} is {'on' if active else 'off'}", output)


@webhook.command("secret")
def renew_secret(
    webhook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Give a webhook another secret and print it, this once."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    made = Api(address, api_key).post(f"/webhooks/{segment(webhook_id)}/secret", {})
    _tell_secret(made, f"the webhook {made['id']} has another secret", output)


@webhook.command("rm")
def remove_webhook(
    webhook_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Remove a webhook with its deliveries."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    Api(address, api_key).delete(f"/webhooks/{segment(webhook_id)}")
    tell({"removed": webhook_id}, f"the webhook {webhook_id} is removed", output)


@webhook.command("deliveries")
def list_deliveries(
    webhook_id: Id,
    state: Annotated[str, typer.Option("--state", help="Only those pending, sending, delivered or failed.")] = "",
    execution: Annotated[str, typer.Option("--execution", help="Only those of one execution.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Most to show.")] = 100,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List what a webhook was told, the latest first."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip, moment, segment

    path = f"/webhooks/{segment(webhook_id)}/deliveries"
    found = all_items(Api(address, api_key), path, most=limit, state=state, execution_id=execution)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["id"],
            item["execution_id"],
            item["status"],
            item["state"],
            str(item["attempts"]),
            moment(item["last_attempt_at"]),
            clip(item["last_error"] or str(item["last_status"] or ""), 60),
        )
        for item in found
    ]
    write(table(("ID", "EXECUTION", "STATUS", "STATE", "TRIES", "LAST", "ANSWER"), rows))


@webhook.command("resend")
def resend(
    webhook_id: Id,
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of the delivery.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Send a delivery again, under its id."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    path = f"/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/resend"
    view = Api(address, api_key).post(path, {})
    tell(view, f"{view['id']} is sent again", output)
