"""Hostile expressions and templates: each ends within its fuel, in few calls and little memory, in a typed error."""

import contextlib
import datetime as dt
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.core.errors import EngineError, ExpressionSyntaxError
from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.template import compile_template
from tests.support.bombs import MAX_CALLS, MAX_PEAK_BYTES, calls_of

MEMORY_LIMIT_BYTES = 700 * 1024 * 1024

_DEEP: dict[str, Any] = {}
_inner = _DEEP
for _ in range(90):
    _inner["a"] = {}
    _inner = _inner["a"]

ENV: dict[str, Any] = {
    "_": {
        "text": "ab" * 500_000,
        "other": "ab" * 499_999 + "ac",
        "list": list(range(50_000)),
        "lists": [[number] for number in range(20_000)],
        "deep": _DEEP,
    }
}

FUEL = [
    '"a" * 10**9',
    "[0] * 10**9",
    "(0,) * 10**9",
    '"a".ljust(10**9)',
    '"a".center(10**10)',
    '"1".zfill(10**9)',
    '"a\\tb".expandtabs(10**9)',
    "[0 for a in range(1000) for b in range(1000) for c in range(1000)]",
    "[[0] * 99999 for x in range(99999)]",
    "[sum(range(1000000)) for x in range(1000)]",
    "[len(list(range(100000))) for x in range(100000)]",
    "sum(range(1000000)) + max(range(1000000))",
    "list(range(10**6))",
    "[*range(1000000)]",
    "max(*range(1000000))",
    "sorted(range(10**6))",
    "[sorted(_.list) for x in range(1000)]",
    "sorted(range(100000), key=str)",
    "[_.list == _.list[:] for x in range(100000)]",
    "[_.text == _.other for x in range(100000)]",
    "[_.text < _.other for x in range(90000)]",
    '["abac" in _.text for x in range(90000)]',
    "[_.text.upper() for x in range(1000)]",
    "[_.text.title() for x in range(1000)]",
    '_.text.replace("a", _.text)',
    '("a" * 100000).replace("a", "b" * 100000)',
    '_.text.split("a")',
    "[_.text.splitlines() for x in range(1000)]",
    '_.text.join(["a"] * 1000)',
    '" ".join(["a" * 1000] * 1000000)',
    '[_.text.strip("xyzb" * 100000) for x in range(100)]',
    '[("a" * 30000).find("a" * 99 + "b") for x in range(1000)]',
    "[[[[0] * 1000] * 1000] * 1000] * 1000",
    "str([[[[0] * 1000] * 1000] * 1000] * 1000)",
    "dump_json([[[0] * 1000] * 1000] * 1000)",
    "[[[0] * 1000] * 1000] * 1000 == [[[0] * 1000] * 1000] * 1000",
    "{x: y for x in range(10000) for y in range(10000)}",
    "{x * (2**61 - 1) for x in range(40000)}",
    "{x * (2**61 - 1): 1 for x in range(20000)}",
    'load_json("[" + "{}," * 400000 + "1]")',
    '[search_regex("(x+x+)+y", "x" * 100000) for i in range(1000)]',
    'match_regex("(a|b|c|d|e|[a-z]*x|.*y){1,20}(a*)*z", _.text)',
    "[random.shuffle(_.list[:10000]) for x in range(1000)]",
    "[uuid() for x in range(10**6)]",
    "[str(1 << 4000) for x in range(100000)]",
    "[_.list + _.list for x in range(10000)]",
    "[{**d} for d in [{str(x): 1 for x in range(5000)}] for y in range(10000)]",
    '[{str(x): 1 for x in range(5000)} | {"a": y} for y in range(10000)]',
    "[dict(enumerate(_.list)) for x in range(1000)]",
    "zip(*[_.list] * 1000)",
    "[min(_.lists) for x in range(1000)]",
    "[x for x in _.lists if x in _.lists]",
    "[set(_.list) & set(_.list) for i in range(1000)]",
    "[_ for x in range(1000)]",
    "[str(_.deep) for x in range(50000)]",
    "map(str, range(1000000))",
    'list("\\u4e00" * 1000000)',
    "[s.isalpha() for s in [_.text] * 10000]",
    '[now().strftime("%Y" * 100) for x in range(100000)]',
    'get(_, list(range(10**6)))',
    'get(_, "a." * 500000)',
    '[("\U0001f600" * 500000 + "a" + "b" * 500000).partition("a") for x in range(100)]',
    '" ".join([f"{x:10000}" for x in range(10000)])',
]  # fmt: skip

