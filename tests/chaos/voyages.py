"""Many executions of a task that does everything, clients that do not give up, and a look at what came of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine.client.aio import AsyncClient
from engine.client.views import Execution
from engine.control.starting import key_to_execution_id
from engine.core.errors import Conflict, Unavailable
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import body_of
from engine.store.pulses import REPAIR, PulseStore
from tests.support.lab import TENANT, Lab, open_lab
from tests.support.receiver import Receiver
from tests.support.rows import assert_rows_are_those_of_the_histories
from tests.support.stage import Stage

EXAMPLES = Path(__file__).parent / "examples"
HOME, UNDONE, STAYS = "home", "undone", "stays"
UNKNOWN = "effect.outcome_unknown"
PAUSE_S = 0.3

T = TypeVar("T")


@dataclass(slots=True)
class Voyage:
    """One execution.

    Attributes:
        n: Its number.
        way: How it is to end.
        id: Its id, once its start was accepted.
        ended: How it ended, as the API told.
    """

    n: int
    way: str
    id: str = ""
    ended: Execution | None = None

    @property
    def answer(self) -> int:
        """What is answered to it."""
        return 7 * self.n + 1


@dataclass
class Voyages:
    """Clients of one installation.

    Args:
        client: A client of its API.
        receiver_url: Where side effects go.

    Attributes:
        all: The executions.
        asked_again: How often a request was made again because it could not be answered.
        sent: Requests with an answer.
        refusals: Why requests were made again, by code.
        task_id: The task.
    """

    client: AsyncClient
    receiver_url: str
    all: list[Voyage] = field(default_factory=list)
    asked_again: int = 0
    sent: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    task_id: str = ""

    async def prepare(self) -> None:
        """Give the installation the tasks."""
        await self.insist(lambda: self.client.apply(EXAMPLES / "leg.yaml", key="leg"))
        self.task_id = (await self.insist(lambda: self.client.apply(EXAMPLES / "voyage.yaml", key="voyage"))).id

    async def run(self, count: int, *, seed: int, within_s: float) -> None:
        """Start executions over some seconds, answer them, and wait for those that are to end.

        Args:
            count: How many.
            seed: For the moments at which they are started and answered.
            within_s: Over how many seconds they are started.
        """
        chance = random.Random(seed)
        ways = [UNDONE if n % 10 == 8 else STAYS if n % 10 == 9 else HOME for n in range(count)]
        self.all = [Voyage(n, way) for n, way in enumerate(ways)]
        async with asyncio.TaskGroup() as group:
            for voyage in self.all:
                group.create_task(self._sail(voyage, chance.uniform(0, within_s), chance.uniform(0, 2)))

    async def _sail(self, voyage: Voyage, start_s: float, answer_s: float) -> None:
        client = self.client
        await asyncio.sleep(start_s)
        given = {"n": voyage.n, "url": self.receiver_url, "way": voyage.way}
        begun = await self.insist(lambda: client.start("voyage", given, key=f"voyage {voyage.n}"))
        voyage.id = begun.id
        waiting = await self.insist(lambda: client.wait(voyage.id, until_waiting=True, timeout_s=600))
        assert waiting.waits, (voyage, waiting.status, waiting.error)
        if voyage.way == STAYS:
            return
        await asyncio.sleep(answer_s)

        async def answer() -> Execution:
            self.sent += 1
            return await client.answer(voyage.id, voyage.answer, key=f"answer {voyage.n}")

        await self.insist(answer)
        voyage.ended = await self.insist(lambda: client.wait(voyage.id, timeout_s=600))

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again, with the same key, until the answer is another one than "not now"."""
        while True:
            try:
                return await ask()
            except (Unavailable, Conflict) as error:
                # an earlier try of the same request, whose connection was lost, may hold the key for a while
                if isinstance(error, Conflict) and error.code != "idempotency.in_progress":
                    raise
                self.asked_again += 1
                self.refusals[error.code] += 1
                await asyncio.sleep(PAUSE_S)


# --- what came of it -----------------------------------------------------------------------------------------------


@dataclass
class Findings:
    """What was counted.

    Attributes:
        effects: Effects at the receiver, each under a key of its own.
        repeated: Calls that came again under the same key.
        unknown: Calls that must not be made twice of which nobody knows whether they were made.
        answers: Answers that were taken, as the events tell.
        answers_again: Answers that came again under the same key, and changed nothing.
        executions: Executions that were compared row by row, children included.
        ends: How many executions ended how.
    """

    effects: int = 0
    repeated: int = 0
    unknown: int = 0
    answers: int = 0
    answers_again: int = 0
    executions: int = 0
    ends: Counter[str] = field(default_factory=Counter)


def wanted_effects(voyage: Voyage) -> Counter[str]:
    """Return what a voyage does outside, by name; what must not be done twice is left out."""
    wanted = Counter({"order": 1, "part 0": 1, "part 1": 1, "part 2": 1})
    if voyage.way != STAYS:
        wanted["leg"] = 1
    if voyage.way == UNDONE:
        wanted += Counter({"book": 1, "unbook": 1})
    return wanted


