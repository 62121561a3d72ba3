"""The JSON Schema for editors takes every good task, refuses what is misspelt, and knows every word of the language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from engine.control.compiling import compile_text
from engine.core.errors import DefinitionError
from engine.core.spec import vocabulary
from engine.core.spec.codebook.book import BOOK
from engine.core.spec.nodes import node_to_json
from engine.source.editor_modifiers import MODIFIER_KEYS
from engine.source.editor_schema import task_schema
from engine.source.editor_steps import STEP_KEYS
from engine.source.editor_tasks import TASK_KEYS
from engine.source.parse import parse_source

ROOT = Path(__file__).parents[2]
SCHEMA = task_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
GOOD = sorted(
    [
        *(ROOT / "tests" / "golden").glob("plan_*/task.*"),
        *(path for path in (ROOT / "examples").rglob("*.yaml") if not path.name.endswith(".test.yaml")),
    ]
)


def problems(text: str) -> list[str]:
    """Return where the schema finds fault with a task."""
    task = node_to_json(parse_source(text, "task"))
    return [error.json_path for error in VALIDATOR.iter_errors(task)]


def is_ours(text: str) -> bool:
    """Whether a text is a task in our own dialect; the others' spellings are not what editors should teach."""
    root = node_to_json(parse_source(text, "task"))
    return isinstance(root, dict) and root.get("dialect", "everstep") == "everstep" and "main" in root


def test_the_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_task_that_compiles_is_valid_for_editors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if is_ours(text):
        assert problems(text) == []


@pytest.mark.parametrize("code", BOOK)
def test_what_the_schema_refuses_is_refused_by_the_compiler(code: str) -> None:
    for text in (BOOK[code].bad, BOOK[code].good):
        try:
            compile_text(text, contracts={})
        except DefinitionError:
            continue
        assert not is_ours(text) or problems(text) == []


def test_every_key_of_the_language_stands_in_the_schema_with_its_words() -> None:
    defs: dict[str, Any] = SCHEMA["$defs"]
    for kind, keys in vocabulary.KEYS.items():
        properties = defs[f"step_{kind}"]["properties"]
        wanted = {*keys, *vocabulary.MODIFIERS}
        assert wanted | {"kind_"} == set(properties)
        assert [key for key in wanted if not properties[key].get("description")] == []
    assert set(vocabulary.TASK_KEYS) == set(SCHEMA["properties"])
    assert [key for key, shape in SCHEMA["properties"].items() if not shape.get("description")] == []
    assert set(vocabulary.MARKERS) == set(defs["step"]["properties"])


def test_no_words_are_left_of_keys_that_the_language_does_not_have() -> None:
    step_keys = {key for keys in vocabulary.KEYS.values() for key in keys}
    later = {*vocabulary.LATER_KINDS}
    assert set(STEP_KEYS) - step_keys - later == set()
    assert set(MODIFIER_KEYS) - set(vocabulary.MODIFIERS) - later == set()
    assert set(TASK_KEYS) - set(vocabulary.TASK_KEYS) - later == set()


def test_a_kind_that_has_no_words_yet_is_allowed_with_any_value(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(iter(vocabulary.KEYS))
    monkeypatch.setattr(vocabulary, "KEYS", {**vocabulary.KEYS, kind: (*vocabulary.KEYS[kind], "brand_new")})
    assert task_schema()["$defs"][f"step_{kind}"]["properties"]["brand_new"] == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("main: [{evaluate: 1, lable: x}]", "$.main[0]"),
        ("main: [{promt: hello}]", "$.main[0]"),
        ("main: [{prompt: hello, temperature: 1}]", "$.main[0]"),
        ("main: []", "$.main"),
        ("main: [{if: _}]", "$.main[0]"),
        ("main: [{if: _, then: [{evaluate: 1, wehn: _}]}]", "$.main[0].then[0]"),
        ("main: [{evaluate: 1, timeout: soon}]", "$.main[0].timeout"),
        ("main: [{over: _, map: {evaluate: 1}, on_item_error: ignore}]", "$.main[0].on_item_error"),
        ("main: [{evaluate: 1, label: '12'}]", "$.main[0].label"),
        ("main: [{evaluate: 1, retry: {tries: 3}}]", "$.main[0].retry"),
        ("nmae: x\nmain: [{evaluate: 1}]", "$.nmae"),
        ("name: x", "$"),
        ("main: [{evaluate: 1}]\ndialect: cobol", "$.dialect"),
    ],
)
def test_a_mistake_is_shown_at_its_place(text: str, place: str) -> None:
    assert place in problems(text)


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("main: [{evaluate: 1, retry: {attempts: 1, zzzz: 1}}]", "step_evaluate retry"),
        ("main: [{foreach: {in: _, do: {evaluate: 1}, zzzz: 1}}]", "step_foreach foreach"),
        ("main: [{switch: [{case: _, then: {evaluate: 1}, zzzz: 1}]}]", "step_switch switch items"),
        ("main: [{wait_for_input: {zzzz: 1}}]", "step_wait_for_input wait_for_input"),
        ("main: [{approve: {zzzz: 1}}]", "step_approve approve 1"),
        ("main: [{sleep: {seconds: 1, zzzz: 1}}]", "step_sleep sleep 1"),
        ("main: [{prompt: x, check: [{if: _, message: x, zzzz: 1}]}]", "step_prompt check 1"),
        ("main: [{prompt: x, tools: [{name: x, zzzz: 1}]}]", "step_prompt tools 1 items 1"),
        ("main: [{prompt: x, needs: {zzzz: 1}}]", "step_prompt needs"),
        ("main: [{agent: x, needs: {zzzz: 1}}]", "step_agent needs"),
        ("main: [{evaluate: 1}]\nlimits: {zzzz: 1}", "limits"),
        ("main: [{evaluate: 1}]\nrequire: [{if: _, zzzz: 1}]", "require items"),
        ("main: [{evaluate: 1}]\ntools: [{name: x, type: function, zzzz: 1}]", "tools items"),
        ("main: [{evaluate: 1}]\ntools: [{name: x, api_call: {url: 'http://x', zzzz: 1}}]", "tools items api_call"),
    ],
)
def test_the_keys_of_an_inner_object_are_those_that_the_reader_takes(text: str, way: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_text(text, contracts={})
    (hint,) = [found.hint for found in caught.value.diagnostics if "zzzz" in found.message]
    first, *rest = way.split()
    shape = SCHEMA["$defs"][first] if first.startswith("step_") else SCHEMA["properties"][first]
    for part in rest:
        alternatives = shape.get("anyOf", ())
        shape = (
            alternatives[int(part)] if part.isdigit() else shape[part] if part in shape else shape["properties"][part]
        )
    assert sorted(shape["properties"]) == hint.removeprefix("it may have ").split(", ")
