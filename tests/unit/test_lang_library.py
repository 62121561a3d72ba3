"""The library beyond Python's builtins: parsers, converters, patterns, times, statistics."""

import datetime as dt
import math
import re
import statistics
from itertools import pairwise
from typing import Any

import pytest

from engine.core.errors import ExpressionError
from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def value(source: str, given: Any = None) -> Any:
    return compile_expression(source).evaluate({"_": given}, EvalContext(NOW, "seed"))


def error(source: str, given: Any = None) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        value(source, given)
    return caught.value


# --- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(0, 0), (5, 2), (5, 7), (40, 20), (300, 3)])
def test_counting_functions_give_what_python_gives(n: int, k: int):
    found = value("[math.comb(_[0], _[1]), math.perm(_[0], _[1]), math.factorial(_[0]), math.perm(_[0])]", [n, k])
    assert found == [math.comb(n, k), math.perm(n, k), math.factorial(n), math.perm(n)]


SAMPLES = [[1, 2, 3, 4], [2.5, 0.1, 7], [5], [-1, -1, 4, 10**20], [1e100, 1e-100, 3], [True, 2]]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize(
    "name", ["mean", "fmean", "median", "median_low", "median_high", "mode", "pvariance", "pstdev"]
)
def test_statistics_agree_with_python(name: str, sample: list[float]):
    found = value(f"statistics.{name}(_)", sample)
    assert found == pytest.approx(getattr(statistics, name)(sample), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4, 10])
def test_quantiles_agree_with_python(n: int):
    sample = [9.5, 1, 4, 4, 7, 2]
    assert value(f"statistics.quantiles(_, n={n})", sample) == pytest.approx(statistics.quantiles(sample, n=n))


def test_the_mean_of_whole_numbers_stays_whole_where_it_can():
    assert [value("statistics.mean([1, 2, 3])"), value("statistics.mean([1, 2])")] == [2, 1.5]
    assert isinstance(value("statistics.mean([1, 2, 3])"), int)


# --- patterns ------------------------------------------------------------------------------------------------------

PATTERNS = ["a", "(a)(b)?", "", "[0-9]+", "(?P<x>b+)|c", "a*", r"\w+", "ä"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", ["", "aab12 cb", "xyz", "äa bbä", "aaaa"])
def test_re_agrees_with_python(pattern: str, text: str):
    given = [pattern, text]
    # RE2 counts ASCII only as words
    compiled = re.compile(pattern, re.ASCII)
    found = [list(item) if isinstance(item, tuple) else item for item in compiled.findall(text)]
    assert value("re.findall(_[0], _[1])", given) == found
    assert value("re.sub(_[0], '-', _[1], count=2)", given) == compiled.sub("-", text, count=2)
    assert value("re.split(_[0], _[1])", given) == compiled.split(text)
    assert value("[m.start() for m in re.finditer(_[0], _[1])]", given) == [m.start() for m in compiled.finditer(text)]


@pytest.mark.parametrize("text", ["a.b*c", "[x]{2}", r"\d \n", "ä-#~&", "tab\tline\n"])
def test_an_escaped_text_fits_itself_and_nothing_else(text: str):
    assert value("re.fullmatch(re.escape(_), _).group()", text) == text
    assert value("re.fullmatch(re.escape(_), _ + 'x')", text) is None


def test_a_replacement_names_its_groups():
    assert value(r"re.sub('(?P<a>x)(y)', '<\\2\\g<a>\\n\\\\>', 'xy')") == "<yx\n\\>"
    assert error(r"re.sub('x', '\\g<a>', 'x')").code == "expression.no_key"
    assert "escape" in error(r"re.sub('x', '\\q', 'x')").message


def test_flags_change_how_a_pattern_fits():
    assert value("re.findall('^a.', 'A1\\na2', flags=re.I | re.M)") == ["A1", "a2"]
    assert value("[re.search('a.b', 'a\\nb'), re.search('a.b', 'a\\nb', flags=re.DOTALL)]") == [None, ["a\nb"]]


# --- YAML and CSV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("a: 1\nb:\n  - x\n  - {c: [1.5, null]}\n", {"a": 1, "b": ["x", {"c": [1.5, None]}]}),
        ("[yes, no, on, 0o17, 0x1F, 1e3, .5, 010]", ["yes", "no", "on", 15, 31, 1000.0, 0.5, 10]),
        ("d: 2026-01-02\nt: 12:30:45", {"d": "2026-01-02", "t": "12:30:45"}),
        ("'1': a\n2: b\ntrue: c\nnull: d", {"1": "a", "2": "b", "true": "c", "null": "d"}),
        ("x: &x [1]\ny: *x", {"x": [1], "y": [1]}),
        ("!!str 5", "5"),
        ("--- |\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_yaml_is_read_by_the_rules_of_yaml_1_2(text: str, expected: Any):
    assert value("load_yaml(_)", text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "line 2"),
        ("a: 1\na: 2", "twice"),
        ("a: 1\n---\nb: 2", "second document"),
        ("<<: {a: 1}", "merge key"),
        ("a: .nan", ".nan"),
        ("!!python/name:os.system", "tag"),
        ("!!int x", "tag"),
        ("a: *b", "names nothing"),
        ("[a]: 1", "key"),
        ("a\x00b", "control character"),
    ],
)
def test_yaml_that_cannot_be_read_says_why(text: str, part: str):
    found = error("load_yaml(_)", text)
    assert found.code == "expression.value"
    assert part in found.message


