"""What `everstep explain` says of the words of the language: kinds, modifiers, keys, types of tools, functions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from engine.core.lang.reference.entries import Entry as FunctionEntry
from engine.core.lang.reference.entries import entries
from engine.reference.book import ENTRIES, find_entries
from engine.reference.entry import Entry, Example
from engine.reference.members import members_of
from engine.reference.show import entry_text, function_text, plain


def known_words() -> list[str]:
    """Return all words that can be explained, for a did-you-mean."""
    return list(dict.fromkeys([*(entry.name for entry in ENTRIES), *(entry.name for entry in entries())]))


def word_text(word: str, width: int) -> str:
    """Return what the reference says of a word, or an empty text if it is none.

    Args:
        word: `while`, `retry`, `len`, `math.sqrt`, `text.upper`.
        width: Longest line of running text.
    """
    found = [entry_text(entry, width) for entry in find_entries(word)]
    return "\n\n\n".join([*found, *(function_text(entry) for entry in _functions(word))])


def word_facts(word: str) -> list[dict[str, Any]]:
    """Return the same for programs: one object for each entry."""
    return [*(_entry_facts(entry) for entry in find_entries(word)), *(_function_facts(e) for e in _functions(word))]


def _functions(word: str) -> list[FunctionEntry]:
    return [entry for entry in entries() if word in (entry.name, entry.doc.signature.partition("(")[0])]


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
