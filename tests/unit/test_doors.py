"""Parts of schedules, webhooks, hooks and jobs that need no server: messages, signatures, filters, values."""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest

from engine.control.bulk import read_filter, read_options, store_filter
from engine.control.dispatched import Computing, computed_input, read_expression, read_value
from engine.control.hooks import HookRequest, check_caller, hash_key, read_value_of
from engine.control.scheduling import read_body, temporal_schedule
from engine.control.webhooks import (
    MOST_MESSAGE_BYTES,
    USUAL_STATUSES,
    check_statuses,
    message_of,
    new_secret,
    secret_bytes,
    signature_of,
)
from engine.core.errors import InvalidInput, NotAllowed
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import ExecutionFacts
from engine.store.hooks import HookFacts
from engine.store.outbox import delivery_id
from engine.store.rows import event_hash
from engine.store.schedules import ScheduleFacts
from engine.store.webhooks import DeliveryFacts

NOW = 1_800_000_000_000_000


def code_of(work: Any, *args: Any, **options: Any) -> str:
    with pytest.raises((InvalidInput, NotAllowed)) as caught:
        work(*args, **options)
    return caught.value.code


# --- webhooks --------------------------------------------------------------------------------------------------------


def delivery(status: str = "succeeded") -> DeliveryFacts:
    return DeliveryFacts(
        tenant="acme",
        id="msg_1",
        webhook_id="w",
        execution_id="e",
        status=status,
        mark=3,
        at_us=NOW,
        state="pending",
        round=0,
        attempts=0,
        last_status=None,
        last_answer="",
        last_error="",
        last_us=None,
        created_us=NOW,
        ended_us=None,
    )


def facts(output: Any) -> ExecutionFacts:
    return ExecutionFacts(
        id="e",
        tenant="acme",
        task_id="t",
        task_name="greet",
        task_version=1,
        agent_id="",
        status=ExecutionStatus.SUCCEEDED,
        input=None,
        output=output,
        error=None,
        metadata={},
        created_us=NOW,
        updated_us=NOW,
        closed_us=NOW,
        transition_count=1,
        last_seq=1,
        terminal_seen=True,
        settled=True,
        verified=True,
    )


