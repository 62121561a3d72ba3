"""The `dispatch` block beside a task: read and checked, kept out of the plan, compared in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.author.api import Collect, Cron, Debounce, Dispatch, Singleton, Task, Trigger, evaluate
from engine.control.compiling import compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError
from engine.core.plan.codec import plan_hash
from engine.core.plan.dispatch import check_dispatch, dispatch_changes
from engine.core.spec.dispatch import CollectSpec, DebounceSpec, DispatchSpec, SingletonSpec
from engine.core.spec.nodes import node_from_json
from engine.core.spec.read import read_task

WHOLE = """
name: t
input_schema: {type: object, required: [customer], properties: {customer: {type: string}}}
dispatch:
  triggers:
    - event: order.created
      if: _.total > 100
      input: {customer: $ _.by}
    - {event: order.changed}
  cron:
    - {at: 0 8 * * mon-fri, timezone: Europe/Berlin, input: {customer: all}}
  admission:
    debounce: {wait: 30s, at_most: 5m, key: _.customer}
    singleton: {busy: skip, key: $ input.customer}
  priority: 2
  labels: [billing, orders]
main:
  - evaluate: 1
"""


def dispatch_of(text: str) -> Any:
    return compile_text(text, contracts={}).spec["dispatch"]


def findings(dispatch: str, more: str = "") -> list[Diagnostic]:
    """Return what is said of a block."""
    try:
        return compile_text(f"name: t\n{more}dispatch:\n{dispatch}\nmain: [{{evaluate: 1}}]\n", contracts={}).warnings
    except DefinitionError as error:
        return list(error.diagnostics)


def test_a_whole_block_is_kept_as_it_was_written() -> None:
    found = dispatch_of(WHOLE)
    assert found["triggers"][0] == {"event": "order.created", "if": "_.total > 100", "input": {"customer": "$ _.by"}}
    assert found["cron"] == [{"at": "0 8 * * mon-fri", "timezone": "Europe/Berlin", "input": {"customer": "all"}}]
    assert (found["priority"], found["labels"]) == (2, ["billing", "orders"])


def test_a_block_changes_no_plan() -> None:
    start, end = WHOLE.index("dispatch:"), WHOLE.index("main:")
    with_block = compile_text(WHOLE, contracts={}).plan
    assert plan_hash(with_block) == plan_hash(compile_text(WHOLE[:start] + WHOLE[end:], contracts={}).plan)


def test_every_part_of_a_block_acts_so_that_nothing_is_said_of_it() -> None:
    assert compile_text(WHOLE, contracts={}).warnings == []


def spec_of(body: dict[str, Any]) -> DispatchSpec:
    spec, found = read_task(node_from_json({"main": [{"evaluate": 1}], "dispatch": body}))
    assert found.errors == []
    assert spec.dispatch is not None
    return spec.dispatch


def test_short_forms_mean_the_most_important_member() -> None:
    assert spec_of({"admission": {"debounce": "30s"}}).debounce == DebounceSpec(wait_s=30.0)
    assert spec_of({"admission": {"collect": 5}}).collect == CollectSpec(wait_s=5.0, size=100)
    assert spec_of({"admission": {"singleton": "replace"}}).singleton == SingletonSpec(busy="replace")
    (cron,) = spec_of({"cron": "@daily"}).crons
    assert (cron.at.value, cron.timezone, cron.input) == ("@daily", None, None)


@pytest.mark.parametrize(
    ("dispatch", "code", "message", "path"),
    [
        ("  crom: '@daily'", "E201", "dispatch has no key 'crom'", "dispatch.crom"),
        (
            "  cron: 5",
            "E203",
            "'cron' must be text such as `0 8 * * *`, or {at, timezone, input}, not a number",
            "dispatch.cron",
        ),
        ("  cron: {timezone: UTC}", "E202", "the cron has no 'at'", "dispatch.cron"),
        ("  cron: ['0 25 * * *']", "E512", "the hour '25' is outside its field", "dispatch.cron[0]"),
        ("  cron: {at: 0 25 * * *}", "E512", "the hour '25' is outside its field", "dispatch.cron.at"),
        (
            "  cron: {at: '@daily', timezone: Europe/Berln}",
            "E506",
            "there is no time zone 'Europe/Berln'",
            "dispatch.cron.timezone",
        ),
        ("  cron: {at: '@daily', input: {a: $ _}}", "E401", "unknown name '_'", "dispatch.cron.input.a"),
        (
            "  cron: 0 9 13 * fri",
            "W607",
            "this cron comes only on days that fit both the day of the month and the day of the week",
            "dispatch.cron",
        ),
        ("  triggers: [{if: true}]", "E202", "the trigger has no 'event'", "dispatch.triggers[0]"),
        ("  triggers: [{event: a, if: _.x >}]", "E301", None, "dispatch.triggers[0].if"),
        (
            "  triggers: [{event: a, input: {b: $ input}}]",
            "E401",
            "unknown name 'input'",
            "dispatch.triggers[0].input.b",
        ),
        ("  triggers: {event: a}", "E203", "'triggers' must be a list, not an object", "dispatch.triggers"),
        ("  admission: {debounce: {}}", "E202", "debounce has no 'wait'", "dispatch.admission.debounce"),
        (
            "  admission: {debounce: {wait: 5m, at_most: 30s}}",
            "E509",
            "'at_most' is shorter than 'wait'",
            "dispatch.admission.debounce.at_most",
        ),
        (
            "  admission: {debounce: 5s, collect: 5s}",
            "E509",
            "'debounce' drops what 'collect' would gather",
            "dispatch.admission.collect",
        ),
        (
            "  admission: {collect: {wait: 5s, size: 0}}",
            "E503",
            "'size' is 0, but must be 1 to 10000",
            "dispatch.admission.collect.size",
        ),
        (
            "  admission: {singleton: skp}",
            "E506",
            "'busy' is 'skp', but must be one of queue, skip, replace",
            "dispatch.admission.singleton.busy",
        ),
        (
            "  admission: {singleton: {key: 'steps[0]'}}",
            "E401",
            "unknown name 'steps'",
            "dispatch.admission.singleton.key",
        ),
        ("  admission: {singletn: skip}", "E201", "admission has no key 'singletn'", "dispatch.admission.singletn"),
        ("  priority: 0", "E503", "'priority' is 0, but must be 1 to 5", "dispatch.priority"),
        ("  labels: [a, a]", "E509", "the label 'a' stands twice", "dispatch.labels"),
        ("  labels: [' ']", "E503", "a label has 1 to 100 characters", "dispatch.labels"),
        ("  labels: a", "E203", "'labels' must be a list, not text", "dispatch.labels"),
    ],
)
def test_a_block_that_is_wrong_is_told_at_its_place(dispatch: str, code: str, message: str | None, path: str) -> None:
    (found,) = findings(dispatch)
    assert (found.code, found.path) == (code, path)
    assert message is None or found.message == message


def test_the_caret_of_a_cron_stands_under_the_field() -> None:
    (found,) = findings("  cron: 0 25 * * *")
    assert (found.position.line, found.position.column) == (3, 11)


@pytest.mark.parametrize("word", ["evnt", "timezon", "wat", "bussy", "lables"])
def test_a_misspelt_key_is_asked_about(word: str) -> None:
    places = {
        "evnt": "  triggers: [{evnt: a}]",
        "timezon": "  cron: {at: '@daily', timezon: UTC}",
        "wat": "  admission: {debounce: {wat: 5s}}",
        "bussy": "  admission: {singleton: {bussy: skip}}",
        "lables": "  lables: [a]",
    }
    (found,) = [item for item in findings(places[word]) if item.code == "E201"]
    assert found.hint.startswith("did you mean '")


def test_an_input_that_is_written_out_is_compared_with_the_schema() -> None:
    schema = "input_schema: {type: object, required: [a]}\n"
    messages = [item.message for item in findings("  cron: ['@daily', {at: '@daily', input: {b: 1}}]", schema)]
    assert messages == [
        "a cron without an `input` starts the task with {}, which does not fit `input_schema`: "
        "value: 'a' is a required property",
        "the input does not fit `input_schema`: value: 'a' is a required property",
    ]
    assert findings("  cron: {at: '@daily', input: {a: $ now()}}", schema) == []
    assert findings("  triggers: [{event: a}]", schema) == []


def test_where_no_time_zones_are_known_none_is_refused() -> None:
    body = {"main": [{"evaluate": 1}], "dispatch": {"cron": {"at": "@daily", "timezone": "Moon/Crater"}}}
    task, _ = read_task(node_from_json(body))
    assert check_dispatch(task, lambda: ()).items == []
    assert [item.code for item in check_dispatch(task, lambda: ("UTC",)).items] == ["E506"]


# --- in Python -----------------------------------------------------------------------------------------------------


def test_a_block_in_python_is_that_of_yaml() -> None:
    task = Task(
        name="t",
        input={"type": "object", "required": ["customer"], "properties": {"customer": {"type": "string"}}},
        dispatch=Dispatch(
            triggers=[
                Trigger(event="order.created", if_="_.total > 100", input={"customer": "$ _.by"}),
                Trigger(event="order.changed"),
            ],
            cron=[Cron(at="0 8 * * mon-fri", timezone="Europe/Berlin", input={"customer": "all"})],
            debounce=Debounce(wait="30s", at_most="5m", key="_.customer"),
            singleton=Singleton(busy="skip", key="$ input.customer"),
            priority=2,
            labels=["billing", "orders"],
        ),
        main=[evaluate(1)],
    )
    assert task.to_json()["dispatch"] == dispatch_of(WHOLE)
    assert dispatch_of(task.to_yaml()) == dispatch_of(WHOLE)
    assert Dispatch(collect=Collect(wait=5, size=3), cron=["@daily"]).plain() == {
        "cron": ["@daily"],
        "admission": {"collect": {"wait": 5, "size": 3}},
    }


def test_a_part_of_the_wrong_type_is_told_in_python() -> None:
    with pytest.raises(DefinitionError, match="'debounce' must be made by Debounce"):
        Task(main=evaluate(1), dispatch=Dispatch(debounce={"wait": 5}))  # type: ignore[arg-type]


# --- differences ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, None, []),
        ({"priority": 1}, {"priority": 1}, []),
        (None, {"priority": 1}, ["`priority` is new: 1"]),
        ({"priority": 1}, None, ["`priority` is gone; it was 1"]),
        (
            {"cron": "@daily", "admission": {"singleton": {"busy": "skip", "key": "_.a"}}},
            {"cron": "@hourly", "admission": {"singleton": {"busy": "queue", "key": "_.a"}}},
            ['`cron` is "@hourly", was "@daily"', '`admission.singleton.busy` is "queue", was "skip"'],
        ),
    ],
)
def test_a_change_is_told_in_words(before: Any, after: Any, told: list[str]) -> None:
    assert dispatch_changes(before, after) == told


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_tasks_of_the_page_are_valid_and_do_what_it_says() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "authority.md").read_text(encoding="utf-8")
    bounded, dispatched = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert compile_text(bounded, contracts={}).warnings == []
    assert compile_text(dispatched, contracts={}).warnings == []