def test_yaml_is_written_for_people():
    data = {"name": "A b", "list": [{"x": 1, "z": [True, None]}, "2", "no"], "text": "one\n two\n", "empty": [{}, []]}
    text = value("dump_yaml(_)", data)
    assert text == (
        'name: A b\nlist:\n  - x: 1\n    z:\n      - true\n      - null\n  - "2"\n  - "no"\n'
        "text: |\n  one\n   two\nempty:\n  - {}\n  - []\n"
    )
    assert value("load_yaml(_)", text) == data


def test_csv_goes_both_ways():
    rows = [["a", "b"], ["x,y", 'say "hi"'], ["two\nlines", ""]]
    assert value("csv.reader(csv.dumps(_))", rows) == rows
    objects = [{"a": 1, "b": None}, {"a": [1], "b": True}]
    assert value("csv.DictReader(csv.dumps(_))", objects) == [{"a": "1", "b": ""}, {"a": "[1]", "b": "true"}]
    assert value("csv.DictReader('a,b\\n1')") == [{"a": "1", "b": None}]


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("csv.DictReader('a,b\\n1,2,3')", "row 2"),
        ("csv.DictReader('a,a\\n1,2')", "same name"),
        ("csv.reader('a', delimiter=';;')", "delimiter"),
        ("csv.reader('\"a')", "row 1"),
        ("csv.dumps([{'a': 1}, {'b': 1}])", "'b'"),
        ("csv.dumps(['ab'])", "list or an object"),
    ],
)
def test_csv_that_does_not_fit_says_why(source: str, part: str):
    assert part in error(source).message


# --- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("datetime.datetime.fromisoformat('2026-01-02')", "2026-01-02T00:00:00Z"),
        ("datetime.datetime.fromisoformat('2026-01-02T10:00:00Z') - now()", 24955.0),
        ("datetime.datetime.strptime('02.01.26 11:30 PM', '%d.%m.%y %I:%M %p')", "2026-01-02T23:30:00Z"),
        ("datetime.datetime.strptime('Fri, 2 january 2026 +0130', '%a, %d %B %Y %z')", "2026-01-02T00:00:00+01:30"),
        ("datetime.datetime.strptime('2026 032', '%Y %j').date()", "2026-02-01"),
        ("datetime.datetime.now(datetime.timezone(timedelta(hours=-5))).hour", 22),
        ("now().strftime('%A %d %B %Y, %I:%M %p')", "Friday 02 January 2026, 03:04 AM"),
        ("f'{now().date():%b %d}'", "Jan 02"),
        ("(datetime.date(2026, 3, 1) - datetime.date(2026, 2, 1)).days", 28),
        ("datetime.date(2026, 1, 2) < datetime.date.today() + timedelta(days=1)", True),
        ("sorted([datetime.date(2026, 1, 2), datetime.date(2025, 1, 2)])", ["2025-01-02", "2026-01-02"]),
        ("now().date().year + now().isocalendar()[1]", 2027),
        ("datetime.datetime(1, 1, 1).strftime('%Y-%m')", "0001-01"),
    ],
)
def test_times_are_read_moved_and_written(source: str, expected: Any):
    assert value(source) == expected


@pytest.mark.parametrize(
    ("source", "code", "part"),
    [
        ("datetime.datetime.fromisoformat('tomorrow')", "value", "tomorrow"),
        ("datetime.datetime.strptime('x', '%Y')", "value", "form"),
        ("datetime.datetime.strptime('1 1', '%d %d')", "value", "%d"),
        ("datetime.datetime.strptime('31 Feb 2026', '%d %b %Y')", "value", "day"),
        ("datetime.date.fromisoformat('02.01.2026')", "value", "date"),
        ("datetime.datetime(2026, 1, '2')", "type", "whole number"),
        ("now().astimezone('UTC')", "type", "zone"),
        ("datetime('2026')", "unknown_function", "datetime"),
        ("time.sleep(1)", "unknown_function", "time.sleep"),
    ],
)
def test_a_time_that_does_not_exist_says_why(source: str, code: str, part: str):
    found = error(source)
    assert found.code == f"expression.{code}"
    assert part in found.message


