"""The commands `backends ls`, `show`, `add`, `set`, `rm`, `check` and `apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

backends = typer.Typer(
    name="backends",
    help="Servers of models: declare, change, look how they are.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the backend.")]
Kind = Annotated[str, typer.Option("--kind", "-k", help="What it speaks: openai, anthropic, gemini or ollama.")]
ApiKind = Annotated[str, typer.Option("--api", help="Which way of kind openai: chat or responses.")]
Url = Annotated[str, typer.Option("--url", help="Its address; by default that of the provider.")]
KeyEnv = Annotated[str, typer.Option("--key-env", help="Variable of the workers that holds its key; never the key.")]
KeySecret = Annotated[str, typer.Option("--key-secret", help="Secret that holds its key (`everstep secrets set`).")]
Model = Annotated[list[str] | None, typer.Option("--model", "-m", help="A model that it serves; repeatable.")]
Default = Annotated[str, typer.Option("--default-model", help="Model of prompts that name none.")]
Connections = Annotated[int | None, typer.Option("--max-connections", help="Most calls of a worker at one time.")]
Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", help="calls=8, requests_per_minute=50 or tokens_per_minute=40000; repeatable; none = no."),
]
Pull = Annotated[bool | None, typer.Option("--pull/--no-pull", help="Fetch declared models that it lacks (ollama).")]
LONG_S = 35.0
"""A worker must come by for a check."""


def said(
    kind: str,
    url: str,
    key_env: str,
    key_secret: str,
    model: list[str] | None,
    default: str,
    connections: int | None,
    limit: list[str] | None,
    pull: bool | None,
) -> dict[str, Any]:
    """Return what options say of a backend, and nothing of what they leave out.

    Raises:
        InvalidInput: `usage` for a limit that is none.
    """
    given: dict[str, Any] = {
        "kind": kind,
        "base_url": url,
        "api_key_env": key_env,
        "api_key_secret": key_secret,
        "models": model,
        "default_model": default,
        "max_connections": connections,
        "pull": pull,
        "limits": limits_of(limit) if limit else None,
    }
    body = {name: value for name, value in given.items() if value not in ("", None, [])}
    if limit == ["none"]:
        body["limits"] = None
    return body


def limits_of(texts: list[str]) -> dict[str, int] | None:
    """Return limits given as NAME=NUMBER; None for `none`.

    Raises:
        InvalidInput: `usage`.
    """
    from engine.core.errors import InvalidInput

    if texts == ["none"]:
        return None
    limits: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not equals or not number.strip().isdigit():
            raise InvalidInput(
                f"'{text}' is no limit", code="usage", hint="write --limit calls=8, or --limit none to take all away"
            )
        limits[name.strip()] = int(number)
    return limits


@backends.command("ls")
def list_backends(
    kind: Annotated[str, typer.Option("--kind", help="Only those of a kind.")] = "",
    source: Annotated[str, typer.Option("--source", help="Only those of environment, file, store or bundled.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List backends and how they are."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip

    found = all_items(Api(address, api_key), "/backends", kind=kind, source=source)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["name"],
            item["kind"],
            item["source"],
            item["base_url"] or "-",
            clip(", ".join(item["models"]) or "any", 40),
            _health(item["state"]),
        )
        for item in found
    ]
    write(table(("NAME", "KIND", "DECLARED IN", "ADDRESS", "MODELS", "STATE"), rows))


def _health(state: dict[str, Any] | None) -> str:
    if state is None:
        return "not looked at yet"
    if state["health"] == "up":
        missing = ", ".join(state["missing"])
        return f"up, lacks {missing}" if missing else "up"
    return f"{state['health']}: {state['last_error']['code']}"


@backends.command("show")
def show_backend(
    name: Name, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show a backend, and what the last check found."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    _show(Api(address, api_key).get(f"/backends/{segment(name)}"), output)


def _show(view: dict[str, Any], output: Mode) -> None:
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import moment

    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    state = view["state"] or {}
    error = state.get("last_error") or {}
    key = view["api_key_env"] and f"${view['api_key_env']}"
    write(
        lines_of(
            {
                "name": view["name"],
                "kind": view["kind"] if view["api"] == "chat" else f"{view['kind']} ({view['api']})",
                "declared in": view["source"],
                "address": view["base_url"],
                "key": key or (view["api_key_secret"] and f"secret {view['api_key_secret']}"),
                "models": ", ".join(view["models"]) or "any",
                "default model": view["default_model"],
                "fetches": "what is missing" if view["pull"] else None,
                "limits": ", ".join(f"{name}={value}" for name, value in (view["limits"] or {}).items()),
                "prices": ", ".join(
                    f"{name} {item['input']}/{item['output']}" for name, item in view["prices"].items()
                ),
                "state": _health(view["state"]),
                "since": moment(state.get("since")) if state else None,
                "checked": moment(state.get("checked_at")) if state else None,
                "answered in": f"{state['latency_ms']:g} ms" if state.get("latency_ms") is not None else None,
                "last error": f"{error['code']}: {error['message']} ({moment(error['at'])})" if error else None,
                "changed": moment(view["updated_at"]) if view["updated_at"] else None,
                "by": view["actor"],
            }
        )
    )


@backends.command("add")
def add_backend(
    name: Name,
    kind: Kind = "",
    api: ApiKind = "",
    url: Url = "",
    key_env: KeyEnv = "",
    key_secret: KeySecret = "",
    model: Model = None,
    default: Default = "",
    connections: Connections = None,
    limit: Limit = None,
    pull: Pull = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Declare a backend; workers use it within five seconds."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell

    body = {"name": name, **said(kind, url, key_env, key_secret, model, default, connections, limit, pull)}
    if api:
        body["api"] = api
    view = Api(address, api_key).post("/backends", body)
    tell(view, f"the backend {view['name']} is declared: {view['kind']} at {view['base_url']}", output)


@backends.command("set")
def set_backend(
    name: Name,
    kind: Kind = "",
    api: ApiKind = "",
    url: Url = "",
    key_env: KeyEnv = "",
    key_secret: KeySecret = "",
    model: Model = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Pass any model on.")] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="Send no key.")] = False,
    default: Default = "",
    connections: Connections = None,
    limit: Limit = None,
    pull: Pull = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Change a backend; what is not said stays. `--model` names all models anew."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    body = said(kind, url, key_env, key_secret, model, default, connections, limit, pull)
    if api:
        body["api"] = api
    if any_model:
        body["models"] = None
    if no_key or key_secret:
        body["api_key_env"] = None
    if no_key or key_env:
        body["api_key_secret"] = None
    view = Api(address, api_key).patch(f"/backends/{segment(name)}", body)
    tell(view, f"the backend {view['name']} is changed", output)


@backends.command("rm")
def remove_backend(
    name: Name, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Remove a backend; calls under way end as they began."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    Api(address, api_key).delete(f"/backends/{segment(name)}")
    tell({"removed": name}, f"the backend {name} is removed", output)


@backends.command("check")
def check_backend(
    name: Name, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Let a worker look at a backend now; the exit code is 1 unless it is well."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.exits import Exit
    from engine.edge.cli.values import segment

    view = Api(address, api_key).post(f"/backends/{segment(name)}/check", {}, timeout_s=LONG_S)
    state = view["state"]
    error = (state or {}).get("last_error") or {}
    is_well = state is not None and state["health"] == "up"
    why = "" if is_well or not error else f" ({error['message']})"
    tell(view, f"{name} is {_health(state)}{why}", output)
    if not is_well:
        raise typer.Exit(Exit.FAILED)


@backends.command("apply")
def apply_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="[backends.…] and [groups.…], as in everstep.toml.")],
    prune: Annotated[bool, typer.Option("--prune", help="Remove what the store has beyond that.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Make the declared backends and groups those of a file: all of it, or nothing."""
    import tomllib

    from engine.core.errors import InvalidInput
    from engine.edge.cli.api import Api

    try:
        body = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", code="usage") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: {error}", code="usage", hint="mend the TOML syntax") from error
    others = sorted(set(body) - {"backends", "groups"})
    if others:
        note(f"left out: [{'], ['.join(others)}]; only backends and groups are declared here")
    wanted = {"backends": body.get("backends", {}), "groups": body.get("groups", {})}
    answer = Api(address, api_key).post("/backends/apply", {**wanted, "prune": prune, "dry_run": dry_run})
    if output is Mode.JSON:
        write(as_json(answer))
        return
    if output is Mode.JSONL:
        write_rows(answer["changes"], output)
        return
    rows = [(item["change"], item["kind"], item["name"]) for item in answer["changes"]]
    write(table(("CHANGE", "KIND", "NAME"), rows))
    if dry_run:
        note("nothing is changed yet")
