"""Starts that wait, in both stores: entered, joined, let in once, counted while they run, ended without a beginning."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import ExecutionFacts
from engine.store.admission import AdmissionStore
from engine.store.database import Database, open_database
from engine.store.ends import ExecutionEnd
from engine.store.entering import MOST_GATHERED_CHARS, Entry, NewStart
from engine.store.letting_in import MOST, Claim, LettingIn, Round
from engine.store.projection import ProjectionStore
from engine.store.rows import Named
from engine.store.schema import executions
from engine.store.schema_admission import start_requests, starts
from engine.store.start_rows import Withdrawal
from engine.store.turns import Limits
from engine.store.upkeep import Upkeep
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000
SECOND = 1_000_000
LEASE = 10 * SECOND


@dataclasses.dataclass
class Desk:
    """A store, and two processes that let in."""

    store: ProjectionStore
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.admission = AdmissionStore(self.store)
        self.one = LettingIn(self.admission, self.limits, owner="one", lease_us=LEASE)
        self.two = LettingIn(self.admission, self.limits, owner="two", lease_us=LEASE)

    async def enter(self, name: str, at: float = 0, **more: Any) -> tuple[Entry, str]:
        return await self.admission.enter(new_start(name, at, **more))

    async def round(self, at: float = 1, *, by: LettingIn | None = None) -> Round:
        return await (by or self.one).round(us(at))

    async def let_in(self, at: float = 1, *, by: LettingIn | None = None) -> list[str]:
        """Look once, begin what may, and return the ids."""
        found = await self.round(at, by=by)
        await self.begin(found.claims, by=by)
        return [claim.id for claim in found.claims]

    async def begin(self, claims: list[Claim], *, by: LettingIn | None = None) -> list[tuple[str, str, Withdrawal]]:
        return await (by or self.one).began([(claim, named(claim.input)) for claim in claims])

    async def end(self, name: str, at: float = 2) -> None:
        await self.store.settle([ExecutionEnd(name, ExecutionStatus.SUCCEEDED, us(at))])

    async def facts(self, name: str, tenant: str = "a") -> ExecutionFacts:
        return await self.store.get_execution(name, tenant=tenant)

    async def rows(self) -> dict[str, str]:
        async with self.store.database.read() as connection:
            return {row.id: row.state for row in await connection.execute(select(starts.c.id, starts.c.state))}


def us(at: float) -> int:
    return T0 + round(at * SECOND)


def named(given: Any = None, **more: Any) -> Named:
    return Named(task_id="t", task_name="brew", input=given, created_us=T0, **more)


def new_start(name: str, at: float = 0, **more: Any) -> NewStart:
    """Return a start of the task `t` at second `at`."""
    tenant, given = more.pop("tenant", "a"), more.pop("input", name)
    values: dict[str, Any] = {
        "id": name,
        "tenant": tenant,
        "task_id": "t",
        "lane": more.get("limit_key") or "t",
        "priority": 3,
        "named": more.pop("named", None) or named([given] if more.get("gathering") == "collect" else given),
        "params": {"execution": {"execution_id": name, "created_us": us(at), "trace": f"trace of {name}"}},
        "input": given,
        "now_us": us(at),
        "due_us": us(at),
        "fingerprint": f"asked for {name}",
    }
    return NewStart(**{**values, **more})


@pytest.fixture
async def desk(both_stores: str, tmp_path: Path) -> AsyncIterator[Desk]:
    del both_stores
    database: Database = await open_database(store_url(tmp_path / "desk.db"))
    yield Desk(ProjectionStore(database))
    await database.close()


def under(desk: Desk, limits: Limits) -> Desk:
    """Return the same store under an operator's limits."""
    return Desk(desk.store, limits)


# --- entering and beginning ----------------------------------------------------------------------------------------


async def test_a_start_that_waits_can_be_read_at_once_and_is_let_in_once(desk: Desk) -> None:
    assert await desk.enter("x", task_limit=1) == (Entry.QUEUED, "x")
    assert (await desk.facts("x")).status is ExecutionStatus.QUEUED
    found = await desk.round()
    assert [(claim.id, claim.input, claim.again) for claim in found.claims] == [("x", "x", False)]
    assert (await desk.round(2)).claims == []
    assert (await desk.round(2, by=desk.two)).claims == []


