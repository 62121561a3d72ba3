"""What the store keeps of attempts and of the ends of waits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from engine.core.kinds import ExecutionStatus
from engine.core.run.attempts import AttemptFacts, attempt_view
from engine.core.run.events import EventRecord
from engine.core.run.projection import execution_view
from engine.store.database import open_database
from engine.store.ends import ExecutionEnd
from engine.store.filters import Span
from engine.store.migrating import SCRIPTS
from engine.store.projection import ProjectionStore
from engine.store.rebuilding import rows_of
from engine.store.usage import UsageReader
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ProjectionStore]:
    database = await open_database(store_url(tmp_path / "store.db"))
    yield ProjectionStore(database)
    await database.close()


def event(seq: int, type_: str, /, **body: Any) -> EventRecord:
    return EventRecord("e1", "r1", seq, T0 + seq * 1_000_000, type_, json.dumps(body))


def init(**more: Any) -> EventRecord:
    return event(1, "init", task="t", task_id="t1", tenant="default", **more)


def started(seq: int, path: str = "main.0", attempt: int = 1, **more: Any) -> EventRecord:
    body = {"path": path, "effect_id": f"{path}#{attempt}", "kind": "tool_call", "name": "look", "attempt": attempt}
    return event(seq, "effect.started", **{**body, "request": {}, **more})


def finished(seq: int, path: str = "main.0", attempt: int = 1, outcome: str = "ok", **more: Any) -> EventRecord:
    body = {"path": path, "effect_id": f"{path}#{attempt}", "kind": "tool_call", "attempt": attempt}
    return event(seq, "effect.finished", outcome=outcome, **{**body, **more})


def attempt_failed(seq: int, path: str = "main.0", attempt: int = 1, **more: Any) -> EventRecord:
    error = {"code": "tool.failed", "message": "no", "step": path}
    body = {"path": path, "effect_id": f"{path}#{attempt}", "kind": "tool_call", "attempt": attempt, "error": error}
    return event(seq, "attempt.failed", **{**body, "retry_in_s": None, **more})


def wait(seq: int, path: str = "main.1") -> EventRecord:
    return event(seq, "wait", path=path, wait_id=path, label="ask", info=None, schema=None)


async def attempts(store: ProjectionStore, **more: Any) -> list[AttemptFacts]:
    return await store.list_attempts("e1", tenant="default", **more)


async def wait_end(store: ProjectionStore, wait_id: str = "main.1") -> tuple[Any, ...]:
    found = await store.find_wait("e1", wait_id, tenant="default")
    assert found is not None
    closed_s = None if found.closed_us is None else (found.closed_us - T0) // 1_000_000
    return found.outcome, found.actor, found.answer, closed_s


# --- attempts ------------------------------------------------------------------------------------------------------


async def test_an_attempt_runs_until_its_call_ends_in_a_later_batch(store: ProjectionStore) -> None:
    await store.append_events([init(), started(2, label="find")])
    (running,) = await attempts(store)
    assert (running.outcome, running.started_seq, running.ended_us) == ("running", 2, None)
    await store.append_events([finished(5, deliveries=2, took_s=0.5)])
    (ended,) = await attempts(store)
    assert (ended.outcome, ended.label, ended.name, ended.deliveries) == ("ok", "find", "look", 2)
    assert attempt_view(ended) == {
        "id": "main.0#1",
        "path": "main.0",
        "label": "find",
        "kind": "tool_call",
        "name": "look",
        "attempt": 1,
        "outcome": "ok",
        "error_code": None,
        "started_at": "2027-01-15T08:00:02Z",
        "ended_at": "2027-01-15T08:00:05Z",
        "took_s": 3.0,
        "retry_in_s": None,
        "deliveries": 2,
        "model": None,
        "backend": None,
        "usage": None,
        "cost": None,
        "child_id": None,
        "started_seq": 2,
        "ended_seq": 5,
        "failed_seq": None,
    }


USED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
PARTS = {"cached_tokens": 5, "cache_write_tokens": 3, "reasoning_tokens": 2}


def replied(seq: int, path: str, usage: dict[str, int]) -> EventRecord:
    return finished(seq, path, kind="prompt", model="m", backend="b", usage=usage, cost="0.1")


async def test_parts_of_tokens_are_kept_and_summed_in_one_batch_or_in_several(store: ProjectionStore) -> None:
    await store.append_events([init(), started(2, kind="prompt"), replied(3, "main.0", USED | PARTS)])
    await store.append_events([started(4, "main.1", kind="prompt")])
    await store.append_events([replied(5, "main.1", USED | PARTS), started(6, "main.2", kind="prompt")])
    await store.append_events([replied(7, "main.2", USED)])
    first, second, third = [attempt_view(facts)["usage"] for facts in await attempts(store)]
    # what is not told of is no 0
    assert (first, second, third) == (USED | PARTS, USED | PARTS, USED)
    sums = (await store.get_execution("e1", tenant="default")).usage
    assert (sums.total_tokens, sums.cached_tokens, sums.cache_write_tokens, sums.reasoning_tokens) == (39, 10, 6, 4)
    report = await UsageReader(store.database).report("model", tenant="default", span=Span())
    assert report.total.to_usage() == sums
    ((_, _, line),) = report.items
    assert {name: line.to_json()[name] for name in PARTS} == {name: 2 * count for name, count in PARTS.items()}


async def test_a_store_of_before_knows_of_no_parts_and_counts_those_that_come(store: ProjectionStore) -> None:
    await store.append_events([init(), started(2, kind="prompt"), replied(3, "main.0", USED)])
    before = await store.database.run(lambda connection: rows_of(connection, "e1"))
    await store.database.run(lambda connection: move(connection, command.downgrade, "0009"), write=True)
    columns = await store.database.run(lambda connection: names_of(connection))
    assert not columns & PARTS.keys()
    await store.database.run(lambda connection: move(connection, command.upgrade, "head"), write=True)
    assert await store.database.run(lambda connection: rows_of(connection, "e1")) == before
    await store.append_events([started(4, "main.1", kind="prompt"), replied(5, "main.1", USED | PARTS)])
    assert (await store.get_execution("e1", tenant="default")).usage.cached_tokens == 5


def move(connection: Connection, step: Callable[[Config, str], None], revision: str) -> None:
    """Run migrations up or down."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    step(config, revision)


