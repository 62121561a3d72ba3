"""What `everstep explain` says of words without an entry of their own: names, members, commands, errors of runs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Final

from engine.reference.book import ENTRIES
from engine.reference.members import members_of
from engine.reference.names import COMMON_FAILURES, NAMES
from engine.reference.show import plain

PROJECT_FILE: Final = "everstep.toml"
EVERYWHERE: Final = "every step"


# --- words ---------------------------------------------------------------------------------------------------------


def glossary_words(commands: Mapping[str, str]) -> Iterator[str]:
    """Yield all words that are explained here.

    Args:
        commands: What each command of the program does.
    """
    yield from (word for name in NAMES for word in name.words)
    yield from (_last(row.name) for entry in ENTRIES for row in members_of(entry))
    yield from commands
    yield PROJECT_FILE
    yield from (name for _, name, _ in _project_members())


def glossary_facts(word: str, commands: Mapping[str, str], *, has_entry: bool = False) -> list[dict[str, str]]:
    """Return what is known of a word: {word, group, purpose, see} each.

    Args:
        word: `state`, `unwrap`, `retry.attempts`, `answer`, `everstep.toml`.
        commands: What each command of the program does.
        has_entry: Whether the word has an entry of its own, beside which members of that name would only confuse.
    """
    found = list(_names(word)) if has_entry else [*_names(word), *_members(word), *_project(word)]
    if word in commands:
        found.append(_fact(f"everstep {word}", "a command", commands[word], f"everstep {word} --help"))
    return found


def glossary_text(facts: list[dict[str, str]], width: int) -> str:
    """Return such facts for a terminal."""
    parts = [
        f"{item['word']}: {item['group']}\n\n{textwrap.fill(item['purpose'], width)}\n\nSee: {item['see']}"
        for item in facts
    ]
    return "\n\n\n".join(parts)


def _fact(word: str, group: str, purpose: str, see: str) -> dict[str, str]:
    return {"word": word, "group": group, "purpose": _sentence(plain(purpose)), "see": see}


def _sentence(text: str) -> str:
    text = f"{text[:1].upper()}{text[1:]}" if text[:1].isalpha() else text
    return text if text.endswith((".", ")", "`")) else f"{text}."


def _names(word: str) -> Iterator[dict[str, str]]:
    for name in NAMES:
        if word in name.words or word in name.spellings:
            yield _fact(
                ", ".join(name.spellings), "a name in expressions", name.meaning, "docs/language.md, How data flows"
            )


def _members(word: str) -> Iterator[dict[str, str]]:
    """Yield the members of that name; those of the same meaning as one."""
    owners: dict[tuple[str, str], list[str]] = {}
    for entry in ENTRIES:
        for row in members_of(entry):
            if row.name != entry.name and word in (row.name, _last(row.name)):
                owners.setdefault((row.name, row.meaning), []).append(entry.name)
    for (name, meaning), entries in owners.items():
        see = ", ".join(f"everstep explain {entry}" for entry in entries)
        yield _fact(name, f"a member of {', '.join(f'`{entry}`' for entry in entries)}", meaning, see)


def _last(name: str) -> str:
    return name.rpartition(".")[2].removesuffix("[]")


def _project(word: str) -> Iterator[dict[str, str]]:
    see = f"docs/language/tools.md, {PROJECT_FILE}"
    if word == PROJECT_FILE:
        members = ", ".join(f"[{table}] {name}" for table, name, _ in _project_members())
        what = "what the operator provides for tasks and allows them: tools, backends of models, private addresses"
        yield _fact(PROJECT_FILE, "the operator's file", f"{what}. Its members: {members}", see)
    for table, name, meaning in _project_members():
        if word in (name, table.partition(".")[0]):
            yield _fact(f"[{table}] {name}", f"a member of {PROJECT_FILE}", meaning, see)


def _project_members() -> Iterator[tuple[str, str, str]]:
    """Yield table, name and meaning of the members of everstep.toml."""
    # it takes 0.2 s to import
    from engine.settings import (
        AcpConfig,
        BackendConfig,
        CredentialConfig,
        HttpConfig,
        McpConfig,
        OpenApiConfig,
        ToolsConfig,
    )

    for table, model in (
        ("tools", ToolsConfig),
        ("tools.openapi.NAME", OpenApiConfig),
        ("tools.openapi.NAME.auth", CredentialConfig),
        ("tools.mcp.NAME", McpConfig),
        ("tools.acp.NAME", AcpConfig),
        ("http", HttpConfig),
        ("backends.NAME", BackendConfig),
    ):
        text = model.__doc__ or ""
        for name in model.model_fields:
            told = re.search(rf"^ +{name}: (.+)$", text, re.MULTILINE)
            yield table, name, told[1] if told else text.strip()


# --- errors of runs --------------------------------------------------------------------------------------------------


def remedies_of(code: str) -> list[dict[str, str]]:
    """Return when a code, or a code of a family, comes and what to do: {code, where, when, remedy} each."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for entry in ENTRIES:
        for item in entry.failures:
            found.setdefault((item.code, plain(item.when), plain(item.remedy)), []).append(f"`{entry.name}`")
    for common in COMMON_FAILURES:
        for each in common.codes:
            found.setdefault((each, plain(common.when), plain(common.remedy)), []).append(EVERYWHERE)
    return [
        {"code": name, "where": ", ".join(where), "when": when, "remedy": remedy}
        for (name, when, remedy), where in found.items()
        if name == code or name.startswith(f"{code}.")
    ]


def run_codes() -> set[str]:
    """Return the codes of runs of which a remedy is known."""
    codes = {item.code for entry in ENTRIES for item in entry.failures}
    return codes | {code for common in COMMON_FAILURES for code in common.codes}


def remedies_text(code: str, remedies: list[dict[str, str]], width: int) -> str:
    """Return remedies for a terminal; the code of each stands there if several are asked for."""
    lines = []
    for item in remedies:
        name = "" if item["code"] == code else f"{item['code']}, "
        text = f"{name}at {item['where']}: {item['when']}. Remedy: {item['remedy']}."
        lines.append(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="    "))
    return "\n".join(lines)
