"""Rules of admission: what of a task's block holds for a start, keys made of inputs, wishes of callers checked."""

from __future__ import annotations

from typing import Any

import pytest

from engine.author.api import Concurrency, Dispatch, Task, evaluate
from engine.client.startoptions import StartOptions as Wishes
from engine.control.admission import StartOptions, fingerprint_of
from engine.control.compiling import compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError, ExpressionError, InvalidInput
from engine.core.plan.admission import Rules, rules_of
from engine.core.plan.codec import plan_hash, plan_to_json
from engine.core.plan.computed import Expr
from engine.core.run.admission import key_of
from engine.core.spec import codes
from engine.edge.cli.run import start_members
from engine.edge.native.startoptions import options_of

T0 = 1_800_000_000_000_000
HOUR = 3_600_000_000


def task(admission: str) -> str:
    return f"name: t\ndispatch: {{admission: {admission}}}\nmain: [{{evaluate: 1}}]\n"


def rules(admission: str) -> Rules | None:
    return rules_of(compile_text(task(admission), contracts={}).spec, "everstep")


def findings(admission: str) -> list[Diagnostic]:
    try:
        return list(compile_text(task(admission), contracts={}).warnings)
    except DefinitionError as error:
        return list(error.diagnostics)


# --- the block -----------------------------------------------------------------------------------------------------


def test_a_task_without_rules_has_none() -> None:
    assert rules_of(compile_text("name: t\nmain: [{evaluate: 1}]", contracts={}).spec, "everstep") is None
    assert rules("{}") is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{concurrency: 5}", Rules(limit=5)),
        ("{concurrency: {limit: 5}}", Rules(limit=5)),
        ("{concurrency: {per_key: 2, key: _.team}}", Rules(per_key=2, limit_key=Expr("_.team"))),
        (
            "{concurrency: {limit: 9, per_key: 2, key: $ _.team}}",
            Rules(limit=9, per_key=2, limit_key=Expr("_.team")),
        ),
        ("{singleton: skip}", Rules(busy="skip")),
        ("{singleton: {key: input.x}}", Rules(busy="queue", single_key=Expr("input.x"))),
        ("{debounce: 30s}", Rules(gathering="debounce", wait_s=30)),
        (
            "{debounce: {wait: 30s, at_most: 5m, key: _.x}, singleton: replace}",
            Rules(gathering="debounce", wait_s=30, at_most_s=300, gather_key=Expr("_.x"), busy="replace"),
        ),
        ("{collect: {wait: 1m, size: 7}}", Rules(gathering="collect", wait_s=60, size=7)),
    ],
)
def test_rules_are_read_as_they_are_written(written: str, meant: Rules) -> None:
    assert rules(written) == meant


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("{concurrency: 0}", codes.OUT_OF_RANGE),
        ("{concurrency: {}}", codes.MISSING_KEY),
        ("{concurrency: {per_key: 2}}", codes.MISSING_KEY),
        ("{concurrency: {limit: 2, key: _.x}}", codes.CONFLICT),
        ("{concurrency: {limit: 2, perkey: 1}}", codes.UNKNOWN_KEY),
        ("{concurrency: {per_key: 2, key: nobody}}", codes.UNKNOWN_NAME),
        ("{concurrency: many}", codes.WRONG_TYPE),
    ],
)
def test_a_bound_that_means_nothing_is_an_error(written: str, code: str) -> None:
    assert [item.code for item in findings(written)] == [code]


def test_what_acts_is_not_warned_of() -> None:
    text = "name: t\ndispatch: {priority: 1, admission: {concurrency: 5, singleton: skip}}\nmain: [{evaluate: 1}]"
    assert compile_text(text, contracts={}).warnings == []


def test_rules_change_no_plan() -> None:
    plain = compile_text("name: t\nmain: [{evaluate: 1}]", contracts={}).plan
    assert plan_hash(compile_text(task("{concurrency: 5}"), contracts={}).plan) == plan_hash(plain)


def test_a_task_in_python_says_the_same() -> None:
    def made(rule: Concurrency | int) -> Rules | None:
        body = Task(name="t", main=[evaluate(1)], dispatch=Dispatch(concurrency=rule)).to_yaml()
        return rules_of(compile_text(body, contracts={}).spec, "everstep")

    assert made(5) == Rules(limit=5)
    assert made(Concurrency(limit=5, per_key=2, key="_.x")) == Rules(limit=5, per_key=2, limit_key=Expr("_.x"))


# --- keys ----------------------------------------------------------------------------------------------------------


def key(source: str, given: Any) -> str:
    plan = compile_text("name: t\nmain: [{evaluate: 1}]", contracts={}).plan
    return key_of(Expr(source), plan, given, rule="debounce", task_id="id", now_us=T0)


def test_a_key_is_the_text_of_its_value() -> None:
    assert key("_.x", {"x": "a"}) == '"a"'
    assert key("[_.x, input.x]", {"x": 1}) == "[1,1]"
    assert key("_.x", {"x": None}) == "null"
    # a number and its text are two keys
    assert key("_.x", {"x": 1}) != key("_.x", {"x": "1"})


