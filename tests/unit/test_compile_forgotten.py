"""A text whose author forgot the `$ ` of an expression gets a warning; plain text gets none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.lang.stdlib import LIBRARY_NAMES
from engine.core.plan.forgotten import forgotten_mark
from engine.core.plan.resolve import ROOT_NAMES
from tests.language.words import findings


def warnings_of(text: str) -> list[tuple[str, int, str]]:
    """Return code, column and hint of what is said about a step that evaluates a text."""
    source = json.dumps({"main": [{"evaluate": text}]})
    start = source.index('"evaluate": ') + len('"evaluate": ') + 1
    return [(item.code, item.position.column - start, item.hint) for item in findings(source)]


@pytest.mark.parametrize(
    "text",
    [
        "state.x + 1",
        "state.total + 1",
        "input.amount",
        "input['amount']",
        "input.amount > 100 and input.country == 'NO'",
        "sum(_)",
        "len(_.items)",
        "now()",
        "json.loads(_)",
        "[x.name for x in _ if x.age > 3]",
        "f'Hello {_.name}'",
        "steps['a'].output",
        "_.amount * 2",
        "not _",
    ],
)
def test_a_text_that_is_nothing_but_an_expression_gets_a_warning(text: str) -> None:
    ((code, _, hint), *_rest) = warnings_of(text)
    assert (code, hint) == ("W601", f"write `$ {text}` if it is one")


@pytest.mark.parametrize("text", ["$len(_)", "$sum(_.prices)", "$input.amount", "$state.x + 1", "$_.name", "$_"])
def test_a_mark_without_its_blank_gets_a_warning(text: str) -> None:
    assert warnings_of(text) == [("W601", 0, f"write `$ {text[1:]}` if it is one")]


@pytest.mark.parametrize(
    ("text", "offset", "inner"),
    [("${_.name}", 0, "_.name"), ("Dear ${ input.name }, hello", 5, "input.name"), ("n: ${len(_)}", 3, "len(_)")],
)
def test_dollar_braces_around_an_expression_get_a_warning(text: str, offset: int, inner: str) -> None:
    ((code, column, hint),) = warnings_of(text)
    assert (code, hint) == ("W603", f"write {{{{ {inner} }}}} if the value is meant")
    # the quote in front of a text counts where the place is inside of it
    assert column == (offset + 1 if offset else 0)


def test_single_braces_get_a_warning_that_knows_from_where_they_may_come():
    ((code, _, hint),) = warnings_of("Hello {_.name}")
    assert (code, "write {{_.name}}" in hint, "`dialect: julep-2025`" in hint) == ("W603", True, True)
    source = json.dumps({"dialect": "julep-2025", "main": [{"evaluate": "Hello {_.name}"}]})
    assert findings(source) == []


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("Total: $ sum(_)", 7),
        ("Summarise $ _", 10),
        ("Dear $ _.name, hello", 5),
        ("It is $ input.amount today", 6),
        ("a\nb $ state['x']", 4),
    ],
)
def test_a_mark_in_the_middle_of_a_text_gets_a_warning(text: str, offset: int) -> None:
    ((code, _, hint),) = warnings_of(text)
    assert code == "W601"
    assert "within one write {{ … }}" in hint
    doubt = forgotten_mark(text, ROOT_NAMES)
    assert doubt is not None
    assert doubt.offset == offset


@pytest.mark.parametrize(
    "text",
    [
        "input",
        "state of the art",
        "state-of-the-art",
        "steps to take",
        "the input. And the output",
        "See input.txt",
        "state.json",
        "task.md",
        "agent.py",
        "www.state.gov",
        "mail the agent.",
        "input. agent",
        "a_b",
        "__init__",
        "snake_case_name",
        "Amount: $ ____",
        "$5",
        "it costs $5 or $ 7",
        "$HOME/bin",
        "${HOME}/bin",
        "${input}",
        "f(x)",
        "len(x)",
        "call sum() or max()",
        "abs (agent)",
        "print('hello')",
        "max",
        "2 + 2",
        "https://example.com/?a=_&b=input.name",
        "SELECT sum(amount) FROM task",
        "application/json",
        "error.name",
        "agent.replied",
        "Is it $ or €?",
        "yes",
        "1.5",
        "",
        "$",
        "_italic_",
    ],
)
def test_plain_text_gets_no_warning(text: str) -> None:
    assert warnings_of(text) == []


WORDS = st.sampled_from([*sorted(ROOT_NAMES - {"_"}), *sorted(LIBRARY_NAMES), "error", "results", "the", "is", "of"])
MARKS = st.sampled_from([" ", " ", " ", ", ", ". ", "? ", ": ", " - ", " $ ", " $5 ", " (", ") ", "'s ", "\n", "/"])


@settings(deadline=None)  # two cores are shared; a pause of the machine is no failure
@given(st.lists(st.tuples(WORDS, MARKS), min_size=1, max_size=20))
def test_sentences_of_the_words_of_the_language_are_plain_text(pieces: list[tuple[str, str]]) -> None:
    text = "".join(word + mark for word, mark in pieces)
    assert forgotten_mark(text.strip(), ROOT_NAMES) is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_looked_at(text: str) -> None:
    doubt = forgotten_mark(text, ROOT_NAMES)
    assert doubt is None or text[doubt.offset :].startswith(doubt.text)
