"""No expression or template reaches an attribute, a method or a name that the data does not have."""

import builtins
import datetime as dt
import types
from typing import Any

import pytest

from engine.core.errors import ExpressionError
from engine.core.lang.access import read_attribute
from engine.core.lang.containers import OrderedSet
from engine.core.lang.context import EvalContext
from engine.core.lang.dates import DATE_FIELDS, DAY_FIELDS, DURATION_FIELDS
from engine.core.lang.functions import Function, Module
from engine.core.lang.methods import RegexMatch, methods_of
from engine.core.lang.stdlib import FUNCTIONS, MODULES
from engine.core.lang.template import compile_template
from tests.support.bombs import ENV, NOW, explode

ESCAPES: list[tuple[str, str]] = [
    ('nlp("x")', "unknown_function"),
    ("datetime.datetime.__class__", "no_attribute"),
    ("datetime.datetime.mro", "no_attribute"),
    ('re.compile("a")', "unknown_function"),
    ('string.Formatter().format("{0.__class__}", 1)', "unknown_function"),
    ('urllib.request.urlopen("http://x")', "no_attribute"),
    ("base64.binascii", "no_attribute"),
    ("math.__spec__", "no_attribute"),
    ("statistics.random", "no_attribute"),
    ("csv.__builtins__", "no_attribute"),
    ('yaml.load("!!python/object/new:os.system [x]")', "value"),
    ("datetime.timezone.utc.tzname", "no_attribute"),
    ('re.search("a","a").__class__', "no_attribute"),
    ("now().date().__class__", "no_attribute"),
    ("datetime.datetime.now.__func__", "no_attribute"),
    ('f"{datetime.datetime}"', "type"),
    ("[datetime]", "not_json"),
    ("str(re)", "type"),
    ("random.choice.run", "no_attribute"),
    ("re.I.bit_length()", "no_method"),
    ("uuid.__module__", "no_attribute"),
    ("chunk_doc.doc", "no_attribute"),
    ("chunk_doc.doc.example", "no_attribute"),
    ('load_yaml.run("x")', "no_method"),
    ("(x for x in [1]).gi_frame", "no_attribute"),
    ("math.pi.real", "no_attribute"),
    ('"a".encode()', "no_method"),
    ('_.text.translate({97: "b" * 1000})', "no_method"),
    ('"a".maketrans("a","b")', "no_method"),
    ("sorted([1,2], key=datetime)", "type"),
    ("max([1], key=1)", "type"),
    ('"{}".format_map(_)', "no_method"),
    ("locals()", "unknown_function"),
    ("vars(_)", "unknown_function"),
    ("super()", "unknown_function"),
    ("object()", "unknown_function"),
    ("type(1).__subclasses__()", "unknown_function"),
    ("().__doc__", "no_attribute"),
    ("[].append.__self__", "no_attribute"),
    ("timedelta().__reduce__()", "no_method"),
    ("set().members", "no_attribute"),
    ('{"a": 1}.__dict__', "no_key"),
    ('search_regex("a", "a").names', "no_attribute"),
    ('search_regex("a", "a").string', "no_attribute"),
]

# what is read by a point, beside keys of objects and members of modules
FIELDS: dict[type, frozenset[str]] = {dt.datetime: DATE_FIELDS, dt.date: DAY_FIELDS, dt.timedelta: DURATION_FIELDS}

VALUES: list[Any] = [
    *(None, True, 1, 1.5, "text", [1], (1,), {}, OrderedSet([1]), range(3), RegexMatch(("a",))),
    *(NOW, dt.date(2026, 1, 2), dt.timedelta(1), dt.UTC),
    *(FUNCTIONS["len"], FUNCTIONS["chunk_doc"], MODULES["math"], MODULES["datetime"]),
]
ALL_NAMES = sorted(
    {name for kind in (*map(type, VALUES), type, object, types.FunctionType, types.CodeType, str) for name in dir(kind)}
    | {"f_globals", "f_back", "gi_frame", "gi_code", "cr_frame", "tb_frame", "names", "members", "call", "run", "doc"}
)


@pytest.mark.parametrize(("source", "code"), ESCAPES, ids=lambda text: text[:50])
def test_a_known_way_out_is_closed(source: str, code: str):
    assert explode(source).code == code


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_of_all_attributes_that_python_knows_only_the_listed_ones_are_read(value: Any):
    readable = []
    for name in ALL_NAMES:
        try:
            read_attribute(value, name)
        except ExpressionError:
            continue
        readable.append(name)
    own = value.members if isinstance(value, Module) else FIELDS.get(type(value), frozenset())
    assert readable == sorted(set(own) & set(ALL_NAMES))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_no_method_has_a_private_name_or_leads_to_more_than_its_function(value: Any):
    for name, method in methods_of(value).items():
        assert not name.startswith("_")
        assert type(method) is Function


NAMES_OF_PYTHON = sorted({"__builtins__", "__file__", "self", "cls", "os", "sys", *dir(builtins)})
KNOWN = {*FUNCTIONS, "True", "False", "None"}


@pytest.mark.parametrize("name", [name for name in NAMES_OF_PYTHON if name not in KNOWN])
def test_no_builtin_of_python_is_a_name_of_the_language(name: str):
    assert explode(name).code == "unknown_name"


@pytest.mark.parametrize("source", ["{{ ''.__class__ }}", "{{ x.__init__ }}", "{{ self }}", "{{ range.__self__ }}"])
def test_a_template_reaches_no_more_than_an_expression(source: str):
    with pytest.raises(ExpressionError):
        compile_template(source).render({**ENV, "x": {}}, EvalContext(NOW, "seed"))
