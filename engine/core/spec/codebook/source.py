"""What the book of codes says about sources that cannot be read: E1. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import codes
from engine.core.spec.codebook.entry import entry

ENTRIES: Final = MappingProxyType(
    {
        codes.NOT_TEXT: entry(
            """A task is stored, sent and shown as text. A control character cannot be seen in an editor and is lost
            by many programs on the way, so that two people would look at two different tasks.""",
            """
            main:
              - evaluate: "ring the bell \a"
            """,
            """
            main:
              - evaluate: "ring the bell \\x07"
            """,
        ),
        codes.SYNTAX: entry(
            """What is not YAML or JSON has no meaning that could be checked. The most frequent causes: a text with
            `: ` or brackets without quotes, a tab in the indentation, a bracket that is never closed.""",
            """
            main:
              - prompt: Note: be brief
            """,
            """
            main:
              - prompt: "Note: be brief"
            """,
        ),
        codes.DUPLICATE_KEY: entry(
            """YAML readers silently keep one of the two values and drop the other. Whichever they kept, the author
            wrote both.""",
            """
            main:
              - evaluate: 1
                label: first
                evaluate: 2
            """,
            """
            main:
              - evaluate: 1
                label: first
              - evaluate: 2
            """,
        ),
        codes.SEVERAL_DOCUMENTS: entry(
            """One file, one task: what is uploaded, versioned and shown is the file. A second task in it would be
            overlooked.""",
            """
            main:
              - evaluate: 1
            ---
            main:
              - evaluate: 2
            """,
            """
            main:
              - evaluate: 1
            """,
        ),
        codes.TOO_LARGE: entry(
            """The task travels to the workers in the input of each of its executions. Data belongs into the input,
            into a tool or into a document, not into the task.""",
            """
            description: a very long text
            main:
              - evaluate: 1
            """,
            """
            description: a short text
            main:
              - evaluate: 1
            """,
            grown=("long ", 300_000),
        ),
        codes.TOO_DEEP: entry(
            """Readers, browsers and databases break on values that are nested without end; people lose their way
            far earlier. Name parts as sub-workflows instead.""",
            """
            main:
              - evaluate: [[1]]
            """,
            """
            main:
              - evaluate: [1]
            """,
            grown=("[", 101),
        ),
        codes.BAD_ALIAS: entry(
            """An alias `*name` repeats the value that carries the anchor `&name` further up. Without the anchor there
            is nothing to repeat; an alias inside its own value, or one that doubles at each level, never ends.""",
            """
            main:
              - prompt: hello
                settings: *calm
            """,
            """
            main:
              - prompt: hello
                settings: &calm {temperature: 0}
              - prompt: goodbye
                settings: *calm
            """,
        ),
        codes.MERGE_KEY: entry(
            """The merge key is not part of YAML 1.2, and readers disagree about which member wins. A plain alias for
            the whole object is supported.""",
            """
            main:
              - prompt: hello
                settings: &calm {temperature: 0}
              - prompt: goodbye
                settings: {<<: *calm, max_tokens: 50}
            """,
            """
            main:
              - prompt: hello
                settings: {temperature: 0}
              - prompt: goodbye
                settings: {temperature: 0, max_tokens: 50}
            """,
        ),
        codes.BAD_TAG: entry(
            """Values of a task are JSON: text, numbers, true, false, null, lists and objects. A tag asks for something
            else, such as a time or an object of a programming language.""",
            """
            main:
              - evaluate: !!timestamp 2026-01-31
            """,
            """
            main:
              - evaluate: "2026-01-31"
            """,
        ),
        codes.BAD_KEY: entry(
            """The keys of a JSON object are text. A text that starts with a bracket needs quotes to be one.""",
            """
            main:
              - evaluate:
                  [a, b]: 1
            """,
            """
            main:
              - evaluate:
                  "[a, b]": 1
            """,
        ),
        codes.BAD_NUMBER: entry(
            """Inputs and results travel as JSON, which has no infinity, no NaN and no number of hundreds of digits.""",
            """
            main:
              - evaluate: {most: .inf}
            """,
            """
            main:
              - evaluate: {most: null}
            """,
        ),
        codes.EMPTY: entry(
            """There is nothing in it but blanks and comments. A task has at least `main`.""",
            """
            # nothing yet
            """,
            """
            main:
              - evaluate: 1
            """,
        ),
    }
)
"""Entries of the codes E1…."""