async def test_a_delayed_start_is_not_let_in_before_its_time(desk: Desk) -> None:
    await desk.enter("x", due_us=us(60))
    assert await desk.let_in(59.9) == []
    assert (await desk.one.look()).due_us == us(60)
    assert await desk.let_in(60) == ["x"]
    # nothing counts its place, so nothing is kept of it
    assert await desk.rows() == {}


async def test_an_id_stands_for_one_execution(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    assert await desk.enter("x", task_limit=1) == (Entry.KNOWN, "x")
    await desk.store.ensure_execution("y", tenant="b", task_id="t", task_name="brew", created_us=T0)
    assert await desk.enter("y", task_limit=1) == (Entry.KNOWN, "y")
    assert list(await desk.rows()) == ["x"]


async def test_many_that_come_at_once_with_one_id_make_one_execution(desk: Desk) -> None:
    found = await asyncio.gather(*(desk.enter("x", task_limit=1) for _ in range(8)))
    assert sorted(entry.value for entry, _ in found) == ["known"] * 7 + ["queued"]


# --- places --------------------------------------------------------------------------------------------------------


async def test_a_place_is_held_until_the_end_is_stored(desk: Desk) -> None:
    for name in ("x", "y", "z"):
        await desk.enter(name, task_limit=2)
    assert await desk.let_in() == ["x", "y"]
    assert await desk.let_in(3) == []
    await desk.one.release(["x"])  # it has not ended: somebody is mistaken
    assert await desk.let_in(3) == []
    await desk.end("x")
    assert await desk.let_in(3) == []
    await desk.one.release(["x"])
    assert await desk.let_in(3) == ["z"]


async def test_a_sweep_finds_the_places_of_those_whose_end_nobody_told(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.enter("y", task_limit=1)
    await desk.let_in()
    await desk.end("x")
    await desk.two.sweep(us(3))
    assert await desk.let_in(3, by=desk.two) == ["y"]
    assert await desk.rows() == {"y": "started"}


async def test_two_processes_never_give_one_place_away_twice(desk: Desk) -> None:
    desk = under(desk, Limits(running=7))
    await asyncio.gather(*(desk.enter(f"x{n:02}", tenant=f"tenant {n % 3}") for n in range(40)))
    rounds = await asyncio.gather(*(desk.round(by=who) for who in (desk.one, desk.two) for _ in range(6)))
    claimed = [claim.id for found in rounds for claim in found.claims]
    assert len(claimed) == len(set(claimed)) == 7


async def test_tenants_take_turns_from_look_to_look(desk: Desk) -> None:
    desk = under(desk, Limits(running=1))
    for n in range(4):
        await desk.enter(f"a{n}", n, tenant="a")
    await desk.enter("b0", 5, tenant="b")
    order: list[str] = []
    for at in range(10, 15):
        [name] = await desk.let_in(at)
        order.append(name)
        await desk.end(name, at)
        await desk.one.release([name])
    assert order == ["a0", "b0", "a1", "a2", "a3"]


async def test_the_first_with_the_highest_priority_comes_next(desk: Desk) -> None:
    for at, (name, priority) in enumerate((("low", 5), ("old", 3), ("new", 3), ("urgent", 1))):
        await desk.enter(name, at, task_limit=1, priority=priority)
    order: list[str] = []
    for at in range(4):
        [name] = await desk.let_in(10 + at)
        order.append(name)
        await desk.end(name)
        await desk.one.release([name])
    assert order == ["urgent", "old", "new", "low"]


async def test_what_nothing_bounds_is_let_in_a_hundred_at_a_time(desk: Desk) -> None:
    for n in range(MOST + 20):
        await desk.enter(f"x{n:03}")
    found = await desk.round()
    assert (len(found.claims), found.more) == (MOST, True)
    assert len((await desk.round(2)).claims) == 20


async def test_limits_of_the_operator_count_starts_that_have_none_of_their_own(desk: Desk) -> None:
    desk = under(desk, Limits(per_tenant=1))
    for name in ("x", "y"):
        await desk.enter(name)
    await desk.enter("other", tenant="b")
    assert sorted(await desk.let_in()) == ["other", "x"]
    assert (await desk.rows())["x"] == "started"


# --- processes that die --------------------------------------------------------------------------------------------


async def test_what_a_dead_process_had_claimed_is_begun_by_another_one(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.round(1)
    assert (await desk.round(10.9, by=desk.two)).claims == []
    [claim] = (await desk.round(11, by=desk.two)).claims
    assert (claim.id, claim.input, claim.again, claim.begun) == ("x", "x", True, False)
    # the place was held all the time
    await desk.enter("y", task_limit=1)
    assert (await desk.round(12)).claims == []


async def test_one_whose_events_are_stored_is_known_to_have_begun(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.round(1)
    await desk.end("x")
    [claim] = (await desk.round(30, by=desk.two)).claims
    assert claim.begun


async def test_a_started_one_is_never_claimed_again(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.let_in(1)
    await Upkeep(desk.store.database).mark_gone("x", at_us=us(5))
    assert (await desk.facts("x")).error == {
        "code": "execution.gone",
        "message": "Temporal no longer has this execution: it was deleted before it ended",
        "hint": "start it again; what the store holds of it is kept",
    }
    assert (await desk.round(1_000, by=desk.two)).claims == []
    await desk.two.sweep(us(1_000))
    assert await desk.rows() == {}


async def test_what_could_not_be_begun_is_tried_again_later(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.round(1)
    await desk.one.put_back(["x"], until_us=us(2))
    assert (await desk.round(1.9, by=desk.two)).claims == []
    assert [claim.id for claim in (await desk.round(2, by=desk.two)).claims] == ["x"]


async def test_what_can_never_begin_ends_and_frees_its_place(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.enter("y", task_limit=1)
    await desk.round(1)
    await desk.one.give_up({"x": Withdrawal("fail", "no", code="start.refused")}, now_us=us(2))
    facts = await desk.facts("x")
    assert (facts.status, facts.error) == (ExecutionStatus.FAILED, {"code": "start.refused", "message": "no"})
    assert await desk.let_in(3) == ["y"]


# --- debounce and collect ------------------------------------------------------------------------------------------


async def test_debounced_starts_become_one_with_what_the_last_one_gave(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "debounce", "wait_us": 10 * SECOND}
    assert await desk.enter("x", 0, **rule, named=named(1, labels=("first",))) == (Entry.QUEUED, "x")
    assert await desk.enter("y", 5, **rule, priority=1, named=named(2, labels=("last",))) == (Entry.JOINED, "x")
    assert await desk.let_in(10) == []
    facts = await desk.facts("x")
    assert (facts.input, facts.labels, facts.created_us) == (2, ["last"], T0)
    [claim] = (await desk.round(15)).claims
    assert (claim.id, claim.input) == ("x", "y")
    assert claim.params["execution"] == {"execution_id": "x", "created_us": us(0), "trace": "trace of x"}
    assert await desk.enter("z", 16, **rule) == (Entry.QUEUED, "z")


async def test_a_debounced_start_waits_no_longer_than_it_may(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "debounce", "wait_us": 10 * SECOND, "at_most_us": 25 * SECOND}
    for n, at in enumerate((0, 9, 18)):
        await desk.enter(f"x{n}", at, **rule)
    assert await desk.let_in(24.9) == []
    assert await desk.let_in(25) == ["x0"]


async def test_starts_with_other_keys_or_of_other_tenants_do_not_join(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "debounce", "wait_us": SECOND}
    made = [
        await desk.enter("x", **rule, gather_key="k"),
        await desk.enter("y", **rule, gather_key="l"),
        await desk.enter("z", **rule, gather_key="k", tenant="b"),
        await desk.enter("u", **rule, gather_key="k", task_id="u"),
    ]
    assert [entry for entry, _ in made] == [Entry.QUEUED] * 4


async def test_gathered_starts_become_one_with_the_list_of_their_inputs(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "collect", "wait_us": 10 * SECOND, "size": 100}
    led_to = [await desk.enter(f"x{n}", n, **rule, input={"n": n}) for n in range(3)]
    assert led_to == [(Entry.QUEUED, "x0"), (Entry.JOINED, "x0"), (Entry.JOINED, "x0")]
    assert await desk.let_in(9.9) == []
    [claim] = (await desk.round(10)).claims
    assert claim.input == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert (await desk.facts("x0")).input == [{"n": 0}, {"n": 1}, {"n": 2}]
    await desk.begin([claim])
    async with desk.store.database.read() as connection:
        assert set((await connection.execute(select(start_requests.c.input))).scalars()) == {""}


async def test_enough_of_them_wait_no_longer_and_the_next_one_is_another_execution(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "collect", "wait_us": 60 * SECOND, "size": 2}
    assert [await desk.enter(f"x{n}", n, **rule) for n in range(3)] == [
        (Entry.QUEUED, "x0"),
        (Entry.JOINED, "x0"),
        (Entry.QUEUED, "x2"),
    ]
    found = await desk.round(1)
    assert [(claim.id, claim.input) for claim in found.claims] == [("x0", ["x0", "x1"])]


async def test_gathered_inputs_have_a_bound(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "collect", "wait_us": 60 * SECOND, "size": 100}
    await desk.enter("x", 0, **rule, input="." * MOST_GATHERED_CHARS)
    assert await desk.enter("y", 1, **rule) == (Entry.QUEUED, "y")


async def test_many_that_are_gathered_at_once_are_all_there(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "collect", "wait_us": SECOND, "size": 10}
    led_to = await asyncio.gather(*(desk.enter(f"x{n:02}", **rule) for n in range(35)))
    assert len({name for _, name in led_to}) == 4
    found = await desk.round(1)
    assert sorted(item for claim in found.claims for item in claim.input) == [f"x{n:02}" for n in range(35)]


async def test_what_joins_while_one_is_let_in_is_in_it_or_in_another_one(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "collect", "wait_us": 0, "size": 1_000}
    await desk.enter("x", **rule)

    async def enter_all() -> None:
        for n in range(30):
            await desk.enter(f"y{n:02}", **rule)

    async def let_in_all() -> list[Claim]:
        claims: list[Claim] = []
        while len([item for claim in claims for item in claim.input]) < 31:
            claims += (await desk.round(1)).claims
        return claims

    _, claims = await asyncio.gather(enter_all(), let_in_all())
    given = [item for claim in claims for item in claim.input]
    assert sorted(given) == ["x", *(f"y{n:02}" for n in range(30))]


async def test_the_same_request_leads_to_the_same_execution_also_if_it_joined_another_one(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "debounce", "wait_us": SECOND, "keyed": True}
    await desk.enter("x", 0, **rule)
    await desk.enter("y", 0.5, **rule)
    await desk.let_in(2)
    assert await desk.enter("y", 3, **rule) == (Entry.KNOWN, "x")
    known = await desk.admission.find_known("y", tenant="a")
    assert known is not None
    assert (known.facts.id, known.fingerprint) == ("x", "asked for y")
    assert await desk.admission.find_known("y", tenant="b") is None


# --- singleton -----------------------------------------------------------------------------------------------------


async def test_a_singleton_that_queues_begins_when_the_other_one_has_ended(desk: Desk) -> None:
    for n in range(3):
        await desk.enter(f"x{n}", n, busy="queue")
    await desk.enter("other", 0, busy="queue", single_key="other", lane="other")
    assert sorted(await desk.let_in(5)) == ["other", "x0"]
    await desk.end("x0")
    await desk.one.release(["x0"])
    assert await desk.let_in(6) == ["x1"]


async def test_a_singleton_that_skips_leads_to_the_execution_that_runs(desk: Desk) -> None:
    rule: dict[str, Any] = {"busy": "skip", "keyed": True}
    assert await desk.enter("x", **rule) == (Entry.QUEUED, "x")
    assert await desk.enter("y", **rule) == (Entry.SKIPPED, "x")
    await desk.let_in()
    assert await desk.enter("z", **rule) == (Entry.SKIPPED, "x")
    await desk.end("x")
    # the end is stored, whether or not its place was given back
    assert await desk.enter("u", **rule) == (Entry.QUEUED, "u")
    assert await desk.enter("z", **rule) == (Entry.KNOWN, "x")


async def test_one_that_is_delayed_is_not_busy(desk: Desk) -> None:
    await desk.enter("x", busy="skip", due_us=us(60))
    assert await desk.enter("y", busy="skip") == (Entry.QUEUED, "y")


async def test_two_that_come_at_once_are_not_both_taken(desk: Desk) -> None:
    found = await asyncio.gather(*(desk.enter(f"x{n}", busy="skip") for n in range(8)))
    assert sorted(entry.value for entry, _ in found) == ["queued"] + ["skipped"] * 7
    assert len({name for _, name in found}) == 1


async def test_a_singleton_that_replaces_ends_those_that_wait_and_cancels_what_runs(desk: Desk) -> None:
    await desk.enter("x", 0, busy="replace")
    assert await desk.let_in(1) == ["x"]
    await desk.enter("y", 2, busy="replace")
    await desk.enter("z", 3, busy="replace")
    found = await desk.round(4)
    assert found.claims == []
    assert [(tenant, name, how.kind, how.reason) for tenant, name, how in found.told] == [
        ("a", "x", "cancel", "the execution z took its place")
    ]
    facts = await desk.facts("y")
    assert (facts.status, facts.verified) == (ExecutionStatus.CANCELLED, True)
    assert facts.error == {"code": "execution.cancelled", "message": "the execution z took its place"}
    await desk.one.told("x", tenant="a", keeps=True)
    assert await desk.let_in(5) == []
    await desk.end("x")
    await desk.one.release(["x"])
    assert await desk.let_in(6) == ["z"]


async def test_of_several_that_replace_each_other_before_any_runs_the_last_one_begins(desk: Desk) -> None:
    for n in range(4):
        await desk.enter(f"x{n}", n, busy="replace")
    assert await desk.let_in(5) == ["x3"]
    assert [(await desk.facts(f"x{n}")).status.value for n in range(3)] == ["cancelled"] * 3
    assert (await desk.round(6)).told == []


# --- ends without a beginning --------------------------------------------------------------------------------------


async def test_one_that_waits_is_cancelled_in_the_store(desk: Desk) -> None:
    await desk.enter("x", due_us=us(60))
    how = Withdrawal("cancel", "not needed", "ada")
    assert await desk.admission.withdraw("x", how, tenant="a", now_us=us(1)) == "ended"
    facts = await desk.facts("x")
    assert (facts.status, facts.settled, facts.verified) == (ExecutionStatus.CANCELLED, True, True)
    assert facts.error == {
        "code": "execution.cancelled",
        "message": "not needed",
        "details": {"actor": "ada"},
    }
    assert await desk.let_in(61) == []
    assert await desk.admission.withdraw("x", how, tenant="a", now_us=us(2)) == ""


async def test_one_that_waits_is_terminated_in_the_store(desk: Desk) -> None:
    await desk.enter("x", due_us=us(60))
    assert await desk.admission.withdraw("x", Withdrawal("terminate"), tenant="a", now_us=us(1)) == "ended"
    facts = await desk.facts("x")
    assert facts.status is ExecutionStatus.FAILED
    assert facts.error == {"code": "execution.terminated", "message": "an operator terminated the execution"}


async def test_another_tenant_cannot_end_it(desk: Desk) -> None:
    await desk.enter("x", due_us=us(60))
    assert await desk.admission.withdraw("x", Withdrawal("cancel"), tenant="b", now_us=us(1)) == ""
    assert await desk.let_in(60) == ["x"]


async def test_one_that_is_being_started_is_told_as_soon_as_it_is(desk: Desk) -> None:
    await desk.enter("x")
    [claim] = (await desk.round()).claims
    how = Withdrawal("cancel", "late")
    assert await desk.admission.withdraw("x", how, tenant="a", now_us=us(2)) == "later"
    assert await desk.begin([claim]) == [("a", "x", how)]
    assert (await desk.one.look()).withdrawn
    await desk.one.told("x", tenant="a", keeps=False)
    assert await desk.rows() == {}


async def test_whoever_takes_over_a_start_knows_that_it_was_taken_back(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.round()
    await desk.admission.withdraw("x", Withdrawal("cancel", "late"), tenant="a", now_us=us(2))
    [claim] = (await desk.round(20, by=desk.two)).claims
    assert claim.withdrawal == Withdrawal("cancel", "late")


async def test_one_whose_deadline_passes_in_the_queue_fails(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.let_in()
    await desk.enter("y", 2, task_limit=1, deadline_us=us(10))
    assert (await desk.one.look()).deadline_us == us(10)
    assert (await desk.round(9.9)).ended == 0
    assert (await desk.round(10)).ended == 1
    facts = await desk.facts("y")
    assert facts.status is ExecutionStatus.FAILED
    assert facts.error == {"code": "limit.time", "message": "its deadline passed before it was let in"}


async def test_a_deadline_that_is_a_duration_counts_from_when_it_is_let_in(desk: Desk) -> None:
    await desk.enter("x", deadline_after_us=5 * SECOND, due_us=us(60))
    await desk.enter("y", deadline_us=us(100), due_us=us(60))
    found = await desk.round(61)
    assert {claim.id: claim.deadline_us for claim in found.claims} == {"x": us(66), "y": us(100)}


async def test_ends_in_the_queue_are_told_like_all_others(desk: Desk) -> None:
    told: list[str] = []
    desk.store.on_closed = lambda ends, news: told.extend(end.execution_id for end in ends if end.execution_id in news)
    for name in ("x", "y", "z"):
        await desk.enter(name, due_us=us(60), deadline_us=us(30) if name == "y" else None)
    await desk.admission.withdraw("x", Withdrawal("cancel"), tenant="a", now_us=us(1))
    await desk.round(31)
    assert told == ["x", "y"]


# --- what others think of them -------------------------------------------------------------------------------------


async def test_the_repair_leaves_alone_what_temporal_never_heard_of(desk: Desk) -> None:
    upkeep = Upkeep(desk.store.database)
    await desk.enter("waits", due_us=us(60))
    await desk.enter("claimed", task_limit=9)
    await desk.round()
    await desk.enter("cancelled", due_us=us(60))
    await desk.admission.withdraw("cancelled", Withdrawal("cancel"), tenant="a", now_us=us(1))
    await desk.store.ensure_execution("plain", tenant="a", task_id="t", task_name="brew", created_us=T0)
    assert [row.id for row in await upkeep.open_rows()] == ["plain"]
    assert await upkeep.settled_rows() == []
    assert await upkeep.ids() == ["plain"]
    assert await desk.store.unverified() == []
    for name in ("waits", "claimed", "cancelled"):
        await upkeep.mark_gone(name, at_us=us(2))
        facts = await desk.facts(name)
        assert (facts.gone_us, facts.status.value) == (None, "cancelled" if name == "cancelled" else "queued")


async def test_the_repair_looks_after_those_that_hold_places(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    await desk.let_in()
    assert [row.id for row in await Upkeep(desk.store.database).open_rows()] == ["x"]


async def test_one_whose_row_was_lost_while_it_waited_has_one_when_it_begins(desk: Desk) -> None:
    await desk.enter("x", task_limit=1)
    async with desk.store.database.write() as connection:
        await connection.execute(executions.delete())
    await desk.let_in()
    assert (await desk.facts("x")).input == "x"


# --- how one stands ------------------------------------------------------------------------------------------------


async def test_it_is_said_what_one_waits_for_and_at_which_place(desk: Desk) -> None:
    for n in range(4):
        await desk.enter(f"x{n}", n, task_limit=1)
    await desk.let_in(5)

    async def read(name: str) -> Any:
        found = await desk.admission.read(name, tenant="a", limits=Limits(), now_us=us(6))
        return found and (found.state, found.blocked, found.limit, found.running, found.place, found.waiting)

    assert await read("x0") is None
    assert await read("x2") == ("waiting", "task", 1, 1, 2, 3)
    assert await desk.admission.read("x2", tenant="b", limits=Limits(), now_us=us(6)) is None


async def test_it_is_said_how_many_have_joined(desk: Desk) -> None:
    rule: dict[str, Any] = {"gathering": "collect", "wait_us": 10 * SECOND, "size": 5}
    for n in range(3):
        await desk.enter(f"x{n}", n, **rule)
    found = await desk.admission.read("x0", tenant="a", limits=Limits(), now_us=us(3))
    assert found is not None
    assert (found.gathering, found.gathered, found.size, found.due_us) == ("collect", 3, 5, us(10))


async def test_a_look_at_an_empty_table_says_that_there_is_nothing(desk: Desk) -> None:
    assert (await desk.one.look()).is_empty
    await desk.enter("x", task_limit=1)
    assert (await desk.one.look()).is_due(us(0))