def names_of(connection: Connection) -> set[str]:
    """Return the columns of the tables that hold tokens."""
    return {column["name"] for table in ("executions", "attempts") for column in inspect(connection).get_columns(table)}


async def test_a_failed_attempt_tells_its_code_and_the_pause_after_it(store: ProjectionStore) -> None:
    await store.append_events([init(), started(2), finished(3, outcome="failed", error={"code": "tool.failed"})])
    await store.append_events([attempt_failed(4, retry_in_s=1.5), started(5, attempt=2)])
    first, second = await attempts(store)
    assert (first.outcome, first.error_code, first.pause_us, first.failed_seq) == (
        "failed",
        "tool.failed",
        1_500_000,
        4,
    )
    assert (first.ended_seq, second.outcome, second.attempt) == (3, "running", 2)


async def test_a_block_that_failed_is_an_attempt_without_a_call(store: ProjectionStore) -> None:
    await store.append_events([init(), attempt_failed(2, "main.3", kind="foreach")])
    (failed,) = await attempts(store)
    assert (failed.kind, failed.name, failed.started_us, failed.ended_seq) == ("foreach", "", None, 2)
    assert (await store.get_execution("e1", tenant="default")).usage.failed_attempts == 1


async def test_what_still_runs_when_temporal_ends_the_execution_is_cancelled(store: ProjectionStore) -> None:
    await store.append_events([init(), started(2), started(3, "main.1"), finished(4, "main.1")])
    await store.settle([ExecutionEnd("e1", ExecutionStatus.FAILED, T0 + 9, error={"code": "execution.terminated"})])
    first, second = await attempts(store)
    assert (first.outcome, first.ended_seq, first.ended_us) == ("cancelled", None, T0 + 9)
    assert (second.outcome, second.ended_seq) == ("ok", 4)
    # the event that the live path still had under way tells better
    await store.append_events([finished(5)])
    assert [item.outcome for item in await attempts(store)] == ["ok", "ok"]


async def test_the_code_of_an_error_stands_in_its_row(store: ProjectionStore) -> None:
    await store.append_events([init()])
    end = ExecutionEnd("e1", ExecutionStatus.FAILED, T0 + 9, error={"code": "task.error", "message": "no"})
    await store.settle([end])
    rows = await store.database.run(lambda c: c.exec_driver_sql("SELECT error_code FROM executions").all())
    assert [tuple(row) for row in rows] == [("task.error",)]


async def test_attempts_are_paged_in_the_order_in_which_they_began(store: ProjectionStore) -> None:
    batch = [init()]
    for number in range(7):
        batch += [started(2 + 2 * number, f"main.{9 - number}"), finished(3 + 2 * number, f"main.{9 - number}")]
    await store.append_events(batch)
    first = await attempts(store, limit=4)
    rest = await attempts(store, limit=4, after=first[-1].place)
    assert [item.path for item in [*first, *rest]] == [f"main.{9 - number}" for number in range(7)]
    assert [item.effect_id for item in await attempts(store, path="main.4")] == ["main.4#1"]
    assert await store.list_attempts("e1", tenant="other") == []


async def test_an_attempt_of_a_dropped_event_goes_with_it(store: ProjectionStore) -> None:
    await store.append_events([init(), started(2), finished(3, model="m1", kind="prompt", cost="1")])
    again = event(2, "step", path="main.0")._replace(now_us=T0 + 10_000_000)
    await store.append_events([again])
    assert await attempts(store) == []
    facts = await store.get_execution("e1", tenant="default")
    assert (facts.usage.tool_calls, facts.usage.cost_nano) == (0, None)


