"""The commands `docs add`, `ls`, `show`, `rm` and `search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, table, write, write_rows

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

docs = typer.Typer(
    name="docs",
    help="Keep documents that tasks and agents look things up in.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the document.")]
Agent = Annotated[str, typer.Option("--agent", help="Those of this agent, by its id or how it begins.")]
User = Annotated[str, typer.Option("--user", help="Those of this user, by its id or how it begins.")]


@docs.command("add")
def add_doc(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Text files, each a document; - = standard input.")
    ],
    title: Annotated[str, typer.Option("--title", help="What it is called; else the name of its file.")] = "",
    pieces: Annotated[
        bool, typer.Option("--pieces", help="Cut at empty lines; each piece is found by itself.")
    ] = False,
    metadata: Annotated[str, typer.Option("--metadata", "-m", help="What else is known of it, a JSON object.")] = "{}",
    model: Annotated[str, typer.Option("--model", help="Model of its vectors.")] = "",
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Make no vectors: it is found by its words.")] = False,
    agent: Agent = "",
    user: User = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Add documents and print their ids."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import parse_json

    api = Api(address, api_key)
    known = parse_json(metadata, option="--metadata")
    # all are read before the first one is sent
    contents = [(title or ("" if str(file) == "-" else file.name), _read(file, pieces)) for file in files]
    owner = _whose(api, agent, user)
    for name, content in contents:
        body = {"title": name, "content": content, "metadata": known, "model": model, "embed": not no_embed}
        made = api.post("/docs", {**body, **owner, "actor": actor})
        write(str(made["id"]) if output is Mode.TEXT else as_json(made, pretty=output is Mode.JSON))


def _whose(api: Api, agent: str, user: str) -> dict[str, str]:
    return {"agent": api.whole_id("agents", agent), "user": api.whole_id("users", user)}


def _read(file: Path, pieces: bool) -> str | list[str]:
    from engine.edge.cli.values import read_file

    text = read_file(file)
    if not pieces:
        return text
    return [piece.strip() for piece in text.replace("\r\n", "\n").split("\n\n") if piece.strip()] or text


@docs.command("ls")
def list_docs(
    agent: Agent = "",
    user: User = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most documents.")] = 100,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List documents, the newest first."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip, moment

    api = Api(address, api_key)
    found = all_items(api, "/docs", most=limit, **_whose(api, agent, user))
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["id"],
            clip(item["title"], 50),
            _owner(item),
            str(item["pieces"]),
            _state(item),
            moment(item["created_at"]),
        )
        for item in found
    ]
    write(table(("ID", "TITLE", "OWNER", "PIECES", "VECTORS", "CREATED"), rows))


def _owner(view: dict[str, Any]) -> str:
    owner = view["owner"]
    return "" if owner is None else f"{owner['kind']} {owner['id']}"


def _state(view: dict[str, Any]) -> str:
    from engine.edge.cli.values import clip

    if view["embedded_at"]:
        return f"{view['model']}, {view['dims']}"
    return clip(f"none: {view['trouble']}", 60) if view["trouble"] else "none"


@docs.command("show")
def show_doc(
    doc_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show a document with its text."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import moment, segment

    view = Api(address, api_key).get(f"/docs/{segment(doc_id)}")
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    told = {
        "id": view["id"],
        "title": view["title"],
        "owner": _owner(view),
        "metadata": as_json(view["metadata"], pretty=False) if view["metadata"] else "",
        "vectors": _state(view),
        "created": moment(view["created_at"]),
    }
    write(lines_of(told))
    for snippet in view["snippets"]:
        write(f"\n[{snippet['index']}] {snippet['content']}")


@docs.command("rm")
def remove_docs(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of documents.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
) -> None:
    """Delete documents."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    api = Api(address, api_key)
    for doc_id in ids:
        api.delete(f"/docs/{segment(doc_id)}")
        write(f"the document {doc_id} is deleted")


@docs.command("search")
def search_docs(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is looked for.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=50, help="Most documents.")] = 10,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0, max=1, help="Weight of the meaning: 0 words only, 1 meaning only.")
    ] = 0.5,
    confidence: Annotated[float, typer.Option("--confidence", min=-1, max=1, help="Least likeness in meaning.")] = 0.0,
    variety: Annotated[float, typer.Option("--mmr", min=0, max=1, help="How much variety counts.")] = 0.0,
    metadata: Annotated[str, typer.Option("--metadata", "-m", help="What metadata must hold, a JSON object.")] = "{}",
    agent: Agent = "",
    user: User = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Search documents by words and by meaning; without an owner those that are nobody's."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import clip, parse_json

    api = Api(address, api_key)
    body = {
        "text": text,
        "limit": limit,
        "alpha": alpha,
        "confidence": confidence,
        "mmr_strength": variety,
        "metadata_filter": parse_json(metadata, option="--metadata"),
        **_whose(api, agent, user),
    }
    found = api.post("/docs/search", body)["docs"]
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (f"{item['score']:.3f}", item["id"], clip(item["title"], 30), clip(item["snippet"]["content"], 70))
        for item in found
    ]
    write(table(("SCORE", "ID", "TITLE", "TEXT"), rows))