# --- encodings and URLs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a", "héllo ☃ 😀", "a" * 1000, "line\nline"])
def test_encodings_go_both_ways(text: str):
    for pair in ("base64.b64", "base64.urlsafe_b64"):
        assert value(f"{pair}decode({pair}encode(_))", text) == text
    assert value("urllib.parse.unquote(urllib.parse.quote(_))", text) == text
    assert value("urllib.parse.parse_qs(urllib.parse.urlencode({'q': _}))", text) == {"q": [text]}


def test_base64_takes_line_breaks_and_missing_fillers_and_refuses_bytes():
    assert value("base64.b64decode('aMOp\\n')") == "hé"
    assert value("base64.urlsafe_b64decode('YQ')") == "a"
    assert "not text" in error("base64.b64decode('/w==')").message
    assert "not base64" in error("base64.b64decode('a$b=')").message
    assert "no bytes" in error("'a'.encode()").hint


def test_a_url_is_taken_apart_and_put_together():
    url = "https://user:pw@Example.org:81/a/b?q=1&q=2#top"
    parts = value("urllib.parse.urlparse(_)", url)
    assert (parts["hostname"], parts["port"], parts["path"], parts["query"]) == ("example.org", 81, "/a/b", "q=1&q=2")
    assert value("urllib.parse.urlunparse(urllib.parse.urlparse(_))", url) == url
    assert "port" in error("urllib.parse.urlparse('http://a:99999')").message


# --- text ----------------------------------------------------------------------------------------------------------


def test_a_document_is_cut_where_it_allows_it():
    text = "First part. It has two sentences.\n\nSecond part is here.\n\n" + "word " * 30
    chunks = value("chunk_doc(_, max_chars=60)", text)
    assert chunks[0] == "First part. It has two sentences.\n\nSecond part is here."
    assert all(len(chunk) <= 60 for chunk in chunks)
    assert " ".join(chunks).split() == text.split()


def test_chunks_overlap_when_asked():
    chunks = value("chunk_doc(_, max_chars=60, overlap=20)", " ".join(f"w{number}" for number in range(60)))
    assert len(chunks) > 3
    for before, after in pairwise(chunks):
        assert after.split()[0] in before.split()
        assert len(after) <= 60


def test_the_signs_of_a_model_become_those_of_a_keyboard():
    assert value("humanize_text_alpha(_)", "It’s “fine”—really…\u200b  ok – now") == 'It\'s "fine", really... ok - now'


def test_what_the_library_does_not_have_says_what_to_do_instead():
    found = compile_expression("nlp(_.text)").problems({"_"})
    assert [(problem.code, "chunk_doc" in problem.hint) for problem in found] == [("expression.unknown_function", True)]
    assert "chunk_doc" in error("nlp('x')").hint
    assert "log" in error("print(1)").hint
    encoded = compile_expression("base64.b64encode(_.text.encode())").problems({"_"})
    assert ["leave it out" in problem.hint for problem in encoded] == [True]
    assert "base64 takes and gives text" in error("'x'.encode()").hint
    assert compile_expression("nlp.x").problems({"_"})[0].hint.startswith("there is no spaCy")


def test_modules_within_modules_are_checked_before_they_run():
    problems = compile_expression("urllib.parse.quot('a') + datetime.datetime.nw()").problems(())
    assert [problem.hint for problem in problems] == ["did you mean 'quote'?", "did you mean 'now'?"]
    assert compile_expression("datetime.datetime(2026, 1, 1) + datetime.timedelta(1)").problems(()) == []
    assert compile_expression("[datetime.nw for datetime in _]").problems({"_"}) == []


# --- fuel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "load_yaml(dump_yaml(_))",
        "csv.DictReader(csv.dumps(_))",
        "statistics.stdev(x.n for x in _)",
        "len(markdown_to_html(_[0].text * 500)) + len(html_to_markdown(markdown_to_html(_[0].text * 200)))",
        "re.findall('[a-z]+', ' '.join(x.text for x in _[:100]))",
        "chunk_doc(_[0].text * 2000)",
        "base64.b64encode(urllib.parse.urlencode(_[0]) * 100)",
    ],
)
def test_everyday_work_fits_the_default_fuel(source: str):
    rows = [{"n": number, "text": f"Some words number {number}, and *more* of them."} for number in range(300)]
    fuel = Fuel()
    compile_expression(source).evaluate({"_": rows}, EvalContext(NOW, "seed", fuel))
    assert fuel.left > fuel.limit // 4