async def test_a_character_that_no_column_can_hold_does_not_stop_a_batch(store: ProjectionStore) -> None:
    await store.append_events([init(actor="a\0nn"), started(2, name="lo\0ok", label="\ud800")])
    (found,) = await attempts(store)
    assert (found.name, found.label) == ("lo\ufffdok", "?")


async def test_two_long_ids_that_begin_alike_stay_two(store: ProjectionStore) -> None:
    long = "main.0" + ".then.0" * 200
    await store.append_events([init(), started(2, effect_id=f"{long}#1"), started(3, effect_id=f"{long}#2")])
    await store.append_events([finished(4, effect_id=f"{long}#2")])
    assert [item.outcome for item in await attempts(store)] == ["running", "ok"]


# --- waits ---------------------------------------------------------------------------------------------------------


async def test_an_answer_is_kept_with_who_gave_it(store: ProjectionStore) -> None:
    await store.append_events([init(), wait(2)])
    assert await wait_end(store) == ("", "", None, None)
    await store.append_events([event(3, "resume", path="main.1", wait_id="main.1", output={"go": 1}, actor="ann")])
    assert await wait_end(store) == ("answered", "ann", {"go": 1}, 3)


async def test_a_default_that_was_taken_is_an_expired_wait(store: ProjectionStore) -> None:
    resume = event(3, "resume", path="main.1", wait_id="main.1", output="d", actor="", expired=True)
    await store.append_events([init(), wait(2), resume])
    assert await wait_end(store) == ("expired", "", "d", 3)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("attempt.failed", {"path": "main.1", "effect_id": "main.1#1", "kind": "wait_for_input"}),
        ("branch.failed", {"path": "main"}),
        ("error", {}),
    ],
)
async def test_a_wait_that_was_out_of_time_without_a_default_has_expired(
    store: ProjectionStore, kind: str, body: dict[str, Any]
) -> None:
    error = {"code": "wait.expired", "message": "no answer", "step": "main.1"}
    await store.append_events([init(), wait(2), event(3, kind, error=error, **body)])
    assert await wait_end(store) == ("expired", "", None, 3)


async def test_a_wait_beside_one_that_expired_was_stopped(store: ProjectionStore) -> None:
    error = {"code": "wait.expired", "message": "no answer", "step": "main.0.parallel[1].0"}
    await store.append_events([init(), wait(2, "main.0.parallel[0].0"), wait(3, "main.0.parallel[1].0")])
    await store.append_events([event(4, "attempt.failed", path="main.0", effect_id="main.0#1", error=error)])
    assert await wait_end(store, "main.0.parallel[0].0") == ("stopped", "", None, 4)
    assert await wait_end(store, "main.0.parallel[1].0") == ("expired", "", None, 4)


async def test_a_wait_that_temporal_ended_was_stopped_unless_an_event_says_otherwise(store: ProjectionStore) -> None:
    await store.append_events([init(), wait(2)])
    await store.settle([ExecutionEnd("e1", ExecutionStatus.CANCELLED, T0 + 9_000_000)])
    assert await wait_end(store) == ("stopped", "", None, 9)
    assert await store.open_waits(["e1"], tenant="default") == {}
    await store.append_events([event(3, "resume", path="main.1", wait_id="main.1", output=1, actor="ann")])
    assert await wait_end(store) == ("answered", "ann", 1, 3)


# --- views ---------------------------------------------------------------------------------------------------------


async def test_the_reason_of_a_cancel_that_is_told_late_still_reaches_the_error(store: ProjectionStore) -> None:
    await store.append_events([init()])
    await store.settle([ExecutionEnd("e1", ExecutionStatus.CANCELLED, T0 + 9)])
    await store.append_events([event(2, "cancelled", reason="too dear", actor="ann")])
    facts = await store.get_execution("e1", tenant="default")
    assert facts.error == {"code": "execution.cancelled", "message": "too dear", "details": {"actor": "ann"}}


async def test_a_view_tells_labels_actor_trace_usage_and_who_answered(store: ProjectionStore) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await store.append_events([init(labels=["red"], actor="bob", trace=trace, created_us=T0), wait(2), started(3)])
    await store.append_events([event(4, "resume", path="main.1", wait_id="main.1", output=1, actor="ann")])
    facts = await store.get_execution("e1", tenant="default")
    closed = await store.find_wait("e1", "main.1", tenant="default")
    assert closed is not None
    view = execution_view(facts, [closed])
    assert (view["labels"], view["actor"], view["trace_id"], view["stuck"], view["gone_at"]) == (
        ["red"],
        "bob",
        "a" * 32,
        None,
        None,
    )
    assert (view["usage"]["tool_calls"], view["usage"]["cost"], view["created_at"]) == (1, None, "2027-01-15T08:00:00Z")
    (shown,) = view["waits"]
    assert {name: shown[name] for name in ("outcome", "actor", "answer", "closed_at")} == {
        "outcome": "answered",
        "actor": "ann",
        "answer": 1,
        "closed_at": "2027-01-15T08:00:04Z",
    }
