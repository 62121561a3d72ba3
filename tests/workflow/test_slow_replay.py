"""A replay that takes too long on a machine with much to do is tried again: nothing is known against the history."""

from __future__ import annotations

import time
from typing import Any

import pytest

import worker
from engine.control.repair import Repair
from engine.control.settling import settle_from_temporal
from tests.support.lab import TENANT, Lab
from workflows.interceptor import Sink, SinkInterceptor

STANDSTILL_S = 2.5
"""More than the SDK lets a replay compute."""


async def test_a_replay_that_only_took_too_long_is_put_off_and_not_given_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab.worker():
        handle = await lab.start("name: one\nmain:\n  - evaluate: 1\n")
        await lab.end_of(handle)
    settled = await settle_from_temporal(lab.client, lab.store, handle.id)
    assert settled is not None
    assert settled.matches
    await lab.store.mark_verified(handle.id, tenant=TENANT, verified=False)
    repair = Repair(lab.client, lab.store, worker.replay_run)

    def slowly(sink: Sink) -> SinkInterceptor:
        def keep(record: tuple[Any, ...], replaying: bool) -> None:
            time.sleep(STANDSTILL_S)
            sink(record, replaying)

        return SinkInterceptor(keep)

    with monkeypatch.context() as machine:
        machine.setattr(worker, "SinkInterceptor", slowly)
        await repair.settle_ended()
        assert [item.id for item in await lab.store.unverified()] == [handle.id]
        assert repair.given_up == {}
        # one that takes too long again and again is left alone for a while
        machine.setattr("engine.control.repair.SLOW_TRIES", 1)
        await repair.settle_ended()
        assert list(repair.given_up) == [handle.id]
    repair.given_up.clear()
    await repair.settle_ended()
    assert await lab.store.unverified() == []
