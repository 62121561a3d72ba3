"""Whatever the text, reading it ends in a tree or in a SourceError with a place inside the text."""

from __future__ import annotations

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.control.compiling import compile_text
from engine.core.errors import DefinitionError, SourceError
from engine.core.spec.codes import CODES
from engine.core.spec.nodes import node_to_json
from engine.source.parse import parse_source

PIECES = st.sampled_from(
    [
        *"abc01.:-?!&*#|>'\"%@`{}[],~<=\n\t \\",
        "\n  ",
        "\n- ",
        ": ",
        "- ",
        "a: ",
        "&x ",
        "*x",
        "<<: ",
        "!!int ",
        "---\n",
        "...\n",
        "é",
        "\u2028",
        "\x85",
        "\r\n",
        "😀",
        "\\ud83d",
        "0x1f",
        "1e5",
    ]
)
TASK_PIECES = st.sampled_from(
    [
        "main:\n",
        "sub:\n",
        "  - ",
        "    ",
        "      ",
        "\n",
        "evaluate: ",
        "prompt: ",
        "tool: ",
        "arguments: ",
        "if: ",
        "then: ",
        "else: ",
        "foreach: ",
        "{in: _, do: ",
        "}",
        "over: ",
        "map: ",
        "parallel: ",
        "workflow: sub",
        "return: ",
        "sleep: ",
        "wait_for_input: ",
        "label: x",
        "when: ",
        "retry: ",
        "on_error: ",
        "$ _",
        "$ _.x +",
        "{{ _ }}",
        "{{ x",
        "{% if %}",
        "5",
        "[",
        "]",
        "{",
        "null",
        "steps[0]",
        "tools: ",
        "name: ",
        "input_schema: ",
        "{type: object}",
    ]
)


@settings(deadline=None)  # two cores are shared; a pause of the machine is no failure
@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
@example("'")
@example("a: &x *x")
@example("? ")
@example("%YAML 9.9\n---\na")
@example("%TAG ! x\n---\n!y z")
def test_any_text_ends_in_a_tree_or_a_source_error_that_points_into_it(text: str) -> None:
    try:
        node = parse_source(text, "t")
    except SourceError as error:
        first, *more = error.diagnostics
        for found in (first, *more):
            assert found.code in CODES
            assert (
                1
                <= found.position.line
                <= text.count("\n") + text.count("\r") + 3 + text.count("\u2028") + text.count("\x85")
            )
            assert found.position.column >= 1
        error.render()
    else:
        json.dumps(node_to_json(node), allow_nan=False).encode()


@settings(deadline=None)  # two cores are shared; a pause of the machine is no failure
@given(st.lists(TASK_PIECES, max_size=25).map("".join))
@example("main: {if: _, then: {workflow: main}}")
@example("main: [{workflow: main, when: _}]")
@example("main: {sleep: {seconds: }}")
@example("main: {foreach: }")
@example("main: {tool: }")
@example("main: {prompt: }")
def test_any_task_like_text_ends_in_a_plan_or_in_diagnostics(text: str) -> None:
    refused: DefinitionError | None = None
    try:
        compiled = compile_text(text, contracts={})
        assert compiled.plan.workflows["main"] == 0
    except DefinitionError as error:
        refused = error
    if refused is not None:
        assert refused.render()
        assert {found.code for found in refused.diagnostics} <= set(CODES)
