"""The reference of the expression language is complete, and every example in it gives what it says."""

import datetime as dt
import re
from collections import Counter

import pytest

from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression
from engine.core.lang.filters import FILTERS, TESTS
from engine.core.lang.functions import Function
from engine.core.lang.methods import METHODS
from engine.core.lang.reference.entries import METHOD_GROUPS, Entry, constants, entries
from engine.core.lang.reference.filters import FILTERS as FILTER_DOCS
from engine.core.lang.reference.filters import TESTS as TEST_DOCS
from engine.core.lang.stdlib import FUNCTIONS, all_modules
from engine.core.lang.template import compile_template
from engine.core.values import canonical_json

ENTRIES = list(entries())
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.group}: {entry.name}")
def test_an_example_of_the_reference_gives_what_it_says(entry: Entry):
    context = EvalContext(NOW, "seed")
    if entry.is_template:
        template = compile_template(entry.doc.example)
        assert template.problems(()) == []
        assert template.render({}, context) == entry.doc.result
        return
    expression = compile_expression(entry.doc.example)
    assert expression.problems(()) == []
    # 1 and 1.0 are equal, but not the same JSON
    assert canonical_json(expression.evaluate({}, context)) == canonical_json(entry.doc.result)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.group}: {entry.name}")
def test_an_entry_names_its_function_and_says_one_sentence(entry: Entry):
    assert entry.name in entry.doc.signature
    assert entry.name in entry.doc.example
    assert entry.doc.text.endswith(".")
    assert "\n" not in entry.doc.text


def test_every_function_method_filter_and_test_has_an_entry():
    assert all(function.doc is not None for function in FUNCTIONS.values())
    for module in all_modules():
        assert all(member.doc is not None for member in module.members.values() if isinstance(member, Function))
    documented = [set(docs) for _, docs in METHOD_GROUPS]
    for methods in METHODS.values():
        assert set(methods) in documented
    assert set(FILTER_DOCS) == {*FILTERS, "default", "d"}
    assert set(TEST_DOCS) == {*TESTS, "defined", "undefined"}


def test_no_entry_stands_twice_in_its_group():
    assert [
        place for place, times in Counter((entry.group, entry.name) for entry in ENTRIES).items() if times > 1
    ] == []


def test_a_signature_shows_every_argument_that_may_be_given_by_name():
    for function in (*FUNCTIONS.values(), *(f for m in all_modules() for f in m.members.values())):
        if isinstance(function, Function) and function.doc is not None and "…)" not in function.doc.signature:
            shown = re.findall(r"\w+", function.doc.signature)
            hidden = [name for name in function.keywords if name not in shown]
            assert hidden in ([], ["*"]), function.name


def test_constants_are_listed_with_their_modules():
    found = dict(constants())
    assert found["math.pi"] == pytest.approx(3.14159, abs=1e-5)
    assert (found["re.I"], found["string.digits"], found["datetime.UTC"]) == (2, "0123456789", "UTC")