def test_the_example_of_the_specification_has_its_signature() -> None:
    """The vector of standardwebhooks.com's reference libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = signature_of(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_long_output_is_left_out_and_named() -> None:
    short = json.loads(message_of(delivery(), facts("x"), []))
    assert (short["type"], short["data"]["output"]) == ("execution.succeeded", "x")
    long = message_of(delivery(), facts("x" * MOST_MESSAGE_BYTES), [])
    assert len(long) < 2_000
    assert json.loads(long)["data"]["left_out"] == ["output"]
    gone = json.loads(message_of(delivery(), None, []))
    assert gone["data"] == {"execution_id": "e", "status": "succeeded"}


def test_one_thing_has_one_id_for_each_webhook() -> None:
    ids = [delivery_id(*place) for place in (("w", "e", "failed", 1), ("w", "e", "failed", 2), ("v", "e", "failed", 1))]
    assert len({*ids, delivery_id("w", "e", "failed", 1)}) == 3


def test_statuses_and_secrets_are_checked() -> None:
    assert check_statuses([]) == USUAL_STATUSES == ("awaiting_input", "succeeded", "failed", "cancelled")
    assert code_of(check_statuses, ["happy"]) == "webhook.bad_status"
    assert len(secret_bytes(new_secret())) == 32
    for wrong in ("whsec_", "whsec_###", base64.b64encode(b"x" * 32).decode(), f"whsec_{'A' * 200}"):
        assert code_of(secret_bytes, wrong) == "webhook.bad_secret"


# --- hooks -----------------------------------------------------------------------------------------------------------


def request(body: bytes = b"{}", content_type: str = "application/json", **headers: str) -> HookRequest:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return HookRequest(body=body, headers=told, query={}, content_type=content_type)


def test_a_key_is_taken_from_header_bearer_and_query_and_no_other_is() -> None:
    hook = HookFacts(tenant="acme", id="h", name="n", event="e", secret=hash_key("hk_right"), created_us=NOW)
    for right in (
        request(x_hook_key="hk_right"),
        request(authorization="Bearer hk_right"),
        replace(request(), query={"key": "hk_right"}),
    ):
        check_caller(hook, right, now_s=0)
    for wrong in (request(), request(x_hook_key="hk_wrong"), request(x_hook_key=hook.secret), request(x_hook_key="é")):
        assert code_of(check_caller, hook, wrong, now_s=0) == "hook.refused"


def test_bodies_are_json_forms_or_texts() -> None:
    form = "application/x-www-form-urlencoded"
    assert read_value_of(request(b'{"a": 1}')) == {"a": 1}
    assert read_value_of(request(b"a=1&b=", form)) == {"a": "1", "b": ""}
    assert read_value_of(request(b"payload=%7B%22a%22%3A1%7D", form)) == {"a": 1}
    assert read_value_of(request(b"hello", "text/plain")) == "hello"
    assert read_value_of(request(b"")) is None
    for wrong in (b"{", b"\xff", b"[" * 100_000):
        assert code_of(read_value_of, request(wrong)) == "request.unreadable"


def test_equal_keys_have_equal_hashes() -> None:
    assert event_hash("paid", 1) == event_hash("paid", 1.0)
    assert len({event_hash("paid", key) for key in (1, "1", None, True, [1])}) == 5
    assert event_hash("a", {"x": 1, "y": 2}) == event_hash("a", {"y": 2, "x": 1})


# --- values ----------------------------------------------------------------------------------------------------------


def test_inputs_of_schedules_are_computed_with_the_time_they_are_for() -> None:
    value = read_value(
        {"day": "$ str(now())[:10]", "plain": "{{x}}", "n": "$ 1 + 1"} | {"plain": "as it is"}, where="i"
    )
    computed = computed_input(value, Computing(None, "seed", NOW), None, "i")
    assert computed == {"day": "2027-01-15", "plain": "as it is", "n": 2}
    assert code_of(read_value, {"x": "$ _.y"}, where="i") == "expression.invalid"
    assert Computing(None, "s", NOW).holds(read_expression("_.total > 100", where="if"), {"total": 101}, "if")
    assert code_of(read_expression, "_.total >", where="if") == "expression.invalid"


# --- schedules -------------------------------------------------------------------------------------------------------


def test_a_schedule_becomes_one_of_temporal() -> None:
    body = {
        "cron": ["0 8 * * *"],
        "intervals": [{"every": "15m", "offset": "5m"}],
        "timezone": "Europe/Berlin",
        "jitter": "30s",
        "overlap": "terminate_other",
        "catch_up": "2h",
        "start_at": "2027-01-01T00:00:00Z",
    }
    made = temporal_schedule(
        ScheduleFacts(tenant="acme", id="s", name="n", task="t", body=body, created_us=NOW, updated_us=NOW, note="x"),
        task_queue="q",
        remaining=3,
    )
    assert (made.spec.cron_expressions, made.spec.time_zone_name) == (["0 8 * * *"], "Europe/Berlin")
    interval = made.spec.intervals[0]
    assert interval.offset is not None
    assert (interval.every.total_seconds(), interval.offset.total_seconds()) == (900, 300)
    assert made.policy.overlap.name == "TERMINATE_OTHER"
    assert made.policy.catchup_window == dt.timedelta(hours=2)
    assert (made.state.remaining_actions, made.state.limited_actions, made.state.note) == (3, True, "x")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cron": ["* * * *"]},
        {"cron": ["@daily"], "timezone": "Nowhere"},
        {"intervals": [{"every": "10m", "offset": "10m"}]},
        {"cron": ["@daily"], "start_at": "2027-01-01T00:00:00"},
        {"cron": ["@daily"], "start_at": "2027-01-02T00:00:00Z", "end_at": "2027-01-01T00:00:00Z"},
        {"cron": ["@daily"], "limit": 0},
        {"cron": ["@daily"], "colour": "red"},
        {"cron": ["@daily"], "labels": [""]},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    assert code_of(read_body, body) == "schedule.invalid"


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_the_set_of_a_job_ends_where_the_job_begins() -> None:
    wanted = read_filter({"status": ["failed"], "created_before": "2100-01-01T00:00:00Z"})
    condition = store_filter(wanted, task_id="t", until_us=NOW)
    assert (condition.created.until_us, condition.task_id) == (NOW, "t")
    earlier = read_filter({"created_before": "2020-01-01T00:00:00Z"})
    assert store_filter(earlier, task_id=None, until_us=NOW).created.until_us == 1_577_836_800_000_000


def test_options_that_an_action_does_not_have_are_refused() -> None:
    assert read_options("cancel", {"reason": "moving"}).reason == "moving"
    assert code_of(read_options, "cancel", {"value": 1}) == "bulk.bad_options"
    assert code_of(read_options, "answer", {}) == "bulk.bad_options"
    assert code_of(read_options, "fork", {}) == "bulk.bad_options"
    assert code_of(read_filter, {}) == "bulk.bad_filter"
