"""The command `steps`: the steps that an execution visited as a table, or everything about one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.run.story_parts import StepState
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, ExecutionId, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows
from engine.edge.cli.values import clip, clock, duration, moment, segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api
    from engine.edge.cli.storytext import StoryText
    from engine.edge.cli.titles import Titles

MOST_SHOWN = 100_000


def steps(
    execution_id: ExecutionId,
    path: Annotated[
        str | None,
        typer.Argument(help="A step: its path (main.3.do[17].0), its path without counters, or its label."),
    ] = None,
    state: Annotated[
        list[StepState] | None, typer.Option("--state", help="Only steps that stand like this; may be repeated.")
    ] = None,
    within: Annotated[str, typer.Option("--in", help="Only the step at this path and those inside it.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_SHOWN, help="At most so many.")] = 200,
    full: Annotated[bool, typer.Option("--full", help="Whole values; long ones are cut otherwise.")] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List the steps that ran, or show one step whole: input, prompts, replies, attempts, waits, output."""
    from engine.edge.cli.api import Api

    api = Api(address, api_key)
    if path:
        _show_step(api, execution_id, path, min(limit, 100), full=full, output=output)
        return
    _list_steps(api, execution_id, state or [], within, limit, full=full, output=output)


def _list_steps(
    api: Api, execution_id: str, states: Sequence[StepState], within: str, limit: int, *, full: bool, output: Mode
) -> None:
    from engine.edge.cli.children import child_lines, children_of
    from engine.edge.cli.storytext import pages
    from engine.edge.cli.tasks import task_of_execution
    from engine.edge.cli.titles import titles_of

    query: dict[str, Any] = {
        "state": [state.value for state in states] or None,
        "path": within,
        "full": "true" if full else None,
    }
    # one more than is shown tells whether there are more
    found = list(pages(api, f"/executions/{segment(execution_id)}/steps", most=limit + 1, **query))
    if output is not Mode.TEXT:
        write_rows(found[:limit], output)
        return
    titles = titles_of(task_of_execution(api, api.get(f"/executions/{segment(execution_id)}")))
    rows = [_row(item, titles) for item in found[:limit]]
    write(table(("PATH", "STEP", "STATE", "TOOK", "TRIES", "TOKENS", "COST"), rows))
    if any(item["child_ids"] for item in found[:limit]):
        for line in child_lines(children_of(api, execution_id), execution_id):
            write(line)
    if len(found) > limit:
        note(f"there are more; --limit shows more than {limit}, --in PATH those inside a step")


def _row(item: Mapping[str, Any], titles: Titles) -> tuple[str, ...]:
    usage = item["usage"]
    rounds = item.get("rounds") or {}
    progress = f" {rounds['ended']}/{rounds.get('of') or rounds['begun']}" if rounds else ""
    return (
        item["path"],
        f"{'  ' * item['depth']}{_title(item, titles)}{progress}",
        item["state"] + (" (on_error)" if item["caught"] and item["state"] == "done" else ""),
        "-" if item["took_s"] is None else duration(item["took_s"]),
        str(item["tries"]),
        f"{usage['total_tokens']:,}" if usage["total_tokens"] else "-",
        f"${usage['cost']}" if usage["cost"] is not None else "-",
    )


def _title(item: Mapping[str, Any], titles: Titles) -> str:
    from engine.edge.cli.titles import UNNAMED, WORDS

    if item.get("label"):
        return clip(item["label"], 60)
    title = titles.of(item["path"])[1]
    if title != UNNAMED:
        return clip(title, 60)
    kind = str(item.get("kind") or "")
    return clip(f"{WORDS.get(kind, kind) or UNNAMED} {item.get('name') or ''}".rstrip(), 60)


# --- one step ------------------------------------------------------------------------------------------------------


def _show_step(api: Api, execution_id: str, path: str, limit: int, *, full: bool, output: Mode) -> None:
    from engine.edge.cli.children import children_of
    from engine.edge.cli.storytext import StoryText
    from engine.edge.cli.tasks import task_of_execution
    from engine.edge.cli.titles import titles_of

    place = f"/executions/{segment(execution_id)}/steps/{segment(path)}"
    answer = api.get(place, limit=limit, full="true" if full or output is not Mode.TEXT else "false")
    if output is not Mode.TEXT:
        items = answer["items"]
        if output is Mode.JSON:
            write(as_json(items[0] if answer["visits"] == 1 else items))
        else:
            write_rows(items, output)
        return
    titles = titles_of(task_of_execution(api, api.get(f"/executions/{segment(execution_id)}")))
    text = StoryText(full=full)
    started = any(item["child_ids"] for item in answer["items"])
    children = {child["id"]: child for child in children_of(api, execution_id)} if started else {}
    for number, item in enumerate(answer["items"]):
        if number:
            write("")
        for line in _step_lines(item, titles, text, children):
            write(line)
    if answer["visits"] > len(answer["items"]):
        note(f"{len(answer['items'])} of {answer['visits']} visits are shown; --limit shows more")
    if text.cut:
        note("long values were cut; --full prints them whole")


