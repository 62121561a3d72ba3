"""Makes the pages of the language reference: prose from deploy/pages, all else from the code and its examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.core.lang.reference.entries import constants, entries, fields
from engine.reference.book import ENTRIES, SECTIONS, entries_of, find_entries
from engine.reference.entry import Entry, Example, Group
from engine.reference.members import Member, members_of
from engine.reference.names import COMMON_FAILURES, NAMES
from engine.reference.show import LATER, run_lines, spaced_json
from engine.reference.walkthrough import FILES
from engine.settings import (
    AcpConfig,
    BackendConfig,
    CredentialConfig,
    HttpConfig,
    IntegrationConfig,
    McpConfig,
    OpenApiConfig,
    Price,
    ToolsConfig,
)

PROSE = Path(__file__).resolve().parent / "pages"
HOMES = {Group.KIND: "kinds.md", Group.MODIFIER: "modifiers.md", Group.KEY: "task.md", Group.TOOL: "tools.md"}
FOLDER = "docs/language/"

_MARK = re.compile(r"^@@(\w+)(?: (.+))?@@$", re.MULTILINE)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)])


def _code(text: str) -> str:
    """Return text as Markdown code; what holds a backtick stands between two of them."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _fenced(kind: str, text: str) -> str:
    return f"```{kind}\n{text.rstrip()}\n```"


# --- entries -------------------------------------------------------------------------------------------------------


def render_entry(entry: Entry) -> str:
    """Return the section of one word."""
    return "\n\n".join(_entry_parts(entry))


def _entry_parts(entry: Entry) -> Iterator[str]:
    yield f"### `{entry.name}`"
    yield entry.purpose + (f" **{LATER}**" if entry.is_later else "")
    rows = members_of(entry)
    # the members of all tools stand at the head of their page
    if rows and (entry.group is not Group.TOOL or entry.name == "api_call"):
        yield _member_table(rows)
    if entry.output:
        yield f"**Output**: {_lowered(entry.output)}"
    if entry.nothing:
        yield f"**With nothing to do**: {_lowered(entry.nothing)}"
    for item in entry.examples:
        yield from _example_parts(item)
    if entry.notes:
        yield "\n".join(f"- {note}" for note in entry.notes)
    if entry.failures:
        rows_of_errors = [(f"`{item.code}`", item.when, item.remedy) for item in entry.failures]
        yield _table(("error", "when", "remedy"), rows_of_errors)
    if entry.see:
        yield f"See also: {', '.join(_link(name, entry.group) for name in entry.see)}."


def _lowered(text: str) -> str:
    """Return a sentence as it goes on after a colon; names and abbreviations keep their form."""
    return text[0].lower() + text[1:] if text[:2].istitle() or text[:2] in ("A ", "I ") else text


def _member_table(rows: Sequence[Member]) -> str:
    cells = [
        (_code(row.name), row.type, row.default if row.default == "required" else _default(row), row.meaning)
        for row in rows
    ]
    return _table(("member", "type", "default", "meaning"), cells)


def _default(row: Member) -> str:
    return _code(row.default) if row.default else ""


def _example_parts(example: Example) -> Iterator[str]:
    if example.text:
        yield example.text
    if example.tools:
        yield _fenced("python", f"# tools.py\n{example.tools}")
    yield _fenced("yaml", example.task)
    if not example.is_later:
        yield _fenced("text", "\n".join(run_lines(example)))


def _link(name: str, group: Group | None) -> str:
    """Return a link to an entry from the page of a group; without group from docs/language.md."""
    entry = find_entries(name)[0]
    home = HOMES[entry.group]
    page = f"language/{home}" if group is None else "" if home == HOMES[group] else home
    return f"[`{name}`]({page}#{name})"


# --- what stands in the prose --------------------------------------------------------------------------------------


def _file(name: str) -> str:
    kind = {"py": "python", "toml": "toml"}.get(name.rpartition(".")[2], "yaml")
    text = FILES[name]
    return _fenced(kind, text if text.startswith(f"# {name}") else f"# {name}\n{text}")


def _words(group: str) -> str:
    """Return the table of all words of a group, with links."""
    rows = [
        (_link(entry.name, None), entry.purpose + (" (Planned only.)" if entry.is_later else ""))
        for entry in entries_of(Group(group))
    ]
    return _table(("", ""), rows)


