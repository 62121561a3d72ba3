"""What `everstep explain` says of the words of the language: kinds, modifiers, keys, types of tools, functions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engine.core.lang.reference.entries import Entry as FunctionEntry
from engine.core.lang.reference.entries import entries
from engine.core.lang.stdlib import all_modules, find_module
from engine.edge.cli.glossary import glossary_facts, glossary_text, glossary_words
from engine.reference.book import ENTRIES, find_entries
from engine.reference.entry import Entry, Example
from engine.reference.members import members_of
from engine.reference.show import entry_text, function_text, plain


def known_words(commands: Mapping[str, str]) -> list[str]:
    """Return all words that can be explained, for a did-you-mean.

    Args:
        commands: What each command of the program does.
    """
    named = [*(entry.name for entry in ENTRIES), *(entry.name for entry in entries())]
    modules = (module.name for module in all_modules())
    return list(dict.fromkeys([*named, *modules, *glossary_words(commands)]))


def word_text(word: str, width: int, commands: Mapping[str, str]) -> str:
    """Return what the reference says of a word, or an empty text if it is none.

    Args:
        word: `while`, `retry`, `len`, `math.sqrt`, `text.upper`, `state`, `unwrap`, `answer`.
        width: Longest line of running text.
        commands: What each command of the program does.
    """
    found = [entry_text(entry, width) for entry in find_entries(word)]
    found += [function_text(entry) for entry in _functions(word)]
    found += [textwrap.fill(f"{facts['word']}: {facts['purpose']}", width) for facts in _module_facts(word)]
    if others := glossary_facts(word, commands, has_entry=bool(found)):
        found.append(glossary_text(others, width))
    return "\n\n\n".join(found)


def word_facts(word: str, commands: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the same for programs: one object for each entry."""
    found = [_entry_facts(entry) for entry in find_entries(word)]
    found += [_function_facts(entry) for entry in _functions(word)]
    found += _module_facts(word)
    return [*found, *glossary_facts(word, commands, has_entry=bool(found))]


def _functions(word: str) -> list[FunctionEntry]:
    return [entry for entry in entries() if word in (entry.name, entry.doc.signature.partition("(")[0])]


def _module_facts(word: str) -> list[dict[str, Any]]:
    module = find_module(word)
    if module is None:
        return []
    members = [f"{module.name}.{name}" for name in sorted(module.members)]
    purpose = (
        f"A module that expressions know without an import. It has {', '.join(members)}."
        f" `everstep explain {members[0]}` tells more about one of them."
    )
    return [{"word": module.name, "group": "module", "available": True, "purpose": purpose, "members": members}]


def _entry_facts(entry: Entry) -> dict[str, Any]:
    return {
        "word": entry.name,
        "group": entry.group.value,
        "available": not entry.is_later,
        "purpose": plain(entry.purpose),
        "members": [asdict(row) for row in members_of(entry)],
        "output": plain(entry.output),
        "nothing_to_do": plain(entry.nothing),
        "notes": [plain(note) for note in entry.notes],
        "errors": [
            {"code": item.code, "when": plain(item.when), "remedy": plain(item.remedy)} for item in entry.failures
        ],
        "examples": [_example_facts(item) for item in entry.examples],
        "see": list(entry.see),
    }


def _example_facts(example: Example) -> dict[str, Any]:
    facts: dict[str, Any] = {"task": example.task, "input": example.given}
    if example.is_later:
        return facts
    facts |= {"replies": example.replies, "answers": example.answers, "tools": example.tools}
    return facts | ({"error": example.error} if example.error else {"output": example.output})


def _function_facts(entry: FunctionEntry) -> dict[str, Any]:
    return {
        "word": entry.name,
        "group": entry.group,
        "available": True,
        "signature": entry.doc.signature,
        "purpose": entry.doc.text,
        "examples": [{"expression": entry.doc.example, "result": entry.doc.result, "is_template": entry.is_template}],
    }
