"""What the reference says of the filters and tests of templates, with examples. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from engine.core.lang.functions import Doc


def _filters(*rows: tuple[str, str, str, str, str]) -> Mapping[str, Doc]:
    """Return docs by name; a row holds name, arguments, text, what stands in `{{ }}`, and the text it gives."""
    docs = {}
    for name, given, text, inner, result in rows:
        signature = f"value | {name}({given})" if given else f"value | {name}"
        docs[name] = Doc(signature, text, "{{ " + inner + " }}", result)
    return MappingProxyType(docs)


def _tests(*rows: tuple[str, str, str, str]) -> Mapping[str, Doc]:
    """Return docs by name; a row holds name, arguments, text and a test that holds."""
    docs = {}
    for name, given, text, inner in rows:
        signature = f"value is {name}({given})" if given else f"value is {name}"
        docs[name] = Doc(signature, text, "{{ " + inner + " }}", "true")
    return MappingProxyType(docs)


_PEOPLE: Final = "[{'n': 'b', 'a': 1}, {'n': 'a', 'a': 0}]"

FILTERS: Final = _filters(
    ("abs", "", "The number without its sign.", "-2 | abs", "2"),
    ("capitalize", "", "The first letter large, all others small.", "'aBC' | capitalize", "Abc"),
    ("count", "", "As length.", "[1, 2] | count", "2"),
    ("d", "value, boolean=false", "As default.", "missing | d('x')", "x"),
    (
        "default",
        "value, boolean=false",
        "Another value if the first is missing, or with true also if it is empty.",
        "missing | default('x') ~ ('' | default('y', true))",
        "xy",
    ),
    ("e", "", "As escape.", "'<' | e", "&lt;"),
    ("escape", "", "The text fit for HTML.", "'<b>' | escape", "&lt;b&gt;"),
    ("first", "", "The first item.", "[1, 2] | first", "1"),
    ("float", "default=0.0", "A number with a point, or the default.", "'1.5' | float", "1.5"),
    (
        "indent",
        "width=4, first=false, blank=false",
        "All lines but the first moved right.",
        "'a\\nb' | indent(2)",
        "a\n  b",
    ),
    ("int", "default=0", "A whole number, or the default.", "'12' | int + ('x' | int(1))", "13"),
    ("items", "", "Pairs of key and value.", "{'a': 1} | items", '[["a", 1]]'),
    ("join", "d='', attribute=null", "The items as one text.", "[1, 2] | join(', ')", "1, 2"),
    ("last", "", "The last item.", "[1, 2] | last", "2"),
    ("length", "", "The number of items, members or characters.", "'abc' | length", "3"),
    ("list", "", "The items as a list.", "'ab' | list", '["a", "b"]'),
    ("lower", "", "Small letters.", "'AB' | lower", "ab"),
    (
        "map",
        "filter_or_attribute=…",
        "A member, or what a filter gives, of each item.",
        f"{_PEOPLE} | map(attribute='n') | join",
        "ba",
    ),
    ("max", "attribute=null", "The greatest item.", "[1, 3, 2] | max", "3"),
    ("min", "attribute=null", "The least item.", "[2, 1] | min", "1"),
    ("reject", "test, …", "The items for which the test does not hold.", "[1, 2, 3] | reject('odd')", "[2]"),
    (
        "rejectattr",
        "name, test, …",
        "As reject, by a member.",
        f"{_PEOPLE} | rejectattr('a') | map(attribute='n')",
        '["a"]',
    ),
    ("replace", "old, new, count=null", "With `new` in place of `old`.", "'aab' | replace('a', 'x', 1)", "xab"),
    ("reverse", "", "From the end.", "'abc' | reverse", "cba"),
    (
        "round",
        "precision=0, method='common'",
        "Rounded: common, ceil or floor.",
        "2.567 | round(1)",
        "2.6",
    ),
    ("safe", "", "The value as text; nothing is escaped here anyway.", "'<b>' | safe", "<b>"),
    ("select", "test, …", "The items for which the test holds.", "[1, 2, 3] | select('odd')", "[1, 3]"),
    (
        "selectattr",
        "name, test, …",
        "As select, by a member.",
        f"{_PEOPLE} | selectattr('a', '>', 0) | map(attribute='n')",
        '["b"]',
    ),
    (
        "sort",
        "reverse=false, case_sensitive=false, attribute=null",
        "The items in order.",
        f"{_PEOPLE} | sort(attribute='n') | map(attribute='a')",
        "[0, 1]",
    ),
    ("string", "", "The value as text.", "1.5 | string", "1.5"),
    ("sum", "attribute=null, start=0", "The sum.", f"{_PEOPLE} | sum(attribute='a')", "1"),
    ("title", "", "Each word with a large letter.", "'hello world' | title", "Hello World"),
    ("tojson", "indent=null", "The value as JSON.", "{'a': [1, none]} | tojson", '{"a": [1, null]}'),
    ("trim", "characters=null", "Without white space, or those characters, at both ends.", "' a ' | trim", "a"),
    (
        "truncate",
        "length=255, killwords=false, end='...', leeway=5",
        "Cut to so many characters.",
        "'hello big world' | truncate(9, leeway=0)",
        "hello...",
    ),
    ("unique", "case_sensitive=false, attribute=null", "Each item once.", "['a', 'A', 'b'] | unique", '["a", "b"]'),
    ("upper", "", "Large letters.", "'ab' | upper", "AB"),
    ("wordcount", "", "The number of words.", "'a b c' | wordcount", "3"),
)

TESTS: Final = _tests(
    ("!=", "other", "As ne; in select and reject.", "([1, 2] | select('!=', 1)) == [2]"),
    ("<", "other", "As lt; in select and reject.", "([1, 2] | select('<', 2)) == [1]"),
    ("<=", "other", "As le; in select and reject.", "([1, 2] | select('<=', 1)) == [1]"),
    ("==", "other", "As eq; in select and reject.", "([1, 2] | select('==', 1)) == [1]"),
    (">", "other", "As gt; in select and reject.", "([1, 2] | select('>', 1)) == [2]"),
    (">=", "other", "As ge; in select and reject.", "([1, 2] | select('>=', 2)) == [2]"),
    ("boolean", "", "Whether it is true or false.", "true is boolean"),
    ("defined", "", "Whether there is such a name, member or item.", "_ is not defined"),
    ("divisibleby", "number", "Whether it can be divided.", "6 is divisibleby(3)"),
    ("eq", "other", "Whether both are equal.", "1 is eq(1)"),
    ("equalto", "other", "As eq.", "1 is equalto(1)"),
    ("even", "", "Whether the number is even.", "2 is even"),
    ("false", "", "Whether it is false.", "false is false"),
    ("float", "", "Whether it is a number with a point.", "1.5 is float"),
    ("ge", "other", "Whether it is greater or equal.", "2 is ge(2)"),
    ("greaterthan", "other", "As gt.", "2 is greaterthan(1)"),
    ("gt", "other", "Whether it is greater.", "2 is gt(1)"),
    ("in", "items", "Whether it is among the items.", "1 is in([1, 2])"),
    ("integer", "", "Whether it is a whole number.", "1 is integer"),
    ("iterable", "", "Whether it can be gone through.", "[1] is iterable"),
    ("le", "other", "Whether it is less or equal.", "1 is le(1)"),
    ("lessthan", "other", "As lt.", "1 is lessthan(2)"),
    ("lower", "", "Whether all letters are small.", "'ab' is lower"),
    ("lt", "other", "Whether it is less.", "1 is lt(2)"),
    ("mapping", "", "Whether it is an object.", "{'a': 1} is mapping"),
    ("ne", "other", "Whether both differ.", "1 is ne(2)"),
    ("none", "", "Whether it is null.", "none is none"),
    ("number", "", "Whether it is a number.", "1.5 is number"),
    ("odd", "", "Whether the number is odd.", "1 is odd"),
    ("sameas", "other", "As eq.", "1 is sameas(1)"),
    ("sequence", "", "Whether it has places or keys: text, a list or an object.", "[1] is sequence"),
    ("string", "", "Whether it is text.", "'a' is string"),
    ("true", "", "Whether it is true.", "true is true"),
    ("undefined", "", "The contrary of defined.", "missing is undefined"),
    ("upper", "", "Whether all letters are large.", "'AB' is upper"),
)
