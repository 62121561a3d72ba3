"""Tasks of Julep's dialects, run in memory: plain names, the running step, and texts with fields."""

from __future__ import annotations

from tests.support.memory import error_of, output_of


def test_in_2024_names_are_keys_of_the_latest_input_that_has_them() -> None:
    task = """
name: t
dialect: julep-2024
main:
  - evaluate: {topic: "topic + '!'", kept: size}
  - evaluate: {topic: topic, size: size, kept: kept}
  - prompt: "{{ topic }} {{ kept }} {{ size }}"
    unwrap: true
"""
    assert output_of(task, {"topic": "tea", "size": 3}) == "tea! 3 3"


def test_in_2024_names_are_known_in_branches_that_run_concurrently() -> None:
    task = """
name: t
dialect: julep-2024
main:
  - over: words
    map: {evaluate: {x: _ + suffix}}
"""
    assert output_of(task, {"words": ["a", "b"], "suffix": "!"}) == [{"x": "a!"}, {"x": "b!"}]


def test_in_2024_a_name_that_no_input_has_fails_the_step() -> None:
    task = "name: t\ndialect: julep-2024\nmain: [{evaluate: {x: nowhere}}]"
    assert error_of(task, {"a": 1}).code == "expression.unknown_name"


def test_our_own_dialect_knows_no_plain_names() -> None:
    task = "name: t\nmain: [{evaluate: '$ 1'}, {evaluate: '$ [state]'}]"
    assert output_of(task, {"state": 5}) == [{}]


def test_the_running_step_has_its_input_in_steps_and_inputs() -> None:
    task = """
name: t
dialect: julep-2025
main:
  - evaluate: {a: "$ steps[0].input.x", b: "{inputs[0].x}", c: "outputs[0] if outputs else inputs[-1].x"}
  - if: $ steps[1].input.a == 1
    then: {evaluate: {d: "$ inputs[1].c", e: "$ outputs[0].b"}}
  - over: $ steps[0].input.list
    map: {evaluate: "{_} of {steps[0].input.x}"}
"""
    given = {"x": 1, "list": [7]}
    assert output_of(task, given) == ["7 of 1"]


def test_at_the_first_step_branches_that_run_concurrently_see_its_input() -> None:
    task = """
name: t
dialect: julep-2025
main:
  - over: $ _.list
    map: {evaluate: "{_} of {steps[0].input.x}"}
"""
    assert output_of(task, {"x": 1, "list": [7, 8]}) == ["7 of 1", "8 of 1"]


def test_in_2025_fields_are_shown_as_python_shows_them() -> None:
    task = """
name: t
dialect: julep-2025
main:
  - evaluate: "{_.none} {_.flag} {_.list} {_.price:.2f} {\\"json\\": 1}"
"""
    given = {"none": None, "flag": True, "list": [1, "a"], "price": 2}
    assert output_of(task, given) == "None True [1, 'a'] 2.00 {\"json\": 1}"
