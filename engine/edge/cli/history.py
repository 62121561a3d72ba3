"""The command `history`: the whole story of an execution in order: prompts, replies, retries, answers and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.kinds import EventType
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, ExecutionId, Output
from engine.edge.cli.output import Mode, note, write, write_rows
from engine.edge.cli.values import clock, moment, segment

if TYPE_CHECKING:
    from engine.edge.cli.storytext import StoryText
    from engine.edge.cli.titles import Titles

Full = Annotated[bool, typer.Option("--full", help="Whole values; long ones are cut otherwise.")]

_VALUES = ("input", "output", "value", "info", "details")
"""Members of an event that are shown under its sentence, beside requests and replies."""


def history(
    execution_id: ExecutionId,
    full: Full = False,
    path: Annotated[str, typer.Option("--path", help="Only what happened at this step, or inside it.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Tell the whole story: what ran, on what, with which prompt and reply, what was retried and who answered."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.storytext import StoryText, pages, usage_line
    from engine.edge.cli.tasks import task_of_execution
    from engine.edge.cli.titles import titles_of

    api = Api(address, api_key)
    view = api.get(f"/executions/{segment(execution_id)}")
    found = pages(api, f"/executions/{segment(execution_id)}/history", full="true" if full else None)
    items = (item for item in found if not path or _is_at(item, path))
    if output is not Mode.TEXT:
        write_rows(items, output)
        return
    text = StoryText(full=full)
    titles = titles_of(task_of_execution(api, view))
    write(f"{view.get('task_name') or view['task_id']}  {view['id']}  {moment(view['created_at'])}")
    replies: dict[str, Any] = {}
    for item in items:
        for line in _lines(item, text, titles, replies):
            write(line)
    used = usage_line(view.get("usage"))
    write(f"status: {view['status']}{f'  used: {used}' if used else ''}")
    if text.cut:
        note("long values were cut; --full prints them whole")


def _is_at(item: Mapping[str, Any], path: str) -> bool:
    place = str(item.get("path") or "")
    return place.startswith(path) and place[len(path) : len(path) + 1] in ("", ".", "[", "~", "!")


def _lines(item: Mapping[str, Any], text: StoryText, titles: Titles, replies: dict[str, Any]) -> Iterator[str]:
    """Return an entry of the history as lines: time, place and sentence, and below it what belongs to it.

    Args:
        item: The entry.
        text: Makes lines of values.
        titles: Names steps.
        replies: The last reply of each step by its path; changed.
    """
    text.cut = text.cut or bool(item.get("truncated"))
    path, data = str(item.get("path") or ""), item.get("data") or {}
    title = _title(path, data, titles)
    words = (clock(item["at"]), path, f"[{title}]" if title else "", item["what"])
    yield "  ".join(word for word in words if word)
    if "request" in data:
        yield from text.request(data["request"])
    if "reply" in data:
        replies[path] = data["reply"] or {}
        yield from text.message(data["reply"])
    for name in _VALUES:
        if data.get(name) is not None and not (name == "output" and _is_known(item, text, replies)):
            yield from text.value(name, data[name])
    details = (data.get("error") or {}).get("details") if isinstance(data.get("error"), Mapping) else None
    if details:
        yield from text.value("details", details)


def _is_known(item: Mapping[str, Any], text: StoryText, replies: dict[str, Any]) -> bool:
    """Whether the output of an event was shown before: as a reply or an answer, or it is what came in."""
    data = item["data"]
    answered = item["type"] == EventType.RESUME and not data.get("expired") and not data.get("event")
    reply = replies.pop(str(item.get("path") or ""), None)
    return data.get("log") is not None or answered or (reply is not None and _is_reply(data["output"], reply, text))


def _is_reply(output: Any, reply: Mapping[str, Any], text: StoryText) -> bool:
    """Whether an output is the text of a reply, or the completion around it, which only `--full` shows."""
    if output == reply.get("content"):
        return True
    choices = output.get("choices") if isinstance(output, Mapping) else None
    message = choices[0].get("message") if isinstance(choices, list) and choices else None
    return not text.full and message == reply


def _title(path: str, data: Mapping[str, Any], titles: Titles) -> str:
    """Return the label of a step where the sentence does not say it."""
    from engine.edge.cli.titles import UNNAMED

    if not path or data.get("label") or data.get("kind") in ("evaluate", "set", "get", "log"):
        return ""
    title = titles.of(path)[1]
    return "" if title == UNNAMED else title
