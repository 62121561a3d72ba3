"""Shows what the reference says as plain text: the run of an example, and a whole entry for a terminal."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator

from engine.core.lang.reference.entries import Entry as FunctionEntry
from engine.core.values import Json
from engine.reference.entry import Entry, Example, Group
from engine.reference.members import Member, members_of

TITLES = {
    Group.KIND: "a kind of step",
    Group.MODIFIER: "a modifier: it may stand on any step",
    Group.KEY: "a key of a task",
    Group.TOOL: "a type of tool",
}
LATER = "Planned only: it is read and checked, but an execution with it is refused with task.not_runnable."
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


def spaced_json(value: Json) -> str:
    """Return a value as JSON on one line, for the eye."""
    return json.dumps(value, ensure_ascii=False)


def run_lines(example: Example) -> list[str]:
    """Return what went into an example and what came out of it, one fact a line."""
    if example.is_later:
        return []
    facts: list[tuple[str, str]] = []
    if example.given is not None:
        facts.append(("input", spaced_json(example.given)))
    for name, given in (("replies", example.replies), ("answers", example.answers)):
        if given:
            facts.append((name, spaced_json(dict(given) if hasattr(given, "keys") else list(given))))
    if example.error:
        facts.append(("error", example.error))
    elif example.waits:
        facts.append(("waits", ", ".join(example.waits)))
    else:
        facts.append(("output", spaced_json(example.output)))
    facts += [(source, spaced_json(value)) for source, value in example.seen]
    width = max(len(name) for name, _ in facts if len(name) <= 12)
    return [f"{name:<{width}}  {text}" for name, text in facts]


def plain(text: str) -> str:
    """Return a sentence without the links of its page."""
    return _LINK.sub(r"\1", text)


def entry_text(entry: Entry, width: int) -> str:
    """Return an entry for a terminal, its paragraphs filled to a width."""
    return "\n\n".join(_parts(entry, width))


def _parts(entry: Entry, width: int) -> Iterator[str]:
    yield f"{entry.name}: {TITLES[entry.group]}"
    yield textwrap.fill(plain(entry.purpose) + (f" {LATER}" if entry.is_later else ""), width)
    rows = members_of(entry)
    if rows:
        yield "\n".join(_member_lines(rows))
    for title, text in (("Output", entry.output), ("With nothing to do", entry.nothing)):
        if text:
            yield textwrap.fill(f"{title}: {plain(text)}", width)
    for note in entry.notes:
        yield textwrap.fill(plain(note), width)
    if entry.failures:
        lines = [f"{item.code}: {plain(item.when)}. Remedy: {plain(item.remedy)}." for item in entry.failures]
        yield "Errors:\n" + "\n".join(
            textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    ") for line in lines
        )
    for number, item in enumerate(entry.examples):
        yield _example_text(item, "Example" if number == 0 else "Another", width)
    if entry.see:
        yield f"See also: {', '.join(entry.see)}"


def _member_lines(rows: list[Member]) -> list[str]:
    wide = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        default = f"default {row.default}" if row.default not in ("", "required") else row.default
        shape = "; ".join(part for part in (row.type, default) if part)
        lines.append(f"  {row.name:<{wide}}  {plain(row.meaning)}  [{shape}]".replace("`", ""))
    return lines


def _example_text(example: Example, title: str, width: int) -> str:
    head = f"{title}: {plain(example.text)}" if example.text else f"{title}:"
    parts = [textwrap.fill(head, width)]
    if example.tools:
        parts.append(textwrap.indent(f"# tools.py\n{example.tools.rstrip()}", "    "))
    parts.append(textwrap.indent(example.task.rstrip(), "    "))
    if not example.is_later:
        parts.append(textwrap.indent("\n".join(run_lines(example)), "    "))
    return "\n\n".join(parts)


def function_text(entry: FunctionEntry) -> str:
    """Return a function, method or filter for a terminal."""
    doc = entry.doc
    return f"{doc.signature}: {entry.group}\n\n{doc.text}\n\n    {doc.example}  ->  {spaced_json(doc.result)}"