def check_ends(voyages: Voyages) -> Counter[str]:
    """Assert that all executions ended, or wait, as they should; return how many ended how."""
    told: Counter[str] = Counter()
    for voyage in voyages.all:
        assert voyage.id == key_to_execution_id(TENANT, voyages.task_id, f"voyage {voyage.n}")
        ended = voyage.ended
        if voyage.way == STAYS:
            assert ended is None
            told["waiting"] += 1
            continue
        assert ended is not None
        told[ended.status.value] += 1
        if voyage.way == UNDONE:
            assert ended.status is ExecutionStatus.FAILED, ended
            assert ended.error is not None
            assert ended.error["message"] == "turned back"
            continue
        assert ended.status is ExecutionStatus.SUCCEEDED, ended.error
        output: Any = ended.output
        assert output.pop("charge") in (200, UNKNOWN)
        n = voyage.n
        assert output == {"n": n, "order": n, "parts": 3, "answer": voyage.answer, "leg": n + 1000}
    assert len({voyage.id for voyage in voyages.all}) == len(voyages.all)
    return told


def check_effects(voyages: Voyages, receiver: Receiver, told: Findings, charged: dict[int, Any]) -> None:
    """Assert that each step has had its effect under one key of its own, and that nothing else came.

    Args:
        voyages: The executions.
        receiver: Where the effects went.
        told: Where they are counted.
        charged: By number, what the step that must not be repeated gave; None = it was not come to.
    """
    seen: dict[int, Counter[str]] = {voyage.n: Counter() for voyage in voyages.all}
    for key, bodies in receiver.by_key.items():
        assert len({str(body) for body in bodies}) == 1, (key, bodies)
        what, n = bodies[0]["what"], bodies[0]["n"]
        seen[n][str(what)] += 1
        told.effects += 1
        told.repeated += len(bodies) - 1
        if what == "charge":
            assert len(bodies) == 1, f"{key} came {len(bodies)} times"
        if what == "order":
            assert len(bodies) >= 2, "the receiver refuses it first"
    for voyage in voyages.all:
        did = seen[voyage.n]
        charges = did.pop("charge", 0)
        assert did == wanted_effects(voyage), voyage
        if charged[voyage.n] == 200:
            assert charges == 1, voyage
        elif charged[voyage.n] == UNKNOWN:
            told.unknown += 1
            assert charges <= 1, voyage
        else:
            assert charged[voyage.n] is None
            assert charges == 0, voyage


async def repaired_all(stage: Stage, lab: Lab, ids: list[str], *, patience_s: float) -> None:
    """Return when the repair has settled, verified and looked over all that there is now.

    It is started anew, since it looks over everything when it begins; later it takes its time for that.

    Raises:
        AssertionError: It does not come to that.
    """
    await stage.repair.stop()
    after_us = time.time_ns() // 1_000
    stage.repair.start()
    deadline = time.monotonic() + patience_s
    pulses = PulseStore(lab.store.database)
    open_ones: list[Any] = []
    while time.monotonic() < deadline:
        open_ones = [*await lab.store.unsettled(limit=10_000), *await lab.store.unverified(limit=10_000)]
        scans = [pulse.info for pulse in await pulses.all() if pulse.kind == REPAIR]
        scanned = any(
            info.get("scanned_us", 0) - info["scan"]["took_s"] * 1e6 > after_us for info in scans if info.get("scan")
        )
        known = [await lab.store.tenant_of(one) for one in ids]
        if not open_ones and scanned and all(known):
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"the repair has not come to an end of {len(open_ones)} executions: {open_ones[:3]}")


async def look_over(stage: Stage, voyages: Voyages, receiver: Receiver, *, patience_s: float = 120) -> Findings:
    """Let the repair end its work, stop the installation and assert that nothing was lost, doubled or told wrongly."""
    told = Findings(ends=check_ends(voyages))
    async with open_lab(stage.temporal.address, stage.folder) as lab:
        ids = [workflow.id async for workflow in lab.client.list_workflows('EverstepTenant = "default"')]
        legs = sum(voyage.way != STAYS for voyage in voyages.all)
        assert len(ids) == len(set(ids)) == len(voyages.all) + legs, "each start and each child is there once"
        assert {voyage.id for voyage in voyages.all} <= set(ids)
        await repaired_all(stage, lab, ids, patience_s=patience_s)
        waiting = await lab.store.open_waits([voyage.id for voyage in voyages.all], tenant=TENANT)
        assert set(waiting) == {voyage.id for voyage in voyages.all if voyage.way == STAYS}
        charged = {voyage.n: await _charged(lab, voyage, told) for voyage in voyages.all}
        await stage.stop()
        check_effects(voyages, receiver, told, charged)
        summary = await assert_rows_are_those_of_the_histories(lab, ids, stage.folder)
        told.executions = summary.executions
    assert stage.left() == []
    return told


async def _charged(lab: Lab, voyage: Voyage, told: Findings) -> Any:
    """Return what the step that must not be repeated gave, as the events tell; and check the answers in passing."""
    events = await lab.store.list_events(voyage.id, tenant=TENANT, limit=1_000_000)
    answers = [body_of(event) for event in events if event.type == "answer.accepted"]
    assert {body["key"] for body in answers} <= {f"answer {voyage.n}"}
    # one that came again is told of and changes nothing
    taken = [body for body in answers if not body.get("repeated")]
    told.answers += len(taken)
    told.answers_again += len(answers) - len(taken)
    assert len(taken) == (voyage.way != STAYS), (voyage, answers)
    for event in events:
        body = body_of(event)
        if event.type == "step" and body.get("label") == "charge":
            return body["output"]["status_code"]
    return None