TYPED = [
    ("9**9**9", "too_large"),
    ("2**100000", "too_large"),
    ("10**1000 * 10**1000", "too_large"),
    ("1 << 10**9", "too_large"),
    ("1 << 100000", "too_large"),
    ("range(10**12)", "too_large"),
    ('sorted([{"a": 1}] * 50000, key="a" + ".a" * 5000)', "too_large"),
    ('f"{1:>1000000000}"', "value"),
    ('f"{1:>999999999}"', "too_large"),
    ('f"{1.5:.999999999f}"', "too_large"),
    ('f"{1:{10**8}}"', "too_large"),
    ('"%1000000000d" % 1', "type"),
    ('"{:>1000000000}".format(1)', "no_method"),
    ("round(5, -10**9)", "value"),
    ("round(1.5, 10**9)", "value"),
    ('int("9" * 100000)', "too_large"),
    ('float("9" * 1000000)', "too_large"),
    ('load_json("[" * 100000)', "too_deep"),
    ('load_json("[" * 500 + "]" * 500)', "too_deep"),
    ('extract_json("[1," * 50000)', "too_deep"),
    ('search_regex("(((a{100}){100}){100})", "a")', "value"),
    ('search_regex("a" * 100000, "a")', "too_large"),
    ('[search_regex("\\\\pL{" + str(i) + "}", "a") for i in range(5000)]', "value"),
    ("random.sample(range(10**6), 10**6)", "too_large"),
    ("timedelta(days=10**12)", "overflow"),
    ("now() + timedelta(days=10**8)", "overflow"),
    ('now().strftime("%1000000000Y")', "value"),
    ('f"{now():%1000000000Y}"', "value"),
    ("[_.text for x in range(60000)]", "too_large"),
    ("sum([[1]] * 100, [])", "type"),
]

ESCAPES = [
    "().__class__.__bases__[0].__subclasses__()",
    '"".__class__',
    "_.__class__.__mro__",
    "[].__class__",
    "(1).__class__",
    "(1).real",
    "range(1).__class__",
    "{1}.members",
    "now().__class__",
    "now().tzinfo",
    "len.__globals__",
    "len.run",
    "random.__dict__",
    "random.members",
    "math.__loader__",
    'f"{().__class__}"',
    'f"{_.__init__.__globals__}"',
    '"a".format.__self__',
    '"{0.__class__}".format(1)',
    '"{x.__class__}".format_map(_)',
    '__import__("os")',
    'open("/etc/passwd")',
    'eval("1")',
    'exec("1")',
    'getattr(1, "x")',
    "globals()",
    "__builtins__",
    "type(1)",
    "map(type, [1])",
    'search_regex("a", "a").re',
    "[x for x in _.deep.__class__.__subclasses__()]",
]

SYNTAX = [
    "-" * 20_000 + "1",
    "-" * 15_000 + "1",
    "-" * 150 + "1",
    "(" * 5_000 + ")" * 5_000,
    "[" * 150 + "]" * 150,
    "not " * 4_000 + "1",
    "1" + "+1" * 8_000,
    "a" + ".b" * 8_000,
    "a" + "[0]" * 5_000,
    "a" + "()" * 5_000,
    "1 if 1 else " * 1_300 + "1",
    "[x for x in " * 1_000 + "y" + "]" * 1_000,
    "0x" + "f" * 5_000,
    "9" * 16_000,
    "{" * 5_000 + "1" + "}" * 5_000,
    "a" * 100_000,
    "\x00",
    "lambda: 1",
]

TEMPLATES = [
    ("{% for i in range(1000) %}{% for j in range(1000) %}{% for k in range(1000) %}x" + "{% endfor %}" * 3, "fuel"),
    ("{% for x in range(10) %}" * 40 + "x" + "{% endfor %}" * 40, "fuel"),
    ("{% for x in range(100000) %}" + "y" * 120 + "{% endfor %}", "fuel"),
    ("{% for x in _.list %}{{ _.text }}{% endfor %}", "fuel"),
    ("{{ 'a' * 10**9 }}", "fuel"),
    ("{{ 'a'.ljust(10**9) }}", "fuel"),
    ("{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}", "fuel"),
    ("{% set x = [1] %}" + "{% set x = x + x %}" * 60 + "{{ x }}", "fuel"),
    ("{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}", "fuel"),
    ("{{ [[0] * 99999] * 99999 }}", "fuel"),
    ("{{ ([range(1000)] * 1000) | tojson }}", "fuel"),
    ("{{ ('a\n' * 100000) | indent(1000) }}", "fuel"),
    ("{{ ('<' * 1000000) | e | e | e }}", "fuel"),
    ("{{ _.list | sort | join('x' * 1000) }}", "fuel"),
    ("{{ _.list | map('string') | join('x' * 10000) }}", "fuel"),
    ("{{ 'a' | replace('', 'b' * 1000000) | replace('', 'b' * 1000000) }}", "fuel"),
    ("{% for x in range(100000) %}{{ _.nope | default('') }}{% endfor %}", "fuel"),
    ("{% for x in range(60000) %}{{ _.nope | default('') }}{% endfor %}{{ [0] * 10**9 }}", "fuel"),
    ("{{ range(10**9) }}", "too_large"),
    ("{{ ([{}] * 50000) | map(attribute='a.' * 8000, default=1) }}", "too_large"),
    ("{{ ([{}] * 50000) | selectattr('a.' * 400 + 'a') }}", "fuel"),
    ("{{ ([_.deep] * 50000) | map(attribute='a' + '.a' * 80) }}", "fuel"),
    ("{{ 9 ** (9 ** 9) }}", "too_large"),
    ("{{ 'a' | indent(10**9) }}", "too_large"),
    ("{{ '%1000000000d' % 1 }}", "type"),
    ("{{ '{}'.format(1) }}", "no_method"),
    ("{{ ().__class__.__mro__ }}", "no_attribute"),
    ("{{ ''.__class__ | default(1) }}{{ ''['__class__'] }}", "type"),
    ("{{ self.__init__.__globals__ }}", "unknown_name"),
    ("{{ cycler.__init__ }}", "unknown_name"),
    ("{{ lipsum(10**9) }}", "unknown_function"),
    ("{{ namespace(a=1) }}", "unknown_function"),
]  # fmt: skip

