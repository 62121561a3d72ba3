"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.edge.cli.output import Mode

DEFAULT_ADDRESS = "http://127.0.0.1:8700"
# engine.settings says the same, but importing it takes 0.2 s
PROJECT_FILE = "everstep.toml"

Address = Annotated[str, typer.Option("--address", envvar="EVERSTEP_ADDRESS", help="Address of the API.")]
ApiKey = Annotated[str | None, typer.Option("--api-key", envvar="EVERSTEP_API_KEY", help="Key of the API.")]
Output = Annotated[Mode, typer.Option("--output", "-o", help="How to print: text, json or jsonl.")]
InputJson = Annotated[str | None, typer.Option("--input", "-i", metavar="JSON", help="The value, as JSON.")]
InputFile = Annotated[
    Path | None, typer.Option("--input-file", help="File with the value as JSON; - = standard input.")
]
ExecutionId = Annotated[str, typer.Argument(metavar="ID", help="Id of the execution.")]
Actor = Annotated[
    str, typer.Option("--actor", help="Who does it, as the records shall say it; the name of the API key is added.")
]
ProjectFile = Annotated[
    Path | None,
    typer.Option("--project", envvar="EVERSTEP_PROJECT_FILE", help="The operator's everstep.toml."),
]
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="EVERSTEP_DATA_DIR", help="Folder of the database and all other state.")
]
