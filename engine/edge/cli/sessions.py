"""The commands `sessions ls`, `show`, `say`: who talks with whom, what was said, and saying something."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, table, write, write_rows

ANSWER_S = 600.0
"""How long an answer is waited for; the turn goes on if nobody does."""

sessions = typer.Typer(
    name="sessions",
    help="Sessions of users with agents: list, show, say something.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Session = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session, or how it begins.")]


@sessions.command("ls")
def list_sessions(
    limit: Annotated[int, typer.Option("--limit", min=1, max=999, help="Most sessions, the latest first.")] = 50,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List sessions, those in which something changed last first."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import clip, moment

    found = Api(address, api_key).get("/sessions", limit=limit, sort_by="updated_at", direction="desc")["items"]
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (item["id"], item["kind"], clip(item["situation"] or "-", 40), moment(item["updated_at"])) for item in found
    ]
    write(table(("ID", "KIND", "SITUATION", "CHANGED"), rows))


@sessions.command("show")
def show_session(
    session: Session, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show a session and what was said in it."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import moment, segment

    api = Api(address, api_key)
    path = f"/sessions/{segment(api.whole_id('sessions', session))}"
    view, history = api.get(path), api.get(f"{path}/history")
    if output is not Mode.TEXT:
        write(as_json({**view, "entries": history["entries"]}, pretty=output is Mode.JSON))
        return
    about = {
        **{name: view[name] for name in ("id", "kind")},
        "agents": ", ".join(view.get("agents") or [view["agent"]]),
        "users": ", ".join(view.get("users") or [view[name] for name in ("user",) if name in view]),
        **{name: view[name] for name in ("situation", "summary", "token_budget", "context_overflow")},
        "changed": moment(view["updated_at"]),
    }
    write("\n".join([lines_of(about), *(_said(entry) for entry in history["entries"])]))


def _said(entry: Mapping[str, Any]) -> str:
    """Return what was said, with when and by whom, and the turn, which is an execution."""
    from engine.edge.cli.values import moment

    who = f"{entry['name']} ({entry['role']})" if entry["name"] else entry["role"]
    head = f"\n{moment(entry['created_at'])}  {who}  {entry['turn_id']}"
    return "\n".join([head, *(f"  {line}" for line in _lines(entry))])


def _lines(message: Mapping[str, Any]) -> list[str]:
    """Return content and tool calls of a message as lines."""
    content = message.get("content")
    text = content if isinstance(content, str) else as_json(content, pretty=False)
    calls = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    told = [] if content in (None, "", []) else text.split("\n")
    return [*told, *(f"calls {call.get('name')} {call.get('arguments')}" for call in calls)]


@sessions.command("say")
def say(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the user says.")],
    agent: Annotated[str, typer.Option("--agent", help="Who of its agents shall answer.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Say something in a session and print the answer; Ctrl-C leaves it, and the turn goes on."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], **({"agent": agent} if agent else {})}
    api = Api(address, api_key)
    path = f"/sessions/{segment(api.whole_id('sessions', session))}/chat"
    answer = api.post(path, body, timeout_s=ANSWER_S, key=str(uuid.uuid4()))
    if output is not Mode.TEXT:
        write(as_json(answer, pretty=output is Mode.JSON))
        return
    for choice in answer["choices"]:
        write("\n".join(_lines(choice["message"])))