def test_a_long_key_is_kept_as_a_hash() -> None:
    one, other = key("_", "x" * 500), key("_", "x" * 499 + "y")
    assert one.startswith("sha256:")
    assert len(one) < 100
    assert one != other


def test_a_key_that_cannot_be_made_says_which() -> None:
    with pytest.raises(ExpressionError, match=r"the key of `debounce`, `_\.x\.y`"):
        key("_.x.y", {"x": 1})


def test_the_same_wish_has_one_fingerprint() -> None:
    one = fingerprint_of({"a": 1, "b": 2}, {}, ["x", "y"])
    assert one == fingerprint_of({"a": 1, "b": 2}, {}, ["y", "x", "x"])
    assert one != fingerprint_of({"a": 1, "b": 3}, {}, ["x", "y"])


# --- wishes --------------------------------------------------------------------------------------------------------


def test_a_delay_becomes_the_time_at_which_it_begins() -> None:
    assert StartOptions(delay_s=1.5).checked(T0).start_at_us == T0 + 1_500_000
    assert StartOptions(start_at_us=T0 + 7).checked(T0).start_at_us == T0 + 7
    assert StartOptions().checked(T0) == StartOptions()


def test_a_deadline_that_is_a_duration_counts_from_the_beginning() -> None:
    assert StartOptions(deadline_s=2).deadline_from(T0) == T0 + 2_000_000
    assert StartOptions(deadline_us=T0 + 5).deadline_from(T0) == T0 + 5
    assert StartOptions().deadline_from(T0) is None


@pytest.mark.parametrize(
    "wished",
    [
        StartOptions(delay_s=1, start_at_us=T0),
        StartOptions(deadline_s=1, deadline_us=T0 + 1),
        StartOptions(delay_s=-1),
        StartOptions(deadline_s=1e12),
        StartOptions(delay_s=float("nan")),
        StartOptions(priority=0),
        StartOptions(priority=6),
        StartOptions(deadline_us=T0),
        StartOptions(deadline_us=T0 + HOUR, start_at_us=T0 + HOUR),
    ],
)
def test_wishes_that_contradict_each_other_or_are_out_of_range_are_refused(wished: StartOptions) -> None:
    with pytest.raises(InvalidInput) as caught:
        wished.checked(T0)
    assert caught.value.code == "start.bad_option"
    assert caught.value.hint


def test_a_break_before_a_step_that_is_not_there_is_refused() -> None:
    plan = plan_to_json(compile_text("name: t\nmain: [{evaluate: 1}, {evaluate: 2}]", contracts={}).plan)
    StartOptions(breaks=("main.1",)).check_breaks(plan)
    with pytest.raises(InvalidInput) as caught:
        StartOptions(breaks=("main.1", "main.9")).check_breaks(plan)
    assert (caught.value.code, caught.value.details) == ("break.unknown_step", {"paths": ["main.9"]})


def test_the_body_of_a_request_is_read() -> None:
    read = options_of(delay="1h30m", start_at=None, deadline="2027-01-15T08:00:00Z", priority=2, break_at=["main.0"])
    assert read == StartOptions(delay_s=5400, deadline_us=T0, priority=2, breaks=("main.0",))
    assert options_of(delay=None, start_at=None, deadline=60, priority=None, break_at=[]).deadline_s == 60


@pytest.mark.parametrize("given", ["soon", "2027-01-15T08:00:00", "", "1 year"])
def test_a_deadline_that_is_neither_a_time_nor_a_duration_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        options_of(delay=None, start_at=None, deadline=given, priority=None, break_at=[])
    assert caught.value.code == "start.bad_option"


def test_the_command_line_sends_what_was_given() -> None:
    sent = start_members("", "90", "2027-01-15T08:00:00+00:00", "15m", 1, ["main.0"])
    assert sent == {
        "delay": 90.0,
        "start_at": "2027-01-15T08:00:00Z",
        "deadline": "15m",
        "priority": 1,
        "break_at": ["main.0"],
    }
    assert start_members("", "", "", "", None, ()) == {}
    with pytest.raises(InvalidInput):
        start_members("", "", "tomorrow", "", None, ())


def test_the_client_sends_what_was_given() -> None:
    import datetime as dt

    at = dt.datetime(2027, 1, 15, 8, tzinfo=dt.UTC)
    made = Wishes(delay=dt.timedelta(minutes=1), deadline=at, priority=1, break_at=["main.0"]).body()
    assert made == {"delay": 60.0, "deadline": "2027-01-15T08:00:00Z", "priority": 1, "break_at": ["main.0"]}
    assert Wishes(start_at=at, deadline="15m").body() == {"start_at": "2027-01-15T08:00:00Z", "deadline": "15m"}
    assert Wishes().body() == {}
    Wishes(priority=5).refuse_in_memory()
    with pytest.raises(InvalidInput, match="delay"):
        Wishes(delay=1).refuse_in_memory()
