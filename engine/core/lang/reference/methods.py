"""What the reference says of the methods and fields of values, with examples. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.lang.functions import Doc


def _docs(owner: str, *rows: tuple[str, str, str, str, Any]) -> Mapping[str, Doc]:
    """Return the docs of methods by their names; a row holds name, arguments, text, example and result."""
    return MappingProxyType(
        {name: Doc(f"{owner}.{name}({given})", text, example, result) for name, given, text, example, result in rows}
    )


TEXT: Final = _docs(
    "text",
    ("capitalize", "", "The first letter large, all others small.", "'aBC'.capitalize()", "Abc"),
    ("casefold", "", "Small letters, fit to compare without regard to case.", "'Straße'.casefold()", "strasse"),
    ("center", "width, fill=' '", "The text in the middle of so many characters.", "'a'.center(3, '.')", ".a."),
    ("count", "part, start=0, end=…", "How often the part occurs.", "'banana'.count('an')", 2),
    (
        "endswith",
        "part, start=0, end=…",
        "Whether it ends so; a list of ends is possible.",
        "'a.b'.endswith('b')",
        True,
    ),
    ("expandtabs", "tabsize=8", "Tabs as blanks.", "'a\\tb'.expandtabs(4)", "a   b"),
    ("find", "part, start=0, end=…", "The place of the part, or -1.", "'abc'.find('c')", 2),
    ("index", "part, start=0, end=…", "The place of the part; an error without one.", "'abc'.index('b')", 1),
    ("isalnum", "", "Whether there are letters and digits only.", "'a1'.isalnum()", True),
    ("isalpha", "", "Whether there are letters only.", "'a1'.isalpha()", False),
    ("isdecimal", "", "Whether there are decimal digits only.", "'12'.isdecimal()", True),
    ("isdigit", "", "Whether there are digits only.", "'12'.isdigit()", True),
    ("islower", "", "Whether all letters are small.", "'ab1'.islower()", True),
    ("isnumeric", "", "Whether there are signs of numbers only.", "'½'.isnumeric()", True),
    ("isspace", "", "Whether there is white space only.", "' '.isspace()", True),
    ("isupper", "", "Whether all letters are large.", "'Ab'.isupper()", False),
    ("join", "items", "The items with the text between them.", "', '.join(['a', 'b'])", "a, b"),
    ("ljust", "width, fill=' '", "Filled up at the right.", "'a'.ljust(3, '.')", "a.."),
    ("lower", "", "Small letters.", "'AB'.lower()", "ab"),
    ("lstrip", "characters=null", "Without white space, or those characters, at the start.", "' a '.lstrip()", "a "),
    (
        "partition",
        "part",
        "What is before it, the part, and what is behind.",
        "'a=b'.partition('=')",
        ["a", "=", "b"],
    ),
    ("removeprefix", "part", "Without that start.", "'abc'.removeprefix('a')", "bc"),
    ("removesuffix", "part", "Without that end.", "'abc'.removesuffix('c')", "ab"),
    ("replace", "old, new, count=-1", "With `new` in place of `old`.", "'aab'.replace('a', 'x', 1)", "xab"),
    ("rfind", "part, start=0, end=…", "The last place of the part, or -1.", "'abab'.rfind('a')", 2),
    ("rjust", "width, fill=' '", "Filled up at the left.", "'a'.rjust(3, '.')", "..a"),
    ("rpartition", "part", "As partition, at the last place.", "'a.b.c'.rpartition('.')", ["a.b", ".", "c"]),
    ("rsplit", "sep=null, maxsplit=-1", "As split, from the end.", "'a,b,c'.rsplit(',', 1)", ["a,b", "c"]),
    ("rstrip", "characters=null", "Without white space, or those characters, at the end.", "' a '.rstrip()", " a"),
    ("split", "sep=null, maxsplit=-1", "The parts between separators, or white space.", "'a,b'.split(',')", ["a", "b"]),
    ("splitlines", "keepends=false", "The lines.", "'a\\nb'.splitlines()", ["a", "b"]),
    ("startswith", "part, start=0, end=…", "Whether it starts so.", "'abc'.startswith('ab')", True),
    ("strip", "characters=null", "Without white space, or those characters, at both ends.", "' a '.strip()", "a"),
    ("swapcase", "", "Large letters small and small ones large.", "'aB'.swapcase()", "Ab"),
    ("title", "", "Each word with a large letter.", "'hello world'.title()", "Hello World"),
    ("upper", "", "Large letters.", "'ab'.upper()", "AB"),
    ("zfill", "width", "Filled up with zeros at the left.", "'7'.zfill(3)", "007"),
)

LIST: Final = _docs(
    "list",
    ("copy", "", "A new list of the same items.", "[1, 2].copy()", [1, 2]),
    ("count", "item", "How often the item occurs.", "[1, 2, 1].count(1)", 2),
    ("index", "item", "The place of the item; an error without one.", "[1, 2].index(2)", 1),
)

OBJECT: Final = _docs(
    "object",
    ("copy", "", "A new object with the same members.", "{'a': 1}.copy()", {"a": 1}),
    ("get", "key, default=null", "The member, or the default if there is none.", "{'a': 1}.get('b', 2)", 2),
    ("items", "", "Pairs of key and value.", "{'a': 1}.items()", [["a", 1]]),
    ("keys", "", "The keys.", "{'a': 1}.keys()", ["a"]),
    ("values", "", "The values.", "{'a': 1}.values()", [1]),
)

SET: Final = _docs(
    "set",
    ("difference", "items", "Members that are not among the items.", "{1, 2}.difference([1])", [2]),
    ("intersection", "items", "Members that are among the items too.", "{1, 2}.intersection([2, 3])", [2]),
    ("isdisjoint", "items", "Whether no member is among the items.", "{1}.isdisjoint([2])", True),
    ("issubset", "items", "Whether all members are among the items.", "{1}.issubset([1, 2])", True),
    ("issuperset", "items", "Whether all items are members.", "{1, 2}.issuperset([1])", True),
    ("union", "items", "Members and items together.", "{1, 2}.union([3])", [1, 2, 3]),
)

_DAY: Final = "datetime.date(2026, 1, 2)"
_TIME: Final = "datetime.datetime(2026, 1, 2, 3, 4, 5)"


def _of_days(owner: str, value: str) -> tuple[tuple[str, str, str, str, Any], ...]:
    iso = "2026-01-02" if owner == "day" else "2026-01-02T03:04:05Z"
    return (
        ("isocalendar", "", "Year, week and day of the week by ISO 8601.", f"{value}.isocalendar()", [2026, 1, 5]),
        ("isoformat", "", "The text by RFC 3339.", f"{value}.isoformat()", iso),
        ("isoweekday", "", "1 for Monday to 7 for Sunday.", f"{value}.isoweekday()", 5),
        (
            "strftime",
            "format",
            "The text in that form; names are English.",
            f"{value}.strftime('%a %d %B')",
            "Fri 02 January",
        ),
        ("weekday", "", "0 for Monday to 6 for Sunday.", f"{value}.weekday()", 4),
    )


TIME: Final = _docs(
    "time",
    *_of_days("time", _TIME),
    (
        "astimezone",
        "zone=datetime.timezone.utc",
        "The same moment on the clocks of another zone.",
        f"{_TIME}.astimezone(datetime.timezone(timedelta(hours=2))).hour",
        5,
    ),
    ("date", "", "The day.", f"{_TIME}.date()", "2026-01-02"),
    (
        "replace",
        "year=…, month=…, …",
        "With other parts.",
        f"{_TIME}.replace(hour=0, second=0)",
        "2026-01-02T00:04:00Z",
    ),
    ("timestamp", "", "Seconds since 1970.", f"{_TIME}.timestamp()", 1767323045.0),
)

DAY: Final = _docs(
    "day",
    *_of_days("day", _DAY),
    ("replace", "year=…, month=…, day=…", "With other parts.", f"{_DAY}.replace(day=31)", "2026-01-31"),
)

DURATION: Final = _docs(
    "duration", ("total_seconds", "", "All of it in seconds.", "timedelta(minutes=2).total_seconds()", 120.0)
)

_MATCH: Final = "search_regex('(?P<n>[0-9]+)', 'no 42')"
MATCH: Final = _docs(
    "match",
    ("end", "", "The place behind the match.", f"{_MATCH}.end()", 5),
    ("group", "number_or_name=0", "What a group holds; 0 is all of it.", f"{_MATCH}.group('n')", "42"),
    ("groupdict", "", "What the named groups hold.", f"{_MATCH}.groupdict()", {"n": "42"}),
    ("groups", "", "What all groups hold.", f"{_MATCH}.groups()", ["42"]),
    ("start", "", "The place of the match.", f"{_MATCH}.start()", 3),
)