TEMPLATE_SYNTAX = [
    "{{ 'a' | attr('__class__') }}",
    "{{ " + "(" * 500 + ")" * 500 + " }}",
    "{{ " + "-" * 20_000 + "1 }}",
    "{{ " + "[1]+" * 3_000 + "[1] }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{{" * 6_000,
    "x" * 600_000 + "{{ 1 }}",
    "{{ " + "9" * 10_000 + " }}",
]


def context(fuel: Fuel | None = None) -> EvalContext:
    return EvalContext(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "seed", fuel)


def evaluate(source: str) -> Any:
    return compile_expression(source).evaluate(ENV, context())


def render(source: str) -> str:
    return compile_template(source).render(ENV, context())


def name(source: Any) -> str | None:
    return source[:60] if isinstance(source, str) else None


def refused(make: Callable[[str], Any], source: str) -> EngineError:
    """Return the error that a source ends with, after few enough calls."""
    errors: list[EngineError] = []

    def run() -> None:
        try:
            make(source)
        except EngineError as error:
            errors.append(error)

    assert calls_of(run) < MAX_CALLS
    assert errors, "it did not fail"
    return errors[0]


@pytest.mark.parametrize("source", FUEL, ids=name)
def test_a_bomb_uses_up_its_fuel_and_no_more(source: str):
    fuel = Fuel()
    error = refused(lambda text: compile_expression(text).evaluate(ENV, context(fuel)), source)
    assert error.code == "expression.fuel"
    assert fuel.left == 0


@pytest.mark.parametrize(("source", "code"), TYPED, ids=name)
def test_a_giant_value_is_refused_before_it_is_made(source: str, code: str):
    assert refused(evaluate, source).code == f"expression.{code}"


@pytest.mark.parametrize("source", ESCAPES, ids=name)
def test_no_attribute_beyond_the_data_is_reached(source: str):
    allowed = {"no_attribute", "no_key", "no_method", "unknown_function", "unknown_name", "type"}
    assert refused(evaluate, source).code.removeprefix("expression.") in allowed


@pytest.mark.parametrize("source", SYNTAX, ids=name)
def test_a_monstrous_text_is_refused_when_compiled(source: str):
    assert isinstance(refused(compile_expression, source), ExpressionSyntaxError)


@pytest.mark.parametrize(("source", "code"), TEMPLATES, ids=name)
def test_a_template_bomb_ends_within_its_fuel(source: str, code: str):
    assert refused(render, source).code == f"expression.{code}"


@pytest.mark.parametrize("source", TEMPLATE_SYNTAX, ids=name)
def test_a_monstrous_template_is_refused_when_compiled(source: str):
    assert isinstance(refused(compile_template, source), ExpressionSyntaxError)


@pytest.mark.timeout(300)
def test_no_bomb_takes_more_than_64_mb_at_a_time():
    tracemalloc.start()
    try:
        for make, sources in every_bomb():
            for source in sources:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                with contextlib.suppress(EngineError):
                    make(source)
                taken = tracemalloc.get_traced_memory()[1] - before
                assert taken < MAX_PEAK_BYTES, source[:100]
    finally:
        tracemalloc.stop()


def every_bomb() -> list[tuple[Callable[[str], Any], list[str]]]:
    """Return all sources with what evaluates them."""
    expressions = [*FUEL, *(source for source, _ in TYPED), *ESCAPES, *SYNTAX]
    return [(evaluate, expressions), (render, [*(source for source, _ in TEMPLATES), *TEMPLATE_SYNTAX])]


def run_all() -> int:
    """Run every bomb one after another; the caller limits the memory of the process."""
    ended = 0
    for make, sources in every_bomb():
        for source in sources:
            try:
                make(source)
            except EngineError as error:
                if error.message == "a value does not fit into memory":
                    raise
                ended += 1
    return ended


@pytest.mark.timeout(300)
def test_all_bombs_together_end_typed_in_a_process_with_little_memory():
    code = (
        "import resource\n"
        "from tests.unit import test_lang_bombs\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_LIMIT_BYTES}, {MEMORY_LIMIT_BYTES}))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(test_lang_bombs.run_all(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    # the limit of time is there for a bomb that hangs; all together take some seconds
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ended, grown_kib = map(int, done.stdout.split())
    assert ended == len(FUEL) + len(TYPED) + len(ESCAPES) + len(SYNTAX) + len(TEMPLATES) + len(TEMPLATE_SYNTAX)
    assert grown_kib < 100 * 1024
