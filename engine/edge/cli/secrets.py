"""The commands `secrets set`, `ls`, `rm` and `reseal`: values that tasks name and only workers see."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, table, write, write_rows

secrets = typer.Typer(
    name="secrets",
    help="Secrets that tasks name as `secrets.NAME`: set, list, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MOST_CHARS = 1_000_000
"""Nothing longer is read; the API says how long a value may be."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="What tasks call it: `secrets.NAME`.")]


@secrets.command("set")
def set_secret(
    name: Name,
    from_env: Annotated[
        str, typer.Option("--from-env", metavar="VAR", help="Take the value of this environment variable.")
    ] = "",
    file: Annotated[Path | None, typer.Option("--file", help="Take the text of this file.")] = None,
    description: Annotated[str | None, typer.Option("--description", "-d", help="What it is for.")] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Set a secret, in the place of the one of that name.

    The value comes from standard input, or is asked for at a terminal; one line break at its end is left out. It is
    no argument, since those stand in the history of shells and in lists of processes.
    """
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    body: dict[str, Any] = {"value": _value_of(name, from_env, file)}
    if description is not None:
        body["description"] = description
    made = Api(address, api_key).put(f"/secrets/{segment(name)}", body)
    if output is not Mode.TEXT:
        write(as_json(made, pretty=output is Mode.JSON))
        return
    write(f"set {made['name']}")


@secrets.command("ls")
def list_secrets(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List secrets by name; their values are shown by nothing."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import moment

    api = Api(address, api_key)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get("/secrets", limit=500, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (each["name"], moment(each["updated_at"]), each["updated_by"] or "-", each["key_id"], each["description"])
        for each in found
    ]
    write(table(("NAME", "SET", "BY", "KEY", "DESCRIPTION"), rows))


@secrets.command("rm")
def remove_secret(name: Name, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None) -> None:
    """Remove a secret; calls that name it fail from now on."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    Api(address, api_key).delete(f"/secrets/{segment(name)}")
    write(f"removed {name}")


@secrets.command("reseal")
def reseal_secrets(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """Encrypt all secrets with the first key of EVERSTEP_SECRETS_KEYS, so that an older key may go."""
    from engine.edge.cli.api import Api

    told = Api(address, api_key).post("/secrets/reseal", {})
    if output is not Mode.TEXT:
        write(as_json(told, pretty=output is Mode.JSON))
        return
    write(f"encrypted {told['resealed']} anew")


def _value_of(name: str, variable: str, file: Path | None) -> str:
    """Read the value from where the options say.

    Raises:
        InvalidInput: `usage`.
    """
    if variable and file is not None:
        raise InvalidInput("the value cannot come from a variable and a file", code="usage", hint="give one of them")
    if variable:
        value = os.environ.get(variable)
        if value is None:
            raise InvalidInput(f"the environment variable {variable} is not set", code="usage")
        return value
    try:
        if file is not None:
            with file.open(encoding="utf-8", newline="") as opened:
                return _without_break(opened.read(MOST_CHARS))
        if sys.stdin.isatty():
            return str(typer.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True, err=True))
        return _without_break(sys.stdin.read(MOST_CHARS))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", code="usage") from error
    except UnicodeDecodeError as error:
        raise InvalidInput("the value is not UTF-8", code="usage", hint="encode bytes, such as in base64") from error


def _without_break(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