def _step_lines(
    item: Mapping[str, Any], titles: Titles, text: StoryText, children: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    from engine.edge.cli.children import child_words
    from engine.edge.cli.storytext import usage_line

    took = "" if item["took_s"] is None else f"  {duration(item['took_s'])}"
    began = f"  began {moment(item['began_at'])}" if item["began_at"] else ""
    yield f"{item['path']}  {_title(item, titles)}  {item['state']}{took}{began}"
    used = usage_line(item["usage"])
    if used:
        yield f"    used: {used}"
    yield from text.told("input", item["input"])
    for attempt in item["attempts"]:
        yield from _attempt_lines(attempt, text)
    for wait in item["waits"]:
        yield from _wait_lines(wait, text)
    yield from _block_lines(item)
    for child in item["child_ids"]:
        told = f" ({child_words(children[child])})" if child in children else ""
        yield f"    ran as execution {child}{told}; see: everstep history {child}"
    if item["log"] is not None:
        yield from text.value("log", item["log"])
    if item["error"]:
        taken = "on_error took" if item["caught"] else "error"
        yield from text.value(taken, f"{item['error'].get('code')}: {item['error'].get('message')}")
    if item["retry_at"]:
        yield f"    tries again at {clock(item['retry_at'])}"
    yield from text.told("output", item["output"])


def _attempt_lines(attempt: Mapping[str, Any], text: StoryText) -> Iterator[str]:
    from engine.core.run.usage import cost_to_nano, parts_text, tokens_of
    from engine.edge.cli.treesteps import usage_text

    round_ = f", repair round {attempt['round']}" if attempt["round"] else ""
    answered = attempt["model"] or ""
    by = f"{answered} ({attempt['backend']})" if answered and attempt["backend"] else answered
    usage = attempt["usage"]
    facts = (
        clock(attempt["started_at"]) if attempt["started_at"] else "",
        attempt["outcome"],
        "" if attempt["took_s"] is None else duration(attempt["took_s"]),
        by or attempt["name"] or "",
        usage_text(tokens_of(usage, "total_tokens") or 0, cost_to_nano(attempt["cost"]), parts_text(usage)),
        f"finish reason {attempt['finish_reason']}" if attempt["finish_reason"] not in (None, "stop") else "",
        "kept from an equal call" if attempt.get("cached") else "",
        f"handed out {attempt['deliveries']} times: a worker was lost" if attempt["deliveries"] > 1 else "",
    )
    yield f"    attempt {attempt['attempt']}{round_}  {'  '.join(fact for fact in facts if fact)}"
    if attempt["request"] is not None:
        text.cut = text.cut or bool(attempt["request"].get("truncated"))
        yield from text.request(attempt["request"]["value"], depth=2)
    if attempt["reply"] is not None:
        text.cut = text.cut or bool(attempt["reply"].get("truncated"))
        yield from text.message(attempt["reply"]["value"], depth=2)
    if attempt["error"]:
        yield from text.value("error", f"{attempt['error'].get('code')}: {attempt['error'].get('message')}", depth=2)
    if attempt["pause_s"]:
        yield f"        pause {duration(attempt['pause_s'])}"


def _wait_lines(wait: Mapping[str, Any], text: StoryText) -> Iterator[str]:
    until = f" until {moment(wait['deadline'])}" if wait["deadline"] else ""
    yield f"    waited from {clock(wait['opened_at']) if wait['opened_at'] else '?'}{until}  {wait['outcome']}"
    yield from text.told("asked", wait["info"], depth=2)
    for refused in wait["refused"]:
        yield f"        refused {refused['actor'] or 'somebody'}: {refused['code']}: {refused['message']}"
    if wait["outcome"] == "answered":
        who = wait["actor"] or "somebody"
        who += f" with the event {wait['event']}" if wait["event"] else ""
        yield f"        answered by {who} at {clock(wait['closed_at'])}, after {duration(wait['took_s'] or 0)}"
    if wait["answer"] is not None:
        yield from text.told("answer" if wait["outcome"] == "answered" else "default", wait["answer"], depth=2)


def _block_lines(item: Mapping[str, Any]) -> Iterator[str]:
    blocks = item["blocks"]
    for block in blocks[:20]:
        took = "" if block["took_s"] is None else f"  {duration(block['took_s'])}"
        error = clip(f"{block['error'].get('code')}: {block['error'].get('message')}", 160) if block["error"] else ""
        taken = f"  ({block['taken']})" if block["taken"] else ""
        yield f"    {block['path']}  {block['state']}{took}{f'  {error}' if error else ''}{taken}"
    if item["block_count"] > 20:
        yield f"    … and {item['block_count'] - 20} more"
