"""What the book of codes says about structure, expressions and templates: E2 and E3. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import codes
from engine.core.spec.codebook.entry import entry

ENTRIES: Final = MappingProxyType(
    {
        codes.UNKNOWN_KEY: entry(
            """A key that is silently ignored looks as if it worked: a misspelt `retry` would be found out only when
            something fails. Often the key is right, but belongs one level higher or lower.""",
            """
            main:
              - prompt: hello
                temperature: 0
            """,
            """
            main:
              - prompt: hello
                settings: {temperature: 0}
            """,
        ),
        codes.MISSING_KEY: entry(
            """The step or object means nothing without that key. A key with an empty value counts as missing.""",
            """
            main:
              - if: _.urgent
            """,
            """
            main:
              - if: _.urgent
                then: {evaluate: look at it now}
            """,
        ),
        codes.WRONG_TYPE: entry(
            """The value cannot be what the key asks for. Texts that look like numbers, such as version 1.10, need
            quotes; `yes` and `no` are texts, only `true` and `false` are not.""",
            """
            main:
              - prompt: hello
                model: {name: small}
            """,
            """
            main:
              - prompt: hello
                model: small
            """,
        ),
        codes.NO_KIND: entry(
            """What a step does is said by one of its keys, such as `evaluate`, `prompt` or `tool`. Without one there is
            nothing to do.""",
            """
            main:
              - label: greet
            """,
            """
            main:
              - label: greet
                evaluate: "hello {{ _.name }}"
            """,
        ),
        codes.SEVERAL_KINDS: entry(
            """One step does one thing, so that it has one output, one place in the history and one number of attempts.
            Which of the two should come first is not said either.""",
            """
            main:
              - evaluate: $ _.name
                prompt: hello
            """,
            """
            main:
              - evaluate: $ _.name
              - prompt: hello
            """,
        ),
        codes.UNKNOWN_KIND: entry(
            """No kind of step has that name; mostly it is misspelt.""",
            """
            main:
              - promt: hello
            """,
            """
            main:
              - prompt: hello
            """,
        ),
        codes.LATER: entry(
            """The language knows the word, but this version can neither plan nor run it, or it is no matter of a task:
            MCP servers are registered by the operator, and steps name their tools. It is refused now,
            since nobody could tell what the task would do.""",
            """
            tools:
              - {name: notes, type: mcp}
            main:
              - evaluate: 1
            """,
            """
            tools:
              - name: notes
                api_call: {url: "https://notes.example/today"}
            main:
              - tool: notes
            """,
        ),
        codes.NO_STEPS: entry(
            """A list without steps has no output. To do nothing in a branch, leave the branch out: the input passes
            through.""",
            """
            main:
              - if: _.urgent
                then: []
            """,
            """
            main:
              - if: _.urgent
                then: {evaluate: urgent}
            """,
        ),
        codes.NOT_A_TASK: entry(
            """A task is an object with `main` and further keys. A list alone has no name, no input schema and no
            tools.""",
            """
            - evaluate: 1
            """,
            """
            main:
              - evaluate: 1
            """,
        ),
        codes.BAD_EXPRESSION: entry(
            """What stands behind `$ ` (and in `if`, `in`, `over` and the like) is an expression in Python's syntax. It
            is read when the task is made, so that no execution fails for a forgotten bracket.""",
            """
            main:
              - evaluate: $ _.price *
            """,
            """
            main:
              - evaluate: $ _.price * 2
            """,
        ),
        codes.BAD_TEMPLATE: entry(
            """Text with `{{ }}` or `{% %}` is a template. This one ends in the middle of a mark or block, or uses a
            filter that does not exist.""",
            """
            main:
              - prompt: "{% if _.name %}Hello {{ _.name }}"
            """,
            """
            main:
              - prompt: "{% if _.name %}Hello {{ _.name }}{% endif %}"
            """,
        ),
        codes.NOT_AN_EXPRESSION: entry(
            """The field holds an expression by nature, and a template always gives text. The text `False` would be
            true.""",
            """
            main:
              - if: "{{ _.urgent }}"
                then: {evaluate: now}
            """,
            """
            main:
              - if: _.urgent
                then: {evaluate: now}
            """,
        ),
        codes.FORBIDDEN_EXPRESSION: entry(
            """Expressions are evaluated inside the workflow, where they must give the same value on every replay. They
            reach neither files nor the network nor the clock, and know only the functions of the reference.""",
            """
            main:
              - evaluate: $ open('notes.txt')
            """,
            """
            main:
              - evaluate: $ len(_.notes)
            """,
        ),
    }
)
"""Entries of the codes E2… and E3…."""