def _section(title: str) -> str:
    return "\n\n".join(render_entry(entry) for entry in SECTIONS[title])


def _later(group: str) -> str:
    found = [entry for entry in entries_of(Group(group)) if entry.is_later]
    return "\n\n".join(render_entry(entry) for entry in found)


def _kinds(_: str) -> str:
    parts: list[str] = []
    for title, section in SECTIONS.items():
        found = [entry for entry in section if entry.group is Group.KIND]
        if found:
            parts += [f"## {title}", *(render_entry(entry) for entry in found)]
    return "\n\n".join(parts)


def _tool_members(_: str) -> str:
    return _member_table(members_of(find_entries("python")[0]))


def _project(_: str) -> str:
    tables = (
        ("[tools]", ToolsConfig),
        ("[tools.integrations.NAME]", IntegrationConfig),
        ("[tools.openapi.NAME]", OpenApiConfig),
        ("[tools.openapi.NAME.auth]", CredentialConfig),
        ("[tools.mcp.NAME]", McpConfig),
        ("[tools.acp.NAME]", AcpConfig),
        ("[http]", HttpConfig),
        ("[backends.NAME]", BackendConfig),
        ("[backends.NAME.prices.MODEL]", Price),
    )
    rows = [
        (_code(f"{table} {name}"), _default_of(field), _meaning(model, name))
        for table, model in tables
        for name, field in model.model_fields.items()
    ]
    return _table(("member", "default", "meaning"), rows)


def _default_of(field: FieldInfo) -> str:
    return "required" if field.is_required() else _code(spaced_json(field.get_default(call_default_factory=True)))


def _meaning(model: type[BaseModel], name: str) -> str:
    """Return what the docstring of a model says of a member; a model of one member is about that."""
    found = re.search(rf"^ +{name}: (.+)$", model.__doc__ or "", re.MULTILINE)
    return found[1] if found else (model.__doc__ or "").strip()


def _functions(_: str) -> str:
    parts: list[str] = []
    for group, found in groupby(entries(), key=lambda entry: entry.group):
        rows = [
            (_code(entry.doc.signature), entry.doc.text, _code(entry.doc.example), _code(spaced_json(entry.doc.result)))
            for entry in found
        ]
        parts += [f"### {group.capitalize()}", _table(("", "", "example", "gives"), rows)]
    return "\n\n".join(parts)


def _constants(_: str) -> str:
    named = [f"{_code(name)} ({_code(spaced_json(value))})" for name, value in constants() if _is_json(value)]
    return ", ".join(named) + "."


def _is_json(value: object) -> bool:
    # infinity and NaN are there, and no JSON
    return not isinstance(value, float) or value - value == 0


def _fields(_: str) -> str:
    return "\n".join(f"- {title}: {', '.join(_code(name) for name in names)}" for title, names in fields())


def _names(_: str) -> str:
    rows = [(", ".join(map(_code, name.spellings)), name.meaning) for name in NAMES]
    return _table(("name", "what it is"), rows)


def _failures(_: str) -> str:
    rows = [(", ".join(map(_code, item.codes)), item.when, item.remedy) for item in COMMON_FAILURES]
    return _table(("error", "when", "remedy"), rows)


PARTS: dict[str, Callable[[str], str]] = {
    "file": _file,
    "words": _words,
    "section": _section,
    "later": _later,
    "kinds": _kinds,
    "tool_members": _tool_members,
    "project": _project,
    "names": _names,
    "failures": _failures,
    "functions": _functions,
    "constants": _constants,
    "fields": _fields,
}


def render(page: str) -> str:
    """Return a page: its prose, with `@@PART argument@@` lines replaced by what the code says.

    Args:
        page: Name of the file in deploy/pages.
    """
    text = (PROSE / page).read_text(encoding="utf-8")
    return _MARK.sub(lambda mark: PARTS[mark[1]](mark[2] or ""), text)


def _of(page: str) -> Callable[[], str]:
    return lambda: render(page)


PAGES: dict[str, Callable[[], str]] = {
    "docs/language.md": _of("language.md"),
    "docs/expressions.md": _of("expressions.md"),
    **{f"{FOLDER}{name}": _of(name) for name in HOMES.values()},
}
"""The pages by their places."""

if __name__ == "__main__":
    raise SystemExit(f"this makes {len(PAGES)} pages of {len(ENTRIES)} entries; run deploy/docs.py")
