"""The command `message`: send a message to a step that listens, and say what becomes of it."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from engine.core.spec.vocabulary import BUSY, DEFAULT_INBOX
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, ExecutionId, InputFile, InputJson, Output
from engine.edge.cli.output import Mode, as_json, write
from engine.edge.cli.values import read_input, segment

_WORDS = {
    "started": "begins turn {number}",
    "queued": "waits for its turn",
    "joined": "waits for the next turn, together with others",
    "interrupting": "interrupts the turn that runs, and begins turn {number}",
    "rolling_back": "rolls the turn back that runs, and begins turn {number}",
    "kept": "is kept until a step listens for it",
}


def send_message(
    execution_id: ExecutionId,
    text: Annotated[str | None, typer.Argument(help="The message, if it is a text.")] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the inbox, as the step says it.")] = DEFAULT_INBOX,
    busy: Annotated[
        str, typer.Option("--busy", help=f"If a turn runs, where the step permits it: {', '.join(BUSY)}.")
    ] = "",
    input_json: InputJson = None,
    input_file: InputFile = None,
    message_id: Annotated[str, typer.Option("--id", help="Its id; a message is taken once.")] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Send a message to an execution, for a step that listens now or later."""
    from engine.core.errors import InvalidInput
    from engine.edge.cli.api import ANSWER_TIMEOUT_S, Api

    given = [item for item in (text, input_json, input_file) if item is not None]
    if len(given) != 1:
        raise InvalidInput(
            "a message is a text, or --input, or --input-file",
            code="usage",
            hint="""such as 'Hello!' or --input '{"text": "Hello!"}'""",
        )
    if busy and busy not in BUSY:
        raise InvalidInput(f"--busy {busy!r} is none of {', '.join(BUSY)}", code="usage")
    body: dict[str, Any] = {
        "name": name,
        "id": message_id or str(uuid.uuid4()),
        "value": text if text is not None else read_input(input_json, input_file),
        "busy": busy,
        "actor": actor,
    }
    taken = Api(address, api_key).post(
        f"/executions/{segment(execution_id)}/messages", body, timeout_s=ANSWER_TIMEOUT_S
    )
    if output is not Mode.TEXT:
        write(as_json(taken))
        return
    number = "" if taken.get("turn") is None else int(taken["turn"]) + 1
    write(f"the message {_WORDS.get(str(taken['disposition']), taken['disposition']).format(number=number)}")
